"""Gates decide what is promoted; a pin decides what serves."""

from player import ended
from scene import Scene


def test_edited_gates_are_judged_again_without_training(scene: Scene):
    scene.create()
    scene.serve(1)
    first = scene.until_evaluation(1)["metadata"]["name"]
    scene.change(gates=[{"metric": "accuracy", "min": "0.85"}])
    scene.until_condition("Ready", "False", "Evaluating")
    assert scene.condition("Available") == ("True", "Serving")
    second = scene.evaluate(1, besides=[first])
    scene.until_condition("Ready", "True", "Serving")
    assert scene.player.names("ModelVersion") == [scene.version(1)]
    assert scene.champion() == (scene.version(1), 1, "FirstVersion"), "the champion is the same"
    assert scene.player.names("Job") == sorted([first, second, f"{scene.version(1)}-train"])

    scene.change(gates=[{"metric": "accuracy", "min": "0.80"}])
    # Its Job ended long ago; until that is removed, its message is there to be read.
    scene.until_condition("Ready", "True", "Serving")
    assert len(scene.player.names("Job")) == 3


def test_no_gates_promote_nothing(scene: Scene):
    scene.create(gates=None)
    scene.train(1)
    first = scene.evaluate(1)
    message = scene.until_stalled("NoGates")
    assert "spec.gates" in message
    assert scene.champion() == ("", 0, "")
    assert scene.player.names("Deployment") == []
    scene.change(gates=[{"metric": "accuracy", "min": "0.50"}])
    scene.evaluate(1, besides=[first])
    scene.until("a champion", lambda: scene.champion()[0] == scene.version(1))


def test_rejected_version_is_stalled_while_the_champion_serves(scene: Scene):
    v1 = scene.version(1)
    scene.create()
    scene.serve(1)
    scene.retrain(2)
    scene.train(2)
    scene.evaluate(2, value=0.6)
    message = scene.until_stalled("GateFailed")
    assert scene.version(2) in message
    assert "accuracy" in message
    assert scene.condition("Available") == ("True", "Serving")
    assert scene.champion() == (v1, 1, "FirstVersion")
    assert scene.target() == v1
    version = scene.player.get("ModelVersion", scene.version(2))
    assert version is not None
    assert version["status"]["verdict"] == "Rejected"
    assert version["status"]["gates"][0]["outcome"] == "Failed"

    scene.retrain(0)
    scene.until_condition("Ready", "True", "Serving")
    assert scene.champion() == (v1, 1, "FirstVersion")


def test_gates_that_were_relaxed_let_the_rejected_version_through(scene: Scene):
    scene.create()
    scene.train(1)
    first = scene.evaluate(1, value=0.7)
    scene.until_stalled("GateFailed")
    scene.change(gates=[{"metric": "accuracy", "min": "0.60"}])
    scene.evaluate(1, value=0.7, besides=[first])
    scene.until("a champion", lambda: scene.champion()[0] == scene.version(1))


def test_stricter_gates_take_no_champion_down(scene: Scene):
    scene.create()
    scene.serve(1)
    first = scene.until_evaluation(1)["metadata"]["name"]
    scene.change(gates=[{"metric": "accuracy", "min": "0.99"}])
    scene.evaluate(1, besides=[first])
    scene.until_stalled("GateFailed")
    assert scene.condition("Available") == ("True", "Serving")
    assert scene.target() == scene.version(1)


def _two(scene: Scene) -> tuple[str, str]:
    """Bring the model to its second version, the first one kept warm."""
    scene.create(serving={"rollbackWindow": "10m"})
    scene.serve(1)
    scene.retrain(2)
    scene.serve(2)
    return scene.version(1), scene.version(2)


def test_pin_to_the_old_version_rolls_back_at_once(scene: Scene):
    v1, v2 = _two(scene)
    jobs = scene.player.names("Job")
    scene.change(serving={"pin": {"version": v1}})
    scene.until("the pinned champion", lambda: scene.champion() == (v1, 3, "Pinned"))
    scene.until("traffic to turn", lambda: scene.target() == v1)
    message = scene.until_condition("Ready", "True", "Serving")
    assert "pin" in message
    rejected = scene.status["rejected"]
    assert [(entry["version"], entry["reason"]) for entry in rejected] == [(v2, "RolledBack")]

    scene.change(serving={"pin": None})
    scene.until("the pin to be gone", lambda: scene.champion() == (v1, 4, "Unpinned"))
    scene.until_condition("Ready", "True")
    scene.holds("the rolled back version stays back", lambda: scene.champion()[0] == v1, 1)
    assert v2 in scene.message("Ready"), "it is said that what the spec asks for was rolled back"
    assert scene.player.names("Job") == jobs, "a rollback trains nothing"

    scene.retrain(3)
    scene.train(3)
    scene.evaluate(3)
    scene.until("the next version", lambda: scene.champion() == (scene.version(3), 5, "GatesPassed"))


def test_version_that_is_pinned_again_is_forgiven(scene: Scene):
    v1, v2 = _two(scene)
    scene.change(serving={"pin": {"version": v1}})
    scene.until("traffic to turn", lambda: scene.target() == v1)
    scene.change(serving={"pin": {"version": v2}})
    scene.until("the way forward", lambda: scene.champion() == (v2, 4, "Pinned"))
    scene.until("nothing rejected", lambda: "rejected" not in scene.status)
    scene.change(serving={"pin": None})
    scene.until("the pin to be gone", lambda: scene.champion() == (v2, 5, "Unpinned"))
    scene.holds("champion", lambda: scene.champion()[0] == v2, 1)


def test_pin_holds_while_trainings_go_on(scene: Scene):
    v1 = scene.version(1)
    scene.create(serving={"rollbackWindow": "0s"})
    scene.serve(1)
    scene.change(serving={"pin": {"version": v1}})
    scene.until("the pin", lambda: scene.champion() == (v1, 2, "Pinned"))
    scene.retrain(2)
    scene.train(2)
    scene.evaluate(2)
    scene.until(
        "v2 to be accepted",
        lambda: (scene.player.get("ModelVersion", scene.version(2)) or {}).get("status", {}).get("verdict"),
    )
    scene.holds("the pinned champion", lambda: scene.champion() == (v1, 2, "Pinned"), 1)
    scene.until_condition("Ready", "True", "Serving")
    scene.change(serving={"pin": None})
    scene.until("v2 to follow", lambda: scene.champion() == (scene.version(2), 3, "GatesPassed"))


def test_pin_that_cannot_be_obeyed_is_stalled(scene: Scene):
    v1 = scene.version(1)
    scene.create()
    scene.serve(1)
    digest = scene.status["champion"]["digest"]

    scene.change(serving={"pin": {"version": scene.version(7)}})
    message = scene.until_stalled("PinnedVersionNotFound")
    assert v1 in message, "it says which versions there are"
    assert scene.condition("Available") == ("True", "Serving")

    scene.change(serving={"pin": {"version": v1, "digest": "sha256:" + "0" * 64}})
    message = scene.until_stalled("PinnedDigestMismatch")
    assert digest in message

    scene.change(serving={"pin": {"version": v1, "digest": digest}})
    scene.until_condition("Ready", "True", "Serving")
    assert scene.champion() == (v1, 2, "Pinned")


def test_pin_to_a_version_in_training_waits_for_it(scene: Scene):
    scene.create()
    scene.serve(1)
    scene.retrain(2)
    scene.until_job(f"{scene.version(2)}-train")
    scene.change(serving={"pin": {"version": scene.version(2)}})
    scene.until_condition("Ready", "False", "PinnedVersionTraining")
    assert scene.condition("Stalled") == ("", "")
    assert scene.target() == scene.version(1)
    scene.train(2)
    scene.until("the pin to be obeyed", lambda: scene.champion() == (scene.version(2), 2, "Pinned"))


def test_pin_to_a_version_without_artifact_is_stalled(scene: Scene):
    scene.create()
    scene.serve(1)
    scene.retrain(2)
    job = scene.until_job(f"{scene.version(2)}-train")
    scene.player.fail(job, ended("trainer", 137, "", "OOMKilled"))
    scene.until_stalled("OutOfMemory")
    scene.change(serving={"pin": {"version": scene.version(2)}})
    message = scene.until_stalled("PinnedVersionNotTrained")
    assert scene.version(2) in message
    assert scene.target() == scene.version(1)
    assert scene.champion()[0] == scene.version(1)
    scene.change(serving={"pin": None}, training={"seed": 0})
    scene.until_condition("Ready", "True", "Serving")


def test_pin_serves_a_version_that_no_gate_let_through(scene: Scene):
    v1 = scene.version(1)
    scene.create()
    scene.train(1)
    scene.evaluate(1, value=0.5)
    scene.until_stalled("GateFailed")
    scene.change(serving={"pin": {"version": v1}})
    scene.bring_up(1)
    scene.until_condition("Ready", "True", "Serving")
    assert scene.champion() == (v1, 1, "Pinned")
