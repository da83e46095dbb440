"""Restarts, deletion and peace: the same result whatever happens to the operator, nothing left, nothing written."""

import os
import random
import time
from collections.abc import Callable

from kube import CHILDREN, Kube, Object, wait_for
from models import SETOSA, Model, conditions, quick

from solera_cluster import deploy, object_store

Measured = Callable[[str], None]
OPERATOR = "app.kubernetes.io/name=solera-operator"
SEED = int(os.environ.get("SOLERA_TEST_SEED", "3"))
STEADY_SECONDS = float(os.environ.get("SOLERA_STEADY_SECONDS", "60"))


def kill_operators(kube: Kube) -> None:
    """As a node that goes: without notice, all replicas at once."""
    for pod in kube.list("pods", deploy.NAMESPACE, OPERATOR):
        kube.delete("pods", deploy.NAMESPACE, pod["metadata"]["name"], gracePeriodSeconds=0)


def test_the_operator_is_killed_at_random_moments(kube: Kube, namespace: str, measured: Measured) -> None:
    model = Model(kube, namespace)
    model.apply(quick(training={"retries": 1}))
    model.wait_ready()
    model.change({"versionHistoryLimit": 9})  # settle: nothing of the first version is still on its way
    model.wait_ready()
    expected = {name.replace("iris-v1", "iris-v2") for name in model.objects()}

    chance = random.Random(SEED)
    # Equal in all that matters to the model, and yet another spec: it must come out byte for byte the same.
    model.change({"training": {"retries": 0}, "serving": {"rollbackWindow": "0s"}})
    moments = []
    for phase in ("Progressing", "Training", "Evaluating", "Progressing"):
        pause = chance.uniform(0, 3)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ready = conditions(model.get())["Ready"]
            if ready["reason"] == phase or ready["status"] == "True":
                break
            time.sleep(0.1)
        time.sleep(pause)  # the moment is drawn, not waited for
        moments.append(f"{conditions(model.get())['Ready']['reason']}+{pause:.1f}s")
        kill_operators(kube)
    model.wait_ready(serving="iris-v2", seconds=240)
    wait_for(lambda: not model.pods("iris-v1"), 90, "the old version's pods are gone")

    assert [one["spec"]["number"] for one in model.versions()] == [1, 2]
    first, second = (one["status"]["artifact"]["digest"] for one in model.versions())
    assert first == second
    status = model.status()
    assert (status["champion"]["revision"], status["champion"]["version"]) == (2, "iris-v2")
    of_second = {name for name in model.objects() if "iris-v1" not in name}
    assert of_second == expected
    for job in model.of_model("jobs"):
        assert job["status"].get("succeeded") == 1, job["metadata"]["name"]
        assert not job["status"].get("failed"), job["metadata"]["name"]
    assert model.predict(SETOSA) == ["setosa"]
    measured(f"seed {SEED}: killed at {', '.join(moments)}")


def test_deletion_removes_what_was_made_and_nothing_else(
    kube: Kube, namespace: str, measured: Measured
) -> None:
    mine = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "mine", "labels": {"solera.dev/model": "iris"}},
    }
    kube.create("configmaps", namespace, mine)
    theirs = ("secrets", "configmaps", "serviceaccounts")
    before = {kind: versions_of(kube.list(kind, namespace)) for kind in theirs}
    model = Model(kube, namespace)
    model.apply(quick())
    model.wait_ready()
    artifact = model.version(1)["status"]["artifact"]["uri"].removeprefix("s3:/")
    model.delete()
    begun = time.monotonic()

    def left() -> list[str]:
        kinds = (*CHILDREN, "modelversions", "replicasets", "pods", "trainedmodels", "endpoints")
        system = {"serviceaccounts/default"}
        found = {f"{kind}/{one['metadata']['name']}" for kind in kinds for one in kube.list(kind, namespace)}
        return sorted(found - system)

    wait_for(lambda: not left(), 60, f"everything is gone; left: {left()}")
    took = time.monotonic() - begun
    assert {kind: versions_of(kube.list(kind, namespace)) for kind in theirs} == before
    with object_store.forwarded() as port:
        status, _ = object_store.request(
            port, object_store.ensure_credentials(), "GET", f"{artifact}/manifest.json", b""
        )
    assert status == 200, "artifacts in the store stay"
    measured(f"all gone after {took:.0f} s")


def versions_of(objects: list[Object]) -> dict[str, str]:
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in objects}


def solid(one: Object) -> object:
    """What must not change: the resourceVersion; for what the autoscaler reports on, all but its own status."""
    if one["kind"] != "HorizontalPodAutoscaler":
        return one["metadata"]["resourceVersion"]
    meta = {key: value for key, value in one["metadata"].items() if key != "resourceVersion"}
    meta["managedFields"] = [field for field in meta["managedFields"] if field.get("subresource") != "status"]
    return {"metadata": meta, "spec": one["spec"]}


def test_steady_state_writes_nothing(kube: Kube, namespace: str, measured: Measured) -> None:
    model = Model(kube, namespace)
    model.apply(quick())
    model.wait_ready()
    jobs = {job["metadata"]["name"] for job in model.of_model("jobs")}
    wait_for(
        lambda: all(job["spec"].get("ttlSecondsAfterFinished") for job in model.of_model("jobs")),
        15,
        "TTLs are set",
    )

    def seen() -> dict[str, object]:
        found = {name: one | {"kind": name.split("/")[0]} for name, one in model.objects().items()}
        found["trainedmodel"] = model.get()
        kinds = {"horizontalpodautoscalers": "HorizontalPodAutoscaler"}
        return {
            name: solid(one | {"kind": kinds.get(one["kind"], one["kind"])}) for name, one in found.items()
        }

    # The autoscaler's and the PDB's controllers settle first: their first status is not Solera's doing.
    last = seen()

    def settled() -> bool:
        nonlocal last
        time.sleep(5)
        now = seen()
        same, last = now == last, now
        return same

    wait_for(settled, 60, "a settled state")
    begun = time.monotonic()
    model.apply(quick())  # unchanged: as GitOps does it every few minutes
    while time.monotonic() - begun < STEADY_SECONDS:
        now = seen()
        # A Job's TTL may take it away meanwhile; nothing else may change.
        changed = {name for name in last if name in now and now[name] != last[name]}
        assert not changed, f"after {time.monotonic() - begun:.0f} s these were written: {changed}"
        gone = {name for name in last.keys() - now.keys() if name.removeprefix("jobs/") not in jobs}
        assert not gone
        assert not now.keys() - last.keys()
        time.sleep(2)
    assert model.get()["metadata"]["generation"] == 1
    measured(f"{len(last)} objects unchanged for {STEADY_SECONDS:.0f} s")
