"""Everything that is shipped or built, checked by a real API server: strict fields, its own validation."""

import copy

import manifest_objects as manifests
import pytest
from api_server import Api

OVERLAYS = ("overlays/namespaced", "overlays/cluster-wide", "overlays/local", "policies", "samples")
MODELS = {
    "full": lambda: manifests.owned.all_objects(manifests.owned.trained_model()),
    "bare": lambda: manifests.owned.all_objects(
        manifests.owned.trained_model(manifests.owned.BARE_SPEC, name="iris"),
        manifests.owned.BARE_SETTINGS,
        number=1,
    ),
}
# Routes need Gateway API, which the shared server lacks: see test_manifests_routes.py.
BUILT = [(size, what) for size, objects in MODELS.items() for what in objects() if what != "http-route"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_is_accepted(api: Api, namespace, overlay):
    objects = manifests.kustomize(manifests.MANIFESTS / overlay)
    assert objects
    for obj in objects:
        path = manifests.path_of(obj, namespace)
        api.ok(api.apply(path, manifests.moved(obj, namespace), dry_run=True))


@pytest.mark.parametrize(("size", "what"), BUILT)
def test_built_object_is_accepted(api: Api, namespace, size, what):
    obj = manifests.moved(MODELS[size]()[what], namespace)
    created = api.ok(api.create(manifests.collection(obj, namespace), obj, dry_run=True))
    assert created["metadata"]["name"] == obj["metadata"]["name"]


@pytest.fixture
def restricted(api: Api, namespace):
    """A namespace that enforces Pod Security "restricted", with the accounts that pods name."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.ok(api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": labels}}))
    for name in ("default", "adult", "iris", "adult-training"):
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        api.ok(api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", account))
    return namespace


def pod(spec, namespace):
    """A pod of a template's spec; without its priority class, which is an object of the cluster."""
    spec = {key: value for key, value in spec.items() if key != "priorityClassName"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": namespace},
        "spec": spec,
    }


def templates():
    for size, objects in MODELS.items():
        for what, spec in manifests.owned.pod_specs(objects()).items():
            yield f"{size} {what}", spec
    for obj in manifests.kustomize(manifests.MANIFESTS / "base"):
        if obj["kind"] == "Deployment":
            yield "operator", {**obj["spec"]["template"]["spec"], "serviceAccountName": "default"}


def test_every_pod_is_admitted_where_restricted_is_enforced(api: Api, restricted):
    found = dict(templates())
    assert len(found) == 11
    for what, spec in found.items():
        answer = api.create(f"/api/v1/namespaces/{restricted}/pods", pod(spec, restricted), dry_run=True)
        assert answer.is_success, f"{what}: {answer.text}"


def test_a_pod_that_asks_for_more_is_not_admitted(api: Api, restricted):
    spec = copy.deepcopy(dict(templates())["full deployment"])
    spec["containers"][0]["securityContext"].pop("capabilities")
    answer = api.create(f"/api/v1/namespaces/{restricted}/pods", pod(spec, restricted), dry_run=True)
    assert answer.status_code == 403
    assert "violates PodSecurity" in answer.text


def test_unknown_fields_are_errors_here(api: Api, namespace):
    service = manifests.moved(MODELS["bare"]()["stable-service"], namespace)
    service["spec"] = {**service["spec"], "notAField": 1}
    answer = api.create(manifests.collection(service, namespace), service, dry_run=True)
    assert answer.status_code == 400
    assert "notAField" in answer.text


def test_applying_again_changes_nothing(api: Api, namespace):
    """What the API server makes of our objects (defaults, normal forms) does not fight with what we send."""
    for what, obj in MODELS["full"]().items():
        if obj["kind"] in {"HTTPRoute", "ModelVersion", "Job"}:
            continue  # Jobs and ModelVersions are created once
        path, sent = manifests.path_of(obj, namespace), manifests.moved(obj, namespace)
        first = api.ok(api.apply(path, sent, manager="solera"))
        second = api.ok(api.apply(path, sent, manager="solera"))
        assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"], what
