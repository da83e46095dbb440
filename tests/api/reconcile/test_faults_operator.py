"""Operators that are killed, stopped and doubled: the outcome is the same as if nothing had happened."""

import json
import random
import time
from collections.abc import Callable

import pytest
from api_server import Api
from operator_process import OperatorProcess
from player import CHILDREN
from scene import Scene

# What differs between two runs although nothing is different.
KINDS = tuple(kind for kind in CHILDREN if kind != "Pod")


def outcome(scene: Scene) -> dict[str, object]:
    """Everything that there is at the end, without what every run has anew."""
    status = scene.status
    found = {
        "objects": {kind: scene.player.names(kind) for kind in KINDS},
        "specs": {
            f"{kind}/{item['metadata']['name']}": item.get("spec")
            for kind in ("ModelVersion", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy")
            for item in scene.player.all(kind)
        },
        "target": scene.target(),
        "champion": {key: value for key, value in status["champion"].items() if key != "since"},
        "last version": {key: value for key, value in status["lastVersion"].items() if key != "uid"},
        "conditions": sorted((c["type"], c["status"], c["reason"]) for c in status["conditions"]),
    }
    same: dict[str, object] = json.loads(json.dumps(found).replace(scene.namespace, "NAMESPACE"))
    return same


def course(scene: Scene, between: Callable[[], None]) -> None:
    """Create, serve, train another version, change how it is served, go back, and delete a version."""
    steps: tuple[Callable[[], object], ...] = (
        lambda: scene.create(serving={"rollbackWindow": "0s", "replicas": {"min": 1, "max": 4}}),
        lambda: scene.retrain(2),
        lambda: scene.change(serving={"replicas": {"min": 2, "max": 4}}),
        lambda: scene.change(gates=[{"metric": "accuracy", "min": "0.90"}]),
        lambda: scene.retrain(0),
        lambda: scene.retrain(3),
    )
    for step in steps:
        step()
        end = time.monotonic() + 90
        while not _settled(scene):
            assert time.monotonic() < end, f"no peace after 90 s\n{scene.report()}"
            scene.player.tick()
            between()
            time.sleep(0.02)


def _settled(scene: Scene) -> bool:
    live = scene.live
    status = live.get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
    return (
        conditions.get("Ready") == "True"
        and status.get("observedGeneration") == live["metadata"]["generation"]
        and "previous" not in status
        and len(scene.player.names("Deployment")) == 1
        and all("ttlSecondsAfterFinished" in job["spec"] for job in scene.player.all("Job"))
    )


@pytest.fixture(scope="module")
def undisturbed(api: Api, shared_operator: OperatorProcess) -> dict[str, object]:
    """The outcome of a course without any fault."""
    scene = Scene(api, shared_operator.namespace, "iris", [shared_operator])
    course(scene, lambda: None)
    assert scene.player.names("ModelVersion") == ["iris-v1", "iris-v2", "iris-v3"]
    assert scene.champion() == ("iris-v3", 4, "GatesPassed")
    return outcome(scene)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_operator_killed_at_random_moments(own: Scene, undisturbed: dict[str, object], seed: int):
    """SIGKILL after at most 0.7 s of work, again and again."""
    operator = own.operators[0]
    rng = random.Random(seed)
    kills: list[float] = []
    due = [time.monotonic() + rng.uniform(0.0, 0.7)]

    def between() -> None:
        if len(kills) < 8 and time.monotonic() > due[0]:
            operator.kill()
            kills.append(time.monotonic())
            _forget_lease(own)
            operator.start()
            own.until("the operator to lead", operator.leads, 30, play=True)
            due[0] = time.monotonic() + rng.uniform(0.0, 0.7)

    course(own, between)
    assert len(kills) >= 3, "too few kills to prove anything"
    found = outcome(own)
    for part, expected in undisturbed.items():
        assert found[part] == expected, f"{part} after {len(kills)} kills\n{own.report()}"
    assert not operator.troubles(), "\n".join(operator.troubles())


def _forget_lease(own: Scene) -> None:
    """As if the time of the dead operator's Lease had run out: what is tested comes after that."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{own.namespace}/leases/solera-operator"
    assert own.api.delete(path).status_code in {200, 404}


def test_only_the_leader_writes_and_the_other_takes_over(
    own: Scene, new_operator: Callable[..., OperatorProcess]
):
    first, second = own.operators[0], new_operator("second")
    own.until("the first to lead", first.leads)
    assert not second.leads()
    assert second.answers("/readyz"), "standing by is ready"
    own.create()
    own.serve(1)
    assert first.writes() != {}
    assert second.writes() == {}

    own.retrain(2)
    own.until_job("iris-v2-train")
    killed = time.monotonic()
    first.kill()
    own.train(2)
    own.until_evaluation(2)
    took = time.monotonic() - killed
    assert took < 10, f"{took:.1f} s from the kill to the next step"
    assert second.leads()
    own.evaluate(2)
    own.bring_up(2)
    own.until_condition("Ready", "True")
    assert not second.troubles(), "\n".join(second.troubles())


def test_leader_that_stops_gracefully_hands_over_at_once(
    own: Scene, new_operator: Callable[..., OperatorProcess]
):
    first, second = own.operators[0], new_operator("second")
    own.create()
    own.until_job("iris-v1-train")
    stopped = time.monotonic()
    first.stop()
    own.until("the second to lead", second.leads)
    took = time.monotonic() - stopped
    assert took < 5, f"{took:.1f} s, so the Lease was not released"
    own.serve(1)


def test_frozen_leader_gives_up_when_it_wakes(own: Scene, new_operator: Callable[..., OperatorProcess]):
    """A process that was stopped for longer than its Lease must not write as if nothing had happened."""
    first, second = own.operators[0], new_operator("second")
    own.create()
    own.until_job("iris-v1-train")
    first.freeze()
    own.until("the second to lead", second.leads, 15)
    own.serve(1)
    own.settle()
    objects = own.objects()
    first.thaw()
    own.until("the first to end", lambda: not first.running, 10)
    own.holds("unchanged objects", lambda: own.objects() == objects, 1)
