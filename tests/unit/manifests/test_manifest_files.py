"""The manifests as files: hardening of the operator's own pod, rights without excess, images that are put in."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
MANIFESTS = CHECKOUT / "manifests"


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = loaded
    spec.loader.exec_module(loaded)
    return loaded


render = module(MANIFESTS / "render.py")
pod_security = module(CHECKOUT / "tests" / "unit" / "resources" / "pod_security.py")

IMAGES = {
    "operator": "localhost/solera-operator:aaa",
    "trainer": "localhost/solera-trainer:bbb",
    "server": "localhost/solera-server:ccc",
}


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def objects():
    for path in sorted(MANIFESTS.rglob("*.yaml")):
        if path.name not in {"kustomization.yaml", "settings.yaml"}:
            for document in documents(path):
                yield f"{path.relative_to(MANIFESTS)}: {document['kind']}", document


OBJECTS = dict(objects())
OPERATOR = OBJECTS["base/deployment.yaml: Deployment"]


def test_the_operators_pod_is_restricted():
    pod = OPERATOR["spec"]["template"]["spec"]
    assert pod_security.violations(pod) == []
    [container] = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["limits"]["memory"]


def test_the_operators_namespace_enforces_restricted():
    labels = OBJECTS["base/namespace.yaml: Namespace"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_one_replica_stands_by_and_a_drain_takes_one():
    assert OPERATOR["spec"]["replicas"] == 2
    budget = OBJECTS["base/disruption-budget.yaml: PodDisruptionBudget"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert (
        budget["selector"]["matchLabels"].items()
        <= OPERATOR["spec"]["template"]["metadata"]["labels"].items()
    )


def rules():
    for where, document in OBJECTS.items():
        if document["kind"] in {"Role", "ClusterRole"}:
            for rule in document["rules"]:
                yield where, rule


@pytest.mark.parametrize(("where", "rule"), list(rules()), ids=lambda value: str(value)[:60])
def test_no_right_is_without_bounds_or_leads_to_more_rights(where, rule):
    assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
    assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
    forbidden = {"secrets", "pods/exec", "pods/log", "pods/attach", "roles", "rolebindings", "clusterroles"}
    assert not forbidden & set(rule["resources"])
    assert not any(resource.endswith("/finalizers") for resource in rule["resources"])


def test_settings_name_the_key_that_the_lease_has():
    role = OBJECTS["base/leadership.yaml: Role"]
    assert [rule.get("resourceNames") for rule in role["rules"]] == [None, ["solera-operator"]]


def test_every_file_is_used_by_a_kustomization():
    named = set()
    for path in MANIFESTS.rglob("kustomization.yaml"):
        [kustomization] = documents(path)
        files = kustomization.get("resources", [])
        files += [f for g in kustomization.get("configMapGenerator", []) for f in g["files"]]
        named |= {(path.parent / entry).resolve() for entry in files}
    used = named | {
        (MANIFESTS / "overlays" / name).resolve() for name in ("local", "monitoring", "namespaced")
    }
    unused = [
        str(path.relative_to(MANIFESTS))
        for path in MANIFESTS.rglob("*.yaml")
        if path.resolve() not in used and path.name != "kustomization.yaml"
    ]
    assert unused == []


def test_every_generated_crd_is_installed():
    [kustomization] = documents(CHECKOUT / "crds" / "kustomization.yaml")
    assert kustomization["resources"] == sorted(
        path.name for path in (CHECKOUT / "crds").glob("*.yaml") if path.name != "kustomization.yaml"
    )


def test_alerts_use_metrics_that_the_programs_have():
    sources = [*(CHECKOUT / "operator").rglob("*.py"), *(CHECKOUT / "model_server").rglob("*.py")]
    code = "\n".join(path.read_text() for path in sources)
    used = set(re.findall(r"solera_[a-z_]+", (MANIFESTS / "overlays/monitoring/alerts.yaml").read_text()))
    assert used
    for metric in used:
        # The client library adds these endings.
        name = re.sub(r"_(total|count|bucket)$", "", metric)
        assert f'"{name}"' in code or f'"{metric}"' in code, metric


class TestRender:
    def test_settings_get_the_built_images(self):
        text = render.with_images((MANIFESTS / "overlays/local/settings.yaml").read_text(), IMAGES)
        [runtime] = yaml.safe_load(text)["runtimes"]
        assert runtime["trainerImage"] == IMAGES["trainer"]
        assert runtime["serverImage"] == IMAGES["server"]

    def test_settings_without_the_image_are_refused(self):
        with pytest.raises(render.RenderError, match="trainerImage: localhost/solera-trainer` 0 times"):
            render.with_images("runtimes: []", IMAGES)

    @pytest.mark.parametrize(
        ("reference", "entry"),
        [
            ("localhost/op:1", {"newName": "localhost/op", "newTag": "1"}),
            ("host:5000/op", {"newName": "host:5000/op"}),
            ("host:5000/op:2", {"newName": "host:5000/op", "newTag": "2"}),
            ("host/op@sha256:abc", {"newName": "host/op", "digest": "sha256:abc"}),
        ],
    )
    def test_image_references(self, reference, entry):
        assert render.image_override(reference) == {"name": "localhost/solera-operator", **entry}

    def test_an_unknown_overlay_is_answered_with_the_known_ones(self, tmp_path):
        with pytest.raises(
            render.RenderError, match="write one of: cluster-wide, local, monitoring, namespaced"
        ):
            render.generate("lokal", IMAGES, tmp_path)

    def test_images_that_are_missing_are_named(self, tmp_path):
        file = tmp_path / "tags.json"
        file.write_text(json.dumps({"operator": "x"}))
        with pytest.raises(render.RenderError, match="missing: trainer, server"):
            render.read_images(file)

    def test_a_command_that_cannot_be_run_is_named(self, tmp_path):
        with pytest.raises(render.RenderError, match="no-such-kubectl cannot be run"):
            render.render("local", IMAGES, tmp_path, kubectl="no-such-kubectl")
