"""HTTPRoutes against Gateway API's own schema and rules, on a server of their own.

The shared server has no Gateway API: other tests see to what happens without it.
"""

import copy
import os

import manifest_objects as manifests
import pytest
import yaml
from api_server import Api, cluster_tool, connect, wait_for

from solera_cluster import paths, platform_render

NAME = f"routes-{os.getpid()}"
ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes"


@pytest.fixture(scope="module")
def gateway_api():
    """A client of an API server that has HTTPRoute, and the namespace `default`."""
    started = cluster_tool("up", "--api-only", "--name", NAME)
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        with connect(paths.cluster_dir(NAME) / "kubeconfig") as http:
            api = Api(http)
            install(api)
            wait_for("the namespace", lambda: api.get("/api/v1/namespaces/default").is_success)
            yield api
    finally:
        cluster_tool("down", "--name", NAME)


def install(api):
    crds = yaml.safe_load_all(platform_render.gateway_crds(with_gateway_api=True))
    [crd] = [c for c in crds if c and c["metadata"]["name"] == "httproutes.gateway.networking.k8s.io"]
    crd.pop("status", None)
    api.ok(api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd))
    wait_for("HTTPRoute to be served", lambda: api.get(ROUTES).is_success)


def built(spec):
    objects = manifests.owned.all_objects(manifests.owned.trained_model(spec))
    return manifests.moved(objects["http-route"], "default")


def same_namespace():
    spec = copy.deepcopy(manifests.owned.FULL_SPEC)
    spec["serving"]["gateway"] = {"name": "public", "hostname": "adult.example.com"}
    return spec


@pytest.mark.parametrize("spec", [manifests.owned.FULL_SPEC, same_namespace()], ids=["listener", "name only"])
def test_route_is_accepted(gateway_api: Api, spec):
    route = built(spec)
    wait_for("writes", lambda: gateway_api.create(ROUTES, route, dry_run=True).status_code not in {404, 429})
    gateway_api.ok(gateway_api.create(ROUTES, route, dry_run=True))


def test_a_filter_that_does_not_fit_its_type_is_refused(gateway_api: Api):
    route = built(manifests.owned.FULL_SPEC)
    route["spec"]["rules"][0]["backendRefs"][0]["filters"][0]["type"] = "RequestHeaderModifier"
    answer = gateway_api.create(ROUTES, route, dry_run=True)
    assert answer.status_code == 422, answer.text


def test_applying_again_changes_nothing(gateway_api: Api):
    route = built(manifests.owned.FULL_SPEC)
    path = f"{ROUTES}/{route['metadata']['name']}"
    first, second = (gateway_api.ok(gateway_api.apply(path, route, manager="solera")) for _ in range(2))
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
