"""What the API server says about the CRDs and about right and wrong manifests."""

import subprocess

import api_server
import manifest_tables as tables
import pytest
import yaml
from api_server import GROUP, Api

PLURAL = {"TrainedModel": "trainedmodels", "ModelVersion": "modelversions"}
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def path_of(manifest, namespace, *, name=False):
    path = f"{GROUP}/namespaces/{namespace}/{PLURAL[manifest['kind']]}"
    return f"{path}/{manifest['metadata']['name']}" if name else path


def causes(response):
    """Return (field, message) of everything that the API server found."""
    status = response.json()
    listed = status.get("details", {}).get("causes", [])
    return [(cause.get("field", ""), cause.get("message", "")) for cause in listed] or [
        ("", status["message"])
    ]


def assert_refused(response, case):
    assert response.status_code in {400, 422}, f"accepted: {response.status_code} {response.text}"
    found = causes(response)
    if case.message == "unknown field":  # told while decoding, without causes
        assert f'unknown field "{case.field}"' in found[0][1], found
        return
    assert any(field == case.field and case.message in message for field, message in found), (
        f"expected {case.field}: {case.message}\nfound:\n"
        + "\n".join(f"{field}: {text}" for field, text in found)
    )


@pytest.mark.parametrize("file", api_server.CRDS, ids=lambda path: path.stem)
def test_crds_are_established_and_structural(api: Api, file):
    crd = yaml.safe_load(file.read_text())
    path = f"{CRDS}/{crd['metadata']['name']}"
    assert api.apply(path, crd, dry_run=True).is_success
    conditions = {item["type"]: item for item in api.ok(api.get(path))["status"]["conditions"]}
    assert conditions["Established"]["status"] == "True"
    assert conditions["NamesAccepted"]["status"] == "True"
    assert "NonStructuralSchema" not in conditions


@pytest.mark.parametrize("case", tables.wrong(), ids=lambda case: case.name)
def test_wrong_manifest_is_refused_with_words_that_help(api: Api, case):
    assert_refused(api.create(path_of(case.manifest, "default"), case.manifest, dry_run=True), case)


@pytest.mark.parametrize("name", tables.valid())
def test_valid_manifest_is_accepted(api: Api, name):
    manifest = tables.valid()[name]
    manifest["metadata"].pop("namespace", None)
    response = api.create(path_of(manifest, "default"), manifest, dry_run=True)
    assert response.is_success, causes(response)
    assert "warning" not in response.headers


@pytest.mark.parametrize("case", tables.stalled(), ids=lambda case: case.name)
def test_cel_cannot_see_what_the_operator_tells_by_stalled(api: Api, case):
    """If CEL could see it one day, the manifest belongs into `wrong/`."""
    assert api.create(path_of(case.manifest, "default"), case.manifest, dry_run=True).is_success


@pytest.mark.parametrize("case", tables.changes(), ids=lambda case: case.name)
def test_change_of_what_never_changes_is_refused(api: Api, namespace, case):
    api.ok(api.create(path_of(case.base, namespace), case.base))
    changed = {key: value for key, value in case.manifest.items() if key != "status"}
    assert_refused(api.apply(path_of(changed, namespace, name=True), changed), case)


def test_defaults_are_those_of_the_types(api: Api, namespace):
    manifest = tables.valid()["valid/smallest"]
    stored = api.ok(api.create(path_of(manifest, namespace), manifest))
    assert stored["spec"] == {
        "task": "Regression",
        "training": {
            "data": {
                "uri": "sklearn://diabetes",
                "target": "target",
                "split": {"testPercent": 20, "seed": 0},
            },
            "candidates": [{"name": "ridge", "estimator": "sklearn.linear_model.Ridge"}],
            "validation": {"folds": 5},
            "seed": 0,
            "deadline": "1h",
            "retries": 2,
        },
        "serving": {"replicas": {"min": 1}, "rollbackWindow": "10m"},
        "versionHistoryLimit": 10,
    }
    assert "status" not in stored


def test_values_of_parameters_are_kept_as_they_are(api: Api, namespace):
    manifest = tables.valid()["valid/everything"]
    params = {"a": None, "b": "1.0", "c": 1, "d": 0.5, "e": True, "f": [1, None, "x"], "g": 1.0}
    manifest["spec"]["training"]["candidates"][0]["params"] = params
    stored = api.ok(api.create(path_of(manifest, namespace), manifest))
    assert stored["spec"]["training"]["candidates"][0]["params"] == params
    assert isinstance(stored["spec"]["training"]["candidates"][0]["params"]["g"], int), "1.0 is stored as 1"


def test_apply_that_changes_nothing_writes_nothing(api: Api, namespace):
    manifest = tables.valid()["valid/everything"]
    path = path_of(manifest, namespace, name=True)
    first = api.ok(api.apply(path, manifest))
    again = api.ok(api.apply(path, manifest))
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert again["metadata"]["generation"] == 1


def test_items_of_lists_are_merged_by_name(api: Api, namespace):
    """Two managers may each own a candidate: the list is a map by name."""
    manifest = tables.base("classification")
    path = path_of(manifest, namespace, name=True)
    api.ok(api.apply(path, manifest, manager="one"))
    other = {
        "apiVersion": manifest["apiVersion"],
        "kind": "TrainedModel",
        "metadata": manifest["metadata"],
        "spec": {"training": {"candidates": [{"name": "svc", "estimator": "sklearn.svm.SVC"}]}},
    }
    stored = api.ok(api.apply(path, other, manager="two"))
    assert [item["name"] for item in stored["spec"]["training"]["candidates"]] == ["forest", "svc"]


def test_status_is_written_apart_from_the_spec(api: Api, namespace):
    manifest = tables.base("classification")
    created = api.ok(api.create(path_of(manifest, namespace), manifest | {"status": {"url": "http://x"}}))
    assert "status" not in created
    path = path_of(manifest, namespace, name=True)
    written = api.ok(
        api.patch(f"{path}/status", {"status": {"url": "http://x"}, "spec": {"task": "Regression"}})
    )
    assert written["status"] == {"url": "http://x"}
    assert written["spec"]["task"] == "Classification"
    assert written["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("status", "field"),
    [
        ({"champion": {"version": "iris-v1"}}, "status.champion.digest"),
        ({"conditions": [{"type": "Ready", "status": "Yes"}]}, "status.conditions[0].status"),
        ({"observedGeneration": -1}, "status.observedGeneration"),
        ({"lastVersion": {"number": 0, "token": "x", "name": "iris-v1"}}, "status.lastVersion.number"),
    ],
)
def test_status_is_checked_as_well(api: Api, namespace, status, field):
    manifest = tables.base("classification")
    api.ok(api.create(path_of(manifest, namespace), manifest))
    answer = api.patch(f"{path_of(manifest, namespace, name=True)}/status", {"status": status})
    assert answer.status_code == 422
    assert field in [name for name, _ in causes(answer)]


def test_columns_short_names_and_category_as_kubectl_shows_them(api: Api, api_kubeconfig, namespace):
    manifest, version = tables.base("classification"), tables.base("modelversion")
    condition = {
        "type": "Ready", "status": "False", "reason": "GateFailed", "message": "accuracy too low",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }  # fmt: skip
    digest = "sha256:" + "0" * 64
    status = {
        "conditions": [condition],
        "url": "http://iris.example.com",
        "champion": {
            "version": "iris-v5", "digest": digest, "revision": 2, "since": "2026-01-02T03:04:05Z",
            "reason": "Promoted",
        },
        "serving": {"version": "iris-v4", "digest": digest, "replicas": 3, "readyReplicas": 2},
    }  # fmt: skip
    for item in (manifest, version):
        api.ok(api.create(path_of(item, namespace), item))
    api.ok(api.patch(f"{path_of(manifest, namespace, name=True)}/status", {"status": status}))
    shown = table(api, f"{GROUP}/namespaces/{namespace}/trainedmodels")
    assert {key: shown[key] for key in shown if key not in {"Age", "Name"}} == {
        "Ready": "False",
        "Reason": "GateFailed",
        "Champion": "iris-v5",
        "Serving": "iris-v4",
        "Pods": 2,
        "Task": "Classification",
        "URL": "http://iris.example.com",
        "Message": "accuracy too low",
    }
    shown = table(api, f"{GROUP}/namespaces/{namespace}/modelversions")
    assert (shown["Name"], shown["Model"], shown["Made"]) == ("iris-v6", "iris", "SpecChanged")
    names = {item["name"]: item for item in api.ok(api.get(GROUP))["resources"]}
    assert names["trainedmodels"]["shortNames"] == ["tmd"]
    assert names["modelversions"]["shortNames"] == ["mv"]
    assert names["trainedmodels"]["categories"] == names["modelversions"]["categories"] == ["solera"]


def table(api: Api, path: str) -> dict:
    """Return the only row of what `kubectl get -o wide` would print."""
    accept = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    answer = api.ok(api.http.get(path, headers=accept))
    (row,) = answer["rows"]
    return dict(zip([column["name"] for column in answer["columnDefinitions"]], row["cells"], strict=True))


def test_explain_describes_fields(api: Api):
    """`kubectl explain` reads the descriptions from here."""
    schemas = api.ok(api.get(f"/openapi/v3{GROUP}"))["components"]["schemas"]
    spec = schemas["dev.solera.v1alpha1.TrainedModel"]["properties"]["spec"]
    assert "held-out rows" in spec["properties"]["gates"]["description"]


def test_largest_allowed_manifest_is_within_the_cost_limit(api: Api):
    """The estimate at CRD creation is one thing, the cost at run time another: fill every list that rules walk."""
    manifest = tables.base("classification")
    training = manifest["spec"]["training"]
    columns = [f"column {index:03d} {'x' * 100}" for index in range(512)]
    training["data"]["columns"] = [{"name": name, "type": "Float"} for name in columns]
    training["data"]["split"] = {"method": "Group", "column": "g" * 128}
    scaler = {"transformer": "sklearn.preprocessing.StandardScaler"}
    training["preprocessing"] = [
        {"columns": columns[start : start + 32], "steps": [scaler] * 8} for start in range(0, 512, 32)
    ]
    training["candidates"] = [
        {"name": f"c{index}", "estimator": "sklearn.ensemble.RandomForestClassifier"} for index in range(16)
    ]
    training["pod"] = {
        "resources": {
            "requests": {f"example.com/{key}": "1" for key in "abcdef"},
            "limits": {f"example.com/{key}": "2" for key in "abcdef"},
        },
        "nodeSelector": {f"example.com/{index}": "x" * 63 for index in range(16)},
        "tolerations": [{"key": "k" * 300, "operator": "Equal", "value": "v"}] * 16,
    }
    manifest["spec"]["gates"] = [{"metric": "accuracy", "min": "0.1", "max": "0.9"}] * 32
    answer = api.create(path_of(manifest, "default"), manifest, dry_run=True)
    assert answer.is_success, causes(answer)


def test_kubectl_refuses_unknown_fields_by_itself(api: Api, api_kubeconfig, namespace, tmp_path):
    manifest = tables.merged(tables.base("classification"), {"spec": {"trainin": {}}})
    file = tmp_path / "model.yaml"
    file.write_text(yaml.safe_dump(manifest))
    (kubectl, *_) = sorted((api_server.STATE / "bin").glob("*/kubectl"))
    done = subprocess.run(
        [kubectl, f"--kubeconfig={api_kubeconfig}", f"--namespace={namespace}", "apply", "-f", file],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert 'unknown field "spec.trainin"' in done.stderr
