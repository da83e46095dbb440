"""A name that somebody else uses: said in status, nothing of theirs is touched, and its end mends it."""

import copy
from collections.abc import Callable

import pytest
from player import Object
from scene import Scene

SOON = 10.0


def _foreign(scene: Scene, kind: str, name: str, spec: Object) -> Object:
    api = {"Service": "v1", "ServiceAccount": "v1", "Deployment": "apps/v1", "Job": "batch/v1"}
    manifest = {
        "apiVersion": api.get(kind, "solera.dev/v1alpha1"),
        "kind": kind,
        "metadata": {"name": name, "labels": {"app": "theirs"}},
        **spec,
    }
    made: Object = scene.api.ok(scene.api.create(scene.player.path(kind), manifest))
    return made


def _untouched(scene: Scene, kind: str, made: Object) -> bool:
    found = scene.player.get(kind, made["metadata"]["name"])
    return found is not None and found["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


POD = {
    "metadata": {"labels": {"app": "theirs"}},
    "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "localhost/theirs"}]},
}


def _service(scene: Scene, name: str) -> Object:
    return _foreign(
        scene, "Service", name, {"spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80}]}}
    )


def test_service_of_the_models_name_is_refused_before_anything_is_trained(scene: Scene):
    made = _service(scene, scene.name)
    scene.create()
    message = scene.until_stalled("NameConflict")
    assert f"Service {scene.namespace}/{scene.name}" in message
    assert "remove it" in message
    assert scene.player.names("ModelVersion") == []
    assert _untouched(scene, "Service", made)
    scene.player.remove("Service", scene.name)
    scene.until_job(f"{scene.version(1)}-train", SOON)
    scene.serve(1)


def test_service_that_came_while_the_model_was_trained(scene: Scene):
    scene.create()
    scene.train(1)
    job = scene.until_evaluation(1)
    made = _service(scene, scene.name)
    scene.evaluate(1)
    scene.until_stalled("NameConflict")
    assert _untouched(scene, "Service", made)
    assert job["metadata"]["name"] in scene.player.names("Job")
    scene.player.remove("Service", scene.name)
    scene.until("the Service", lambda: scene.target() == scene.version(1), SOON)
    scene.bring_up(1)
    scene.until_condition("Ready", "True", "Serving")


def test_deployment_of_a_versions_name(scene: Scene):
    template = copy.deepcopy(POD)
    template["spec"]["restartPolicy"] = "Always"
    spec = {"spec": {"selector": {"matchLabels": {"app": "theirs"}}, "template": template}}
    made = _foreign(scene, "Deployment", scene.version(1), spec)
    scene.create()
    scene.train(1)
    scene.evaluate(1)
    message = scene.until_stalled("NameConflict")
    assert f"Deployment {scene.namespace}/{scene.version(1)}" in message
    assert _untouched(scene, "Deployment", made)
    scene.player.remove("Deployment", scene.version(1))
    scene.until("our Deployment", lambda: scene.player.names("Deployment") == [scene.version(1)], SOON)
    scene.bring_up(1)
    scene.until_condition("Ready", "True", "Serving")


def test_foreign_service_of_an_old_versions_name_outlives_that_version(scene: Scene):
    scene.create()
    scene.serve(1)
    scene.player.remove("Service", scene.version(1))
    made = None
    while made is None:  # the operator is quick to put its own back
        answer = scene.api.create(
            scene.player.path("Service"),
            {
                "metadata": {"name": scene.version(1)},
                "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80}]},
            },
        )
        made = answer.json() if answer.is_success else None
        if made is None:
            scene.player.remove("Service", scene.version(1))
    scene.until_stalled("NameConflict")
    scene.retrain(2)
    scene.serve(2)
    scene.until("the old servers to go", lambda: scene.player.names("Deployment") == [scene.version(2)])
    assert _untouched(scene, "Service", made)
    scene.player.remove("Service", scene.version(1))


@pytest.mark.parametrize(
    "name",
    [lambda scene: f"{scene.version(1)}-train", lambda scene: scene.version(1)],
    ids=["Job", "ModelVersion"],
)
def test_job_or_version_of_a_name_that_is_needed(scene: Scene, name: Callable[[Scene], str]):
    taken = name(scene)
    kind = "Job" if taken.endswith("-train") else "ModelVersion"
    made = _foreign(
        scene, kind, taken, {"spec": {"template": POD} if kind == "Job" else _version_spec(scene)}
    )
    scene.create()
    message = scene.until_stalled("NameConflict")
    assert taken in message
    scene.holds("theirs is untouched", lambda: _untouched(scene, kind, made), 2)
    assert scene.player.names("Job") == [], "no training for a version that Solera did not make"
    scene.player.remove(kind, taken)
    scene.until("our training", lambda: scene.player.names("Job") == [f"{scene.version(1)}-train"], SOON)
    scene.serve(1)


def _version_spec(scene: Scene) -> Object:
    return {
        "modelName": scene.name,
        "number": 1,
        "token": "theirs",
        "reason": "Created",
        "task": "Classification",
        "training": {
            "data": {"uri": "sklearn://iris", "target": "species"},
            "candidates": [{"name": "a", "estimator": "sklearn.dummy.DummyClassifier"}],
        },
        "salt": "0" * 64,
        "runtime": {
            "name": "sklearn-1.9",
            "sklearnVersion": "1.9.1",
            "trainerImage": "localhost/theirs",
            "serverImage": "localhost/theirs",
        },
        "store": {"uri": "s3://theirs"},
    }


def test_account_of_the_models_name(scene: Scene):
    made = _foreign(scene, "ServiceAccount", scene.name, {})
    scene.create()
    scene.train(1)
    scene.evaluate(1)
    scene.until_stalled("NameConflict")
    assert _untouched(scene, "ServiceAccount", made)
    scene.player.remove("ServiceAccount", scene.name)
    scene.bring_up(1)
    scene.until_condition("Ready", "True", "Serving")
