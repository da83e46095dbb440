"""A changed training makes a new version; traffic moves when it is ready; numbers are never used again."""

import time

from api_server import connect
from recorder import Recorder
from scene import FOREST, Scene


def test_changed_training_makes_version_two_while_the_old_one_serves(scene: Scene, api_kubeconfig):
    v1, v2 = scene.version(1), scene.version(2)
    scene.create(serving={"rollbackWindow": "10m"})
    scene.serve(1)
    path = scene.player.path("Service")
    with connect(api_kubeconfig) as http, Recorder(http, path, scene.name) as service:
        scene.retrain(2)
        scene.until_job(f"{v2}-train")
        scene.until_condition("Ready", "False", "Training")
        assert scene.condition("Available") == ("True", "Serving")
        assert scene.condition("Reconciling") == ("True", "Training")
        assert scene.status["lastVersion"]["number"] == 2
        assert scene.status["candidate"]["version"] == v2
        version = scene.player.get("ModelVersion", v2)
        assert version is not None
        assert version["spec"]["reason"] == "SpecChanged"

        scene.train(2)
        scene.evaluate(2)
        scene.until("champion", lambda: scene.champion() == (v2, 2, "GatesPassed"))
        scene.until("Deployment", lambda: scene.player.get("Deployment", v2))
        scene.until_condition("Ready", "False", "Progressing")
        assert scene.target() == v1
        assert scene.status["serving"]["version"] == v1
        assert service.states == [], "the stable Service was not touched before the new servers were ready"

        scene.bring_up(2)
        scene.until_condition("Ready", "True", "Serving")
    assert scene.target() == v2
    assert scene.status["serving"]["version"] == v2
    assert scene.status["previous"]["version"] == v1
    assert "candidate" not in scene.status
    assert scene.player.names("Deployment") == [v1, v2], "the way back stays open"


def test_old_servers_go_after_the_rollback_window(scene: Scene):
    v1, v2 = scene.version(1), scene.version(2)
    scene.create(serving={"rollbackWindow": "4s"})
    scene.serve(1)
    scene.retrain(2)
    scene.serve(2)
    turned = time.monotonic()
    assert scene.player.names("Deployment") == [v1, v2]
    scene.until("the old servers to go", lambda: scene.player.names("Deployment") == [v2])
    assert time.monotonic() - turned > 2
    assert scene.player.names("HorizontalPodAutoscaler") == [v2]
    assert scene.player.names("PodDisruptionBudget") == [v2]
    assert scene.player.names("Service") == [scene.name, v2]
    assert scene.player.names("ModelVersion") == [v1, v2]
    scene.until("no previous version in status", lambda: "previous" not in scene.status)
    assert scene.condition("Ready") == ("True", "Serving")


def test_new_version_is_brought_to_the_size_of_the_old_one(scene: Scene):
    v1, v2 = scene.version(1), scene.version(2)
    scene.create(serving={"rollbackWindow": "10m", "replicas": {"min": 1, "max": 8}})
    scene.serve(1)
    scene.player.scale(v1, 3)
    scene.player.roll(v1, 3)
    scene.until("three replicas in status", lambda: scene.status["serving"].get("readyReplicas") == 3)
    scene.retrain(2)
    scene.train(2)
    scene.evaluate(2)
    assert scene.until("the floor", lambda: _least(scene, v2)) == 3
    scene.bring_up(2, ready=2)
    scene.until("two of three in the message", lambda: scene.condition("Ready") == ("False", "Progressing"))
    scene.holds("traffic stays while one replica is missing", lambda: scene.target() == v1, 1)
    scene.bring_up(2, ready=3)
    scene.until("traffic to turn", lambda: scene.target() == v2)
    scene.until("v2 in status", lambda: scene.status["serving"]["version"] == v2)
    assert _least(scene, v2) == 3, "what its autoscaler remembers is idleness: the floor stays for a while"

    # Time passes.
    long_ago = {"status": {"serving": {"since": "2026-01-01T00:00:00Z"}}}
    scene.api.ok(scene.api.patch(scene.player.path("TrainedModel", scene.name, "status"), long_ago))
    scene.until("the spec's own floor", lambda: _least(scene, v2) == 1)


def _least(scene: Scene, name: str) -> int | None:
    found = scene.player.get("HorizontalPodAutoscaler", name)
    return None if found is None else found["spec"]["minReplicas"]


def test_changed_serving_rolls_the_servers_and_trains_nothing(scene: Scene):
    scene.create()
    scene.serve(1)
    v1 = scene.version(1)
    jobs = scene.player.names("Job")
    resources = {"requests": {"cpu": "300m", "memory": "300Mi"}}
    scene.change(serving={"pod": {"resources": resources}, "replicas": {"min": 2, "max": 4}})

    def rolled() -> bool:
        found = scene.player.get("Deployment", v1)
        assert found is not None
        return found["spec"]["template"]["spec"]["containers"][0]["resources"] == resources

    scene.until("the new resources", rolled)
    assert _least(scene, v1) == 2
    scene.until_condition("Ready", "False", "Progressing")
    assert scene.condition("Available") == ("True", "Serving")
    scene.player.scale(v1, 2)
    scene.player.roll(v1, 2, updated=1, total=3)
    scene.holds("not Ready with an old pod", lambda: scene.condition("Ready")[0] == "False", 0.5)
    scene.player.roll(v1, 2)
    scene.until_condition("Ready", "True", "Serving")
    assert scene.player.names("Job") == jobs
    assert scene.player.names("ModelVersion") == [v1]
    assert scene.champion() == (v1, 1, "FirstVersion")


def test_reverted_training_finds_its_version_again(scene: Scene):
    v1 = scene.version(1)
    scene.create()
    scene.serve(1)
    scene.retrain(2)
    scene.serve(2)
    scene.retrain(0)
    scene.until("the old champion", lambda: scene.champion() == (v1, 3, "SpecReverted"))
    scene.bring_up(1)
    scene.until_condition("Ready", "True", "Serving")
    assert scene.target() == v1
    assert scene.player.names("ModelVersion") == [v1, scene.version(2)]
    trains = [name for name in scene.player.names("Job") if name.endswith("-train")]
    assert trains == [f"{v1}-train", f"{scene.version(2)}-train"]
    assert scene.status["lastVersion"]["number"] == 2


def test_changes_of_mind_during_a_training_settle_on_the_last(scene: Scene):
    scene.create()
    scene.until_job(f"{scene.version(1)}-train")
    for seed in (1, 2, 3):
        scene.retrain(seed)
        scene.until(
            "the number of this training",
            lambda n=seed + 1: scene.status.get("lastVersion", {}).get("number") == n,
        )
    scene.settle()
    champion = scene.player.get("ModelVersion", scene.champion()[0])
    assert champion is not None
    assert champion["spec"]["training"]["seed"] == 3
    numbers = [item["spec"]["number"] for item in scene.player.all("ModelVersion")]
    assert sorted(set(numbers)) == sorted(numbers)


def test_deleted_newest_version_is_trained_again_under_a_new_number(scene: Scene):
    v1, v2, v3 = (scene.version(number) for number in (1, 2, 3))
    scene.create()
    scene.serve(1)
    scene.retrain(2)
    scene.until_job(f"{v2}-train")
    scene.until("v2 to be confirmed", lambda: scene.status["lastVersion"].get("uid"))
    scene.player.remove("ModelVersion", v2)
    scene.until_job(f"{v3}-train")
    assert scene.player.names("ModelVersion") == [v1, v3]
    scene.serve(3)
    assert scene.champion() == (v3, 2, "GatesPassed")


def test_numbers_stay_used_when_all_versions_are_deleted(scene: Scene):
    scene.create()
    scene.serve(1)
    scene.until("v1 to be confirmed", lambda: scene.status["lastVersion"].get("uid"))
    scene.player.remove("ModelVersion", scene.version(1))
    scene.until_job(f"{scene.version(2)}-train")
    assert scene.target() == scene.version(1), (
        "the servers of the deleted champion go on until there is another"
    )
    assert scene.player.names("Deployment") == [scene.version(1)]
    assert scene.condition("Available") == ("True", "Serving")
    scene.serve(2)
    assert scene.champion()[1] == 2
    scene.until("the old servers to go", lambda: scene.player.names("Deployment") == [scene.version(2)])


def test_old_versions_are_kept_up_to_the_limit(scene: Scene):
    scene.create(versionHistoryLimit=1)
    for number in range(1, 5):
        if number > 1:
            scene.retrain(number)
        scene.serve(number)
    kept = [scene.version(3), scene.version(4)]
    scene.until("the oldest to go", lambda: scene.player.names("ModelVersion") == kept)
    assert scene.champion()[0] == scene.version(4)


def test_training_that_was_overtaken_is_ended(scene: Scene):
    """What nobody waits for takes no resources, and its version goes; a spec that comes back is trained anew."""
    scene.create(versionHistoryLimit=1)
    v1, v2, v3 = (scene.version(number) for number in (1, 2, 3))
    scene.until_job(f"{v1}-train")
    scene.retrain(2)
    scene.until_job(f"{v2}-train")
    scene.until("the Job of v1 to end", lambda: scene.player.names("Job") == [f"{v2}-train"])
    scene.until("v1 to say so", lambda: failure_of(scene, v1) == "Superseded")
    assert scene.condition("Stalled") == ("", "")

    scene.retrain(0)
    scene.until_job(f"{v3}-train")
    scene.until("the Job of v2 to end", lambda: scene.player.names("Job") == [f"{v3}-train"])
    scene.serve(3)
    assert scene.status["lastVersion"]["number"] == 3
    scene.until("one of the others to go", lambda: len(scene.player.names("ModelVersion")) == 2)


def failure_of(scene: Scene, version: str) -> str:
    """The reason that a version failed for, empty if it did not."""
    found = scene.player.get("ModelVersion", version) or {}
    reason: str = found.get("status", {}).get("lastFailure", {}).get("reason", "")
    return reason


def test_candidates_may_be_replaced(scene: Scene):
    """Another estimator, and what it says of itself, stand in the new version's status."""
    scene.create()
    scene.serve(1)
    scene.change(training={"candidates": [FOREST]})
    scene.serve(2)
    version = scene.player.get("ModelVersion", scene.version(2))
    assert version is not None
    assert version["status"]["candidate"]["name"] == "forest"


def test_rollout_given_up_halfway_leaves_traffic_where_it_was(scene: Scene):
    v1, v2 = scene.version(1), scene.version(2)
    scene.create()
    scene.serve(1)
    scene.retrain(2)
    scene.train(2)
    scene.evaluate(2)
    scene.until("servers of v2", lambda: scene.player.get("Deployment", v2))
    scene.retrain(0)
    scene.until("the old champion again", lambda: scene.champion() == (v1, 3, "SpecReverted"))
    scene.until("the servers of v2 to go", lambda: scene.player.names("Deployment") == [v1])
    scene.until_condition("Ready", "True", "Serving")
    assert scene.target() == v1
    assert scene.player.names("HorizontalPodAutoscaler") == [v1]


def test_stable_service_deleted_in_a_rollout_comes_back_with_the_old_target(scene: Scene):
    v1, v2 = scene.version(1), scene.version(2)
    scene.create()
    scene.serve(1)
    scene.retrain(2)
    scene.train(2)
    scene.evaluate(2)
    scene.until("servers of v2", lambda: scene.player.get("Deployment", v2))
    scene.player.remove("Service", scene.name)
    assert scene.until("the Service", scene.target) == v1
    scene.bring_up(2)
    scene.until("traffic to turn", lambda: scene.target() == v2)
