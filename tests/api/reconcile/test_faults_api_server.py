"""An API server that goes away and comes back, and one that learns of the Gateway API late."""

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from api_server import Api, connect, wait_for
from engine_cluster import ControlPlane
from operator_process import OperatorProcess
from player import Object
from scene import Scene

from solera_cluster import lifecycle, paths, platform_render

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GATEWAY = {"name": "public", "namespace": "gateways", "sectionName": "http", "hostname": "iris.example.com"}


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """etcd and API server that may be stopped: nobody else uses them."""
    name = f"reconcile-{os.getpid()}"
    yield ControlPlane(name)
    lifecycle.down(name)
    shutil.rmtree(paths.cluster_dir(name), ignore_errors=True)
    paths.cluster_dir(name).with_suffix(".lock").unlink(missing_ok=True)


@pytest.fixture
def mortal(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Scene]:
    """A model, an operator and a namespace on that API server."""
    namespace = f"m-{uuid.uuid4().hex[:12]}"
    with connect(control_plane.kubeconfig) as http:
        api = Api(http)
        api.install_crds()
        api.ok(api.create("/api/v1/namespaces", {"metadata": {"name": namespace}}))
        account = {"metadata": {"name": "default"}}
        api.ok(api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", account))
        with OperatorProcess(control_plane.kubeconfig, namespace, tmp_path) as operator:
            yield Scene(api, namespace, "iris", [operator])


def _restart(control_plane: ControlPlane, mortal: Scene) -> float:
    """Stop the API server, start it again, and say when it was back."""
    control_plane.stop_api_server()
    control_plane.start_api_server()
    wait_for("the API server", lambda: mortal.api.get("/readyz").is_success)
    return time.monotonic()


def _until(mortal: Scene, what: str, check, *, play: bool = False) -> None:
    """As Scene.until, with a kubelet that starts an operator again that has given up its Lease."""
    operator = mortal.operators[0]

    def look() -> bool:
        operator.revive()
        return bool(check())

    mortal.until(what, look, 30, play=play)


def test_api_server_restarted_in_the_middle(control_plane: ControlPlane, mortal: Scene):
    """Within 30 s of its return everything that is due is done, and nothing is done twice."""
    mortal.create()
    mortal.until_job("iris-v1-train")
    _restart(control_plane, mortal)
    mortal.train(1)
    _until(mortal, "the evaluation", lambda: len(mortal.player.names("Job")) == 2)
    mortal.evaluate(1)
    _until(mortal, "servers", lambda: mortal.player.get("Deployment", "iris-v1"))
    mortal.bring_up(1)
    _until(mortal, "Ready", lambda: mortal.condition("Ready") == ("True", "Serving"))

    mortal.retrain(2)
    mortal.train(2)
    mortal.evaluate(2)
    mortal.until("servers of v2", lambda: mortal.player.get("Deployment", "iris-v2"))
    back = _restart(control_plane, mortal)
    mortal.bring_up(2)
    _until(mortal, "traffic to turn", lambda: mortal.target() == "iris-v2")
    _until(mortal, "the old servers to go", lambda: mortal.player.names("Deployment") == ["iris-v2"])
    assert time.monotonic() - back < 30
    assert mortal.champion() == ("iris-v2", 2, "GatesPassed")
    assert mortal.player.names("ModelVersion") == ["iris-v1", "iris-v2"]
    assert len(mortal.player.names("Job")) == 4


def test_change_made_while_the_operator_was_away_is_seen(control_plane: ControlPlane, mortal: Scene):
    """An API server that forgets its watches, an operator that is down, and children deleted meanwhile."""
    mortal.create()
    mortal.serve(1)
    mortal.settle()
    operator = mortal.operators[0]
    operator.stop()
    mortal.player.remove("Service", "iris")
    mortal.player.remove("HorizontalPodAutoscaler", "iris-v1")
    mortal.change(serving={"replicas": {"min": 2, "max": 3}})
    operator.start()
    mortal.until("the Service", lambda: mortal.target() == "iris-v1")
    mortal.settle()
    autoscaler = mortal.player.get("HorizontalPodAutoscaler", "iris-v1")
    assert autoscaler is not None
    assert autoscaler["spec"]["minReplicas"] == 2


def _parent(status: str, reason: str, message: str, generation: int) -> Object:
    condition = {
        "type": "Accepted",
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {
        "parentRef": {"name": GATEWAY["name"], "namespace": GATEWAY["namespace"]},
        "controllerName": "example.com/gateway",
        "conditions": [condition],
    }


def _answer(mortal: Scene, status: str, reason: str = "Accepted", message: str = "") -> None:
    """What a gateway's controller says of the current route."""
    route = mortal.player.get("HTTPRoute", "iris")
    assert route is not None
    parents = [_parent(status, reason, message, route["metadata"]["generation"])]
    path = mortal.player.path("HTTPRoute", "iris", "status")
    mortal.api.ok(mortal.api.patch(path, {"status": {"parents": parents}}))


def _install_gateway_api(api: Api) -> None:
    wanted = {f"{kind}.gateway.networking.k8s.io" for kind in ("gateways", "httproutes")}
    for crd in yaml.safe_load_all(platform_render.gateway_crds(with_gateway_api=True)):
        if crd and crd["metadata"]["name"] in wanted:
            crd.pop("status", None)
            api.ok(api.create(CRDS, crd))
    for kind in ("gateways", "httproutes"):
        path = f"/apis/gateway.networking.k8s.io/v1/{kind}"
        wait_for(f"{kind} to be served", lambda path=path: api.get(path).is_success)


def _gateway(mortal: Scene, protocol: str) -> None:
    api = mortal.api
    api.create("/api/v1/namespaces", {"metadata": {"name": "gateways"}})
    listener: Object = {"name": "http", "port": 80, "protocol": protocol}
    if protocol == "HTTPS":
        listener["tls"] = {"certificateRefs": [{"name": "certificate"}]}
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "public"},
        "spec": {"gatewayClassName": "any", "listeners": [listener]},
    }
    api.ok(api.create("/apis/gateway.networking.k8s.io/v1/namespaces/gateways/gateways", gateway))


def test_gateway_api_that_comes_late(mortal: Scene):
    """From a cluster without HTTPRoute to a model behind a gateway, and back to its Service alone."""
    operator = mortal.operators[0]
    mortal.create(serving={"gateway": GATEWAY, "rollbackWindow": "0s"})
    mortal.train(1)
    mortal.evaluate(1)
    mortal.bring_up(1)
    message = mortal.until_stalled("GatewayApiMissing")
    assert "spec.serving.gateway" in message
    assert mortal.condition("Available") == ("True", "Serving"), "the Service answers all the same"
    absent = [entry for entry in operator.entries() if "httproutes" in str(entry.get("resource"))]
    assert [(entry["event"], entry["level"]) for entry in absent] == [("kind is not installed", "info")]

    _install_gateway_api(mortal.api)
    message = mortal.until_condition("Ready", "False", "GatewayNotFound", seconds=30)
    assert "gateways/public" in message
    _gateway(mortal, "HTTPS")
    _answer(mortal, "False", "NotAllowedByListeners", "no listener allows routes from here")
    mortal.until_condition("Ready", "False", "NotAllowedByListeners", seconds=45)
    _answer(mortal, "True")
    mortal.until_condition("Ready", "True", "Serving")
    assert mortal.status["url"] == "https://iris.example.com"
    assert mortal.status["address"]["url"].endswith(".svc")

    mortal.settle()
    objects = mortal.objects()
    operator.stop()
    operator.start()
    mortal.until("it to lead", operator.leads)
    mortal.holds("unchanged objects", lambda: mortal.objects() == objects, 3)
    assert operator.writes() == {}

    mortal.retrain(2)
    mortal.train(2)
    mortal.evaluate(2)
    mortal.bring_up(2)
    mortal.until("the route to turn", lambda: _backend(mortal) == "iris-v2")
    mortal.until_condition("Ready", "False", "RoutePending")
    _answer(mortal, "True")
    mortal.until_condition("Ready", "True", "Serving")

    mortal.change(serving={"gateway": None})
    mortal.until("the route to go", lambda: mortal.player.get("HTTPRoute", "iris") is None)
    mortal.until_condition("Ready", "True", "Serving")
    assert mortal.status["url"].endswith(".svc")


def _backend(mortal: Scene) -> str:
    route = mortal.player.get("HTTPRoute", "iris")
    assert route is not None
    name: str = route["spec"]["rules"][0]["backendRefs"][0]["name"]
    return name
