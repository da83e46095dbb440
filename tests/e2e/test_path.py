"""From a spec to right predictions, for three real data sets of different shape."""

import http.client
import json
import re
import subprocess
from collections.abc import Callable

import pytest
import truth_table
from kube import MANAGED, Kube, Object, Watch, wait_for
from models import SETOSA, SETOSA_TENSORS, VIRGINICA, Model, example, merged, parse_time
from traffic import GATEWAY, GATEWAY_PODS, gateway_service

from solera_cluster import kubectl

pytestmark = pytest.mark.usefixtures("data")

Measured = Callable[[str], None]


def follow(kube: Kube, namespace: str, name: str, spec: Object) -> tuple[Model, list[str]]:
    """Apply, wait until Ready, and hold every status on the way against the truth table."""
    model = Model(kube, namespace, name)
    with Watch(kube, "trainedmodels", namespace) as watch:
        model.apply(spec)
        ready = model.wait_ready()
        version = ready["metadata"]["resourceVersion"]
        wait_for(
            lambda: any(one["metadata"]["resourceVersion"] == version for one in watch.states(name)),
            10,
            "the watch sees what a read sees",
        )
    reasons = truth_table.check(watch.states(name))
    assert reasons[0] == "Unknown Progressing", reasons
    assert reasons[-1] == "True Serving", reasons
    for expected in ("False Training", "False Evaluating"):
        assert expected in reasons, reasons
    return model, reasons


def check_version(model: Model, gates: int) -> Object:
    """Version 1 tells its metrics, its gates and where its artifact is."""
    version = model.version(1)
    status = version["status"]
    assert status["verdict"] == "Accepted"
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", status["artifact"]["digest"])
    assert status["artifact"]["uri"].startswith("s3://solera-artifacts/")
    assert len(status["gates"]) == gates
    assert all(gate["outcome"] == "Passed" for gate in status["gates"])
    for metric in status["metrics"]:
        assert float(metric["lower"]) <= float(metric["value"]) <= float(metric["upper"]), metric
    found = model.status()
    assert found["champion"]["version"] == found["serving"]["version"] == version["metadata"]["name"]
    assert found["champion"]["digest"] == status["artifact"]["digest"]
    assert found["champion"]["revision"] == 1
    return version


def check_children(model: Model) -> None:
    """What stands in the namespace afterwards: complete, owned, restricted, without token."""
    version = f"{model.name}-v1"
    expected = {
        f"modelversions/{version}",
        f"deployments/{version}",
        f"horizontalpodautoscalers/{version}",
        f"poddisruptionbudgets/{version}",
        f"services/{version}",
        f"services/{model.name}",
        f"serviceaccounts/{model.name}",
        f"networkpolicies/{model.name}",
    }
    if "gateway" in model.get()["spec"]["serving"]:
        expected.add(f"httproutes/{model.name}")
    found = model.objects()
    assert expected == {name for name in found if not name.startswith("jobs/")}
    jobs = sorted(name for name in found if name.startswith("jobs/"))
    assert len(jobs) == 2, jobs
    wait_for(
        lambda: all(job["spec"].get("ttlSecondsAfterFinished") for job in model.of_model("jobs")),
        10,
        "every Job has a time to live",
    )
    for name, one in found.items():
        owners = [owner for owner in one["metadata"]["ownerReferences"] if owner.get("controller")]
        assert len(owners) == 1, name
    pods = model.kube.list("pods", model.namespace, f"{MANAGED},solera.dev/model={model.name}")
    assert len(pods) == 3
    for pod in pods:
        check_restricted(pod)


def check_restricted(pod: Object) -> None:
    spec, name = pod["spec"], pod["metadata"]["name"]
    assert spec["automountServiceAccountToken"] is False, name
    assert not any("projected" in volume for volume in spec["volumes"]), name
    assert spec["securityContext"]["runAsNonRoot"] is True, name
    for container in spec.get("initContainers", []) + spec["containers"]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True, name
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["capabilities"]["drop"] == ["ALL"], name


def since_created(model: Model) -> float:
    found = model.get()
    ready = next(c for c in found["status"]["conditions"] if c["type"] == "Ready")
    begun = parse_time(found["metadata"]["creationTimestamp"])
    return (parse_time(ready["lastTransitionTime"]) - begun).total_seconds()


def by_gateway(kube: Kube, hostname: str, path: str, body: Object) -> tuple[int, str, str | None]:
    """A request from this machine through the gateway: status, text, and the version that its header names."""
    command = kubectl.command(
        "port-forward", f"--namespace={GATEWAY_PODS}", f"service/{gateway_service(kube)}", ":80"
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            port = re.search(r"127\.0\.0\.1:(\d+) ->", line)
            assert port, f"no port-forward to the gateway: {line}"
            connection = http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=20)
            connection.request(
                "POST", path, json.dumps(body), {"Host": hostname, "Content-Type": "application/json"}
            )
            response = connection.getresponse()
            text = response.read().decode()
            connection.close()
            return response.status, text, response.headers.get("solera-version")
        finally:
            process.terminate()


def test_iris_from_s3_by_service_and_gateway(kube: Kube, namespace: str, measured: Measured) -> None:
    hostname = f"{namespace}.example.com"
    spec = merged(example("iris-demo"), {"serving": {"gateway": {**GATEWAY, "hostname": hostname}}})
    model, reasons = follow(kube, namespace, "iris", spec)
    version = check_version(model, gates=2)
    assert version["status"]["candidate"]["name"] in {"logistic", "forest"}
    assert version["status"]["rows"]["train"] + version["status"]["rows"]["test"] == 150
    check_children(model)

    assert model.predict(SETOSA, VIRGINICA) == ["setosa", "virginica"]
    answer = model.infer(SETOSA_TENSORS)
    assert answer["model_version"] == "iris-v1"
    assert answer["outputs"][0]["data"] == ["setosa"]
    status = model.status()
    assert status["url"] == f"http://{hostname}"
    assert status["address"]["url"] == f"http://iris.{namespace}.svc"

    path, body = "/v1/models/iris:predict", {"instances": [VIRGINICA]}

    def answered() -> tuple[int, str, str | None] | None:
        answer = by_gateway(kube, hostname, path, body)
        return answer if answer[0] == 200 else None

    _, text, header = wait_for(answered, 30, "the gateway answers")
    assert json.loads(text) == {"predictions": ["virginica"]}
    assert header == "iris-v1"
    measured(f"apply to Ready {since_created(model):.0f} s, by {' > '.join(reasons)}")


def test_penguins_mixed_types_with_missing_values(kube: Kube, namespace: str, measured: Measured) -> None:
    model, _ = follow(kube, namespace, "penguins", example("penguins"))
    version = check_version(model, gates=2)
    assert {metric["name"] for metric in version["status"]["metrics"]} >= {"accuracy", "roc_auc"}
    check_children(model)
    adelie = {"species": "Adelie", "island": "Torgersen", "flipper_length_mm": 181}
    male = {**adelie, "bill_length_mm": 39.1, "bill_depth_mm": 18.7, "body_mass_g": 3750}
    female = {**adelie, "bill_length_mm": 36.7, "bill_depth_mm": None, "body_mass_g": 3100}
    assert model.predict(male, female) == ["male", "female"]
    columns = {"BYTES": ("species", "island"), "FP64": ("bill_length_mm", "bill_depth_mm")}
    columns["INT64"] = ("flipper_length_mm", "body_mass_g")
    tensors = [
        {"name": name, "shape": [1], "datatype": kind, "data": [male[name]]}
        for kind, names in columns.items()
        for name in names
    ]
    assert model.infer(tensors)["outputs"][0]["data"] == ["male"]
    code, answer = model.ask("POST", "/v1/models/penguins:predict", {"instances": [{"island": 7}]})
    assert code == 400, answer
    assert "island" in json.dumps(answer) or "species" in json.dumps(answer), answer
    status = model.status()
    assert status["url"] == status["address"]["url"] == f"http://penguins.{namespace}.svc"
    measured(f"apply to Ready {since_created(model):.0f} s")


def test_diabetes_regression(kube: Kube, namespace: str, measured: Measured) -> None:
    model, _ = follow(kube, namespace, "diabetes", example("diabetes"))
    version = check_version(model, gates=2)
    assert {gate["metric"] for gate in version["status"]["gates"]} == {"r2", "mean_absolute_error"}
    check_children(model)
    status, metadata = model.ask("GET", "/v2/models/diabetes")
    assert status == 200
    names = [column["name"] for column in metadata["inputs"]]
    assert len(names) == 10
    # Body mass index and blood pressure go with the progression, in the data as in the model.
    low, high = (dict.fromkeys(names, 0.0) | {"bmi": sign * 0.1, "bp": sign * 0.1} for sign in (-1, 1))
    first, second = model.predict(low, high)
    assert 25 < first < second < 350
    rows = [{"name": n, "shape": [2], "datatype": "FP64", "data": [low[n], high[n]]} for n in names]
    assert model.infer(rows)["outputs"][0]["data"] == pytest.approx([first, second])
    measured(f"apply to Ready {since_created(model):.0f} s")
