"""The autoscaler scales a model under real load, and the operator leaves its count alone."""

import time
from collections.abc import Callable

import truth_table
from kube import Kube, Watch, wait_for
from models import SETOSA_TENSORS, Model, quick
from traffic import by_service, load

# One row costs the server so little (about 0.2 ms, HTTP and all) that 20 requests a second are no load.
_THOUSAND_ROWS = [
    tensor | {"shape": [1000, *tensor["shape"][1:]], "data": (tensor["data"] * 1000)[:1000]}
    for tensor in SETOSA_TENSORS
]


def test_a_forest_scales_under_load(kube: Kube, namespace: str, measured: Callable[[str], None]) -> None:
    forest = {
        "name": "forest",
        "estimator": "sklearn.ensemble.RandomForestClassifier",
        "params": {"n_estimators": 100},
    }
    serving = {
        "replicas": {"min": 1, "max": 2},
        "autoscaling": {"cpuPercent": 50},
        "pod": {
            "resources": {
                "requests": {"cpu": "30m", "memory": "150Mi"},
                "limits": {"cpu": "500m", "memory": "512Mi"},
            }
        },
    }
    model = Model(kube, namespace)
    model.apply(quick(training={"candidates": [forest]}, serving=serving))
    model.wait_ready()

    def replicas() -> int:
        count: int = kube.get("deployments", namespace, "iris-v1")["spec"]["replicas"]
        return count

    assert replicas() == 1
    with (
        load(kube, namespace, by_service("iris", _THOUSAND_ROWS, rate=20)) as requests,
        Watch(kube, "trainedmodels", namespace) as watch,
    ):
        begun = time.time()
        wait_for(lambda: replicas() == 2, 180, "the autoscaler asks for a second replica")
        scaled = time.time() - begun
        wait_for(lambda: len(model.ready_pods("iris-v1")) == 2, 60, "the second replica is ready")
        wait_for(lambda: model.status()["serving"]["readyReplicas"] == 2, 15, "status says so")
        # A reconcile for another reason (spec and all) does not set the count back.
        model.change({"serving": {"rollbackWindow": "30s"}})
        model.wait_ready(seconds=30)
        requests.wait_more(100)
        assert replicas() == 2
        assert len(model.ready_pods("iris-v1")) == 2
        line = requests.none_failed()
    truth_table.check(watch.states("iris"))
    managers = kube.get("deployments", namespace, "iris-v1")["metadata"]["managedFields"]
    for manager in managers:
        if manager["manager"] == "solera":
            assert "f:replicas" not in manager["fieldsV1"]["f:spec"], "the count belongs to the autoscaler"
    measured(f"second replica asked for after {scaled:.0f} s of load; {line}")
