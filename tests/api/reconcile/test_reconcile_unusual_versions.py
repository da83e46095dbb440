"""Versions that the API server refuses and versions that cannot be read: what serves goes on."""

import copy

import pytest
from player import Object
from scene import Scene


def test_version_that_the_api_server_refuses(scene: Scene, request: pytest.FixtureRequest):
    """A quota on versions stands in the way of a training, and of nothing else."""
    scene.create()
    scene.serve(1)
    path = f"/api/v1/namespaces/{scene.namespace}/resourcequotas"
    count = "count/modelversions.solera.dev"
    quota = {"metadata": {"name": "versions"}, "spec": {"hard": {count: "0"}}}
    scene.api.ok(scene.api.create(path, quota))
    request.addfinalizer(lambda: scene.api.delete(f"{path}/versions"))
    # The quota controller would fill this in.
    used = {"status": {"hard": {count: "0"}, "used": {count: "0"}}}
    scene.api.ok(scene.api.patch(f"{path}/versions/status", used))

    scene.change(training={"seed": 2}, serving={"replicas": {"min": 2, "max": 4}})
    message = scene.until_stalled("VersionRefused")
    assert "exceeded quota" in message
    assert scene.condition("Available") == ("True", "Serving")
    scene.until("the changed serving", lambda: _least(scene) == 2)
    assert scene.player.names("ModelVersion") == [scene.version(1)]

    scene.api.ok(scene.api.delete(f"{path}/versions"))
    scene.until_job(f"{scene.version(2)}-train", seconds=25)
    assert scene.condition("Stalled") == ("", "")


def _least(scene: Scene) -> int:
    found = scene.player.get("HorizontalPodAutoscaler", scene.version(1))
    return 0 if found is None else int(found["spec"]["minReplicas"])


def test_version_that_cannot_be_read_is_not_absent(scene: Scene):
    """As after an operator was rolled back: another release wrote what this one does not understand."""
    scene.create()
    scene.serve(1)
    champion = scene.champion()
    scene.api.ok(scene.api.create(scene.player.path("ModelVersion"), _strange(scene)))
    message = scene.until_stalled("VersionUnreadable")
    assert scene.version(2) in message
    assert scene.condition("Available") == ("True", "Serving")

    scene.retrain(5)
    scene.until_stalled("VersionUnreadable")
    assert scene.player.names("ModelVersion") == [scene.version(1), scene.version(2)], "nothing is made anew"
    assert scene.champion() == champion

    scene.player.remove("ModelVersion", scene.version(2))
    scene.until("the training", lambda: _trains(scene))
    assert scene.version(1) in scene.player.names("ModelVersion")


def _trains(scene: Scene) -> list[str]:
    return [name for name in scene.player.names("Job") if name.endswith(("-v2-train", "-v3-train"))]


def _strange(scene: Scene) -> Object:
    """A version of the model's own with a search that its schema takes and its types do not."""
    made = scene.player.get("ModelVersion", scene.version(1))
    assert made is not None
    spec = copy.deepcopy(made["spec"]) | {"number": 2, "token": "another"}
    twice = {"method": "Grid", "space": {"C": [1, 1]}}
    spec["training"]["candidates"] = [{**spec["training"]["candidates"][0], "search": twice}]
    labels = {**made["metadata"]["labels"], "solera.dev/version": scene.version(2)}
    metadata = {
        "name": scene.version(2),
        "labels": labels,
        "ownerReferences": made["metadata"]["ownerReferences"],
    }
    return {
        "apiVersion": "solera.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": metadata,
        "spec": spec,
    }
