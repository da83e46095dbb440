"""Gates decide who serves; an edited gate judges again without training again."""

from collections.abc import Callable

from kube import Kube, wait_for
from models import SETOSA, Model, quick

GOOD = [{"metric": "accuracy", "min": "0.50"}]
# No model reaches it on so few rows: the lower bound of 45 right ones out of 45 is below 0.95.
HARD = [{"metric": "accuracy", "min": "0.99"}]


def test_rejected_version_leaves_the_champion_until_the_gate_is_lowered(
    kube: Kube, namespace: str, measured: Callable[[str], None]
) -> None:
    model = Model(kube, namespace)
    model.apply(quick(gates=GOOD))
    model.wait_ready(serving="iris-v1")
    pods = set(model.ready_pods("iris-v1"))

    model.change({"gates": HARD, "training": {"seed": 2}})
    told = model.wait_reason("GateFailed", stalled=True)
    assert "iris-v2" in told["message"]
    assert "accuracy" in told["message"]
    assert "0.99" in told["message"]
    status = model.status()
    assert status["champion"]["version"] == status["serving"]["version"] == "iris-v1"
    assert next(c for c in status["conditions"] if c["type"] == "Available")["status"] == "True"
    second = model.version(2)["status"]
    assert second["verdict"] == "Rejected"
    assert [gate["outcome"] for gate in second["gates"]] == ["Failed"]
    assert set(model.ready_pods("iris-v1")) == pods
    assert model.predict(SETOSA) == ["setosa"]

    model.change({"gates": GOOD})
    model.wait_ready(serving="iris-v2", through_stall=True)
    trained = {
        job["metadata"]["name"] for job in model.of_model("jobs") if "-train" in job["metadata"]["name"]
    }
    assert trained <= {"iris-v1-train", "iris-v2-train"}
    assert [one["metadata"]["name"] for one in model.versions()] == ["iris-v1", "iris-v2"]
    assert model.version(2)["status"]["artifact"]["digest"] == second["artifact"]["digest"]
    measured(f"rejected in words: {told['message']}")


def test_without_gates_nothing_serves_until_there_is_one(kube: Kube, namespace: str) -> None:
    model = Model(kube, namespace)
    model.apply(quick(gates=None))
    told = model.wait_reason("NoGates", stalled=True)
    assert "spec.gates" in told["message"]
    assert model.version(1)["status"]["artifact"]["digest"]
    assert "champion" not in model.status()
    assert not model.of_model("deployments")

    model.change({"gates": GOOD})
    model.wait_ready(serving="iris-v1", through_stall=True)
    wait_for(lambda: model.predict(SETOSA) == ["setosa"], 10, "a prediction")
    assert len(model.versions()) == 1
