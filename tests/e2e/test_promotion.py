"""Versions change under constant requests, by the stable Service and through the gateway, and none fails."""

import time
from collections.abc import Callable

import pytest
from kube import Kube, wait_for
from models import SERVER_POD, SETOSA, SETOSA_TENSORS, Model, merged, parse_time, quick
from traffic import GATEWAY, Target, by_gateway, by_service, load

from solera_cluster import deploy

Measured = Callable[[str], None]
OPERATOR = "app.kubernetes.io/name=solera-operator"


@pytest.fixture
def served(kube: Kube, namespace: str) -> Model:
    """A model that serves behind the gateway, with two replicas."""
    model = Model(kube, namespace)
    serving = {
        "replicas": {"min": 2, "max": 2},
        "gateway": {**GATEWAY, "hostname": f"{namespace}.example.com"},
        "rollbackWindow": "15s",
    }
    model.apply(quick(serving=serving))
    model.wait_ready(serving="iris-v1")
    return model


def targets(model: Model) -> tuple[Target, Target]:
    hostname = f"{model.namespace}.example.com"
    return (
        by_service(model.name, SETOSA_TENSORS),
        by_gateway(model.kube, model.name, hostname, [SETOSA]),
    )


def warm_until_gone(model: Model, version: str, pods: set[str], window: float) -> float:
    """The displaced version keeps its pods for the window and then goes; seconds that it stayed in fact.

    Counted from the moment when traffic turned, as the status says.
    """
    until = wait_for(lambda: model.status().get("previous"), 10, f"{version} is kept warm")
    assert until["version"] == version
    end = parse_time(until["until"]).timestamp()
    while time.time() < end - 1:
        assert pods <= set(model.ready_pods(version)), f"pods of {version} changed within the rollback window"
        time.sleep(0.5)
    wait_for(lambda: not model.pods(version), 90, f"the pods of {version} are removed")
    assert kube_names(model, "deployments", version) == []
    assert kube_names(model, "horizontalpodautoscalers", version) == []
    return time.time() - end + window


def kube_names(model: Model, kind: str, version: str) -> list[str]:
    return [one["metadata"]["name"] for one in model.of_model(kind) if one["metadata"]["name"] == version]


def restart_operator(kube: Kube) -> None:
    """All replicas at once, with the time to say goodbye: as an upgrade that went too fast."""
    for pod in kube.list("pods", deploy.NAMESPACE, OPERATOR):
        kube.delete("pods", deploy.NAMESPACE, pod["metadata"]["name"])


def test_versions_change_and_pins_hold(kube: Kube, served: Model, measured: Measured) -> None:
    with load(kube, served.namespace, *targets(served)) as requests:
        requests.wait_version("iris-v1")
        first = set(served.ready_pods("iris-v1"))
        assert len(first) == 2
        served.change({"training": {"seed": 2}})
        served.wait_ready(serving="iris-v2")
        second = set(served.ready_pods("iris-v2"))
        requests.wait_version("iris-v2")
        warm_until_gone(served, "iris-v1", first, 15)
        status = served.status()
        assert (status["champion"]["version"], status["champion"]["revision"]) == ("iris-v2", 2)
        assert second == set(served.ready_pods("iris-v2")), "pods of v2 changed by being promoted"

        # Back by a pin, although the pods of v1 are gone already.
        served.change({"serving": {"pin": {"version": "iris-v1"}}})
        served.wait_ready(serving="iris-v1")
        requests.wait_more(40)
        status = served.status()
        assert (status["champion"]["reason"], status["champion"]["revision"]) == ("Pinned", 3)
        assert [entry["version"] for entry in status["rejected"]] == ["iris-v2"]
        assert len(served.versions()) == 2, "a pin trains nothing"

        # What is trained meanwhile waits for the end of the pin.
        served.change({"training": {"seed": 3}})
        served.wait_verdict(3)
        assert served.wait_ready()["status"]["champion"]["version"] == "iris-v1"
        served.change({"serving": {"pin": None}})
        restart_operator(kube)
        served.wait_ready(serving="iris-v3")
        requests.wait_version("iris-v3")
        line = requests.none_failed()
    measured(line)


def test_serving_changes_the_operator_restarts_a_pod_is_drained(
    kube: Kube, served: Model, measured: Measured
) -> None:
    with load(kube, served.namespace, *targets(served)) as requests:
        requests.wait_version("iris-v1")
        before = set(served.ready_pods("iris-v1"))
        memory = merged(SERVER_POD, {"resources": {"requests": {"memory": "160Mi"}}})
        served.change({"serving": {"pod": memory}})
        restart_operator(kube)
        served.wait_ready()
        after = served.ready_pods("iris-v1")
        assert len(after) == 2
        assert not before & set(after), "Ready was said before every pod followed the new spec"
        for pod in after.values():
            assert pod["spec"]["containers"][0]["resources"]["requests"]["memory"] == "160Mi"
        assert len(served.versions()) == 1, "a change of serving trains nothing"

        victim, *_ = after.values()
        kube.delete("pods", served.namespace, victim["metadata"]["name"])

        def replaced() -> bool:
            pods = served.ready_pods("iris-v1")
            return len(pods) == 2 and victim["metadata"]["uid"] not in pods

        wait_for(replaced, 90, "another pod in its place")
        requests.wait_more(40)
        line = requests.none_failed()
    measured(line)
