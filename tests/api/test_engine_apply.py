"""Server-side apply against a real API server: written once, silent afterwards, foreign edits put back."""

import asyncio
import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from engine_cluster import eventually

from solera_operator.engine.apply import Applier, Footprint, NameConflict, footprint
from solera_operator.engine.cache import Reflector
from solera_operator.engine.client import KubeClient
from solera_operator.engine.resource import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from solera_operator.engine.tasks import cancel_and_wait

SELECTOR = "app.kubernetes.io/managed-by=solera"
KINDS = (SERVICES, DEPLOYMENTS, AUTOSCALERS, DISRUPTION_BUDGETS, NETWORK_POLICIES, SERVICE_ACCOUNTS)
LABELS = {"app.kubernetes.io/name": "m", "app.kubernetes.io/managed-by": "solera"}
POD_SECURITY = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER = {
    "name": "server",
    "image": "solera-server:1",
    "args": ["serve", "--port", "8080"],
    "env": [{"name": "A", "value": "1"}, {"name": "EMPTY", "value": ""}],
    "ports": [{"name": "http", "containerPort": 8080}, {"name": "management", "containerPort": 8081}],
    "resources": {"requests": {"cpu": "1000m", "memory": "0.5Gi"}, "limits": {"memory": "1024Mi"}},
    "readinessProbe": {"httpGet": {"path": "/readyz", "port": "management"}, "periodSeconds": 2},
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    "volumeMounts": [{"name": "model", "mountPath": "/model", "readOnly": True}],
}
SPECS: dict[Resource, dict[str, Any]] = {
    SERVICES: {
        "selector": {"app.kubernetes.io/name": "m"},
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "grpc", "port": 81}],
    },
    DEPLOYMENTS: {
        "selector": {"matchLabels": {"app.kubernetes.io/name": "m"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
        "template": {
            "metadata": {"labels": {"app.kubernetes.io/name": "m"}},
            "spec": {
                "containers": [CONTAINER],
                "automountServiceAccountToken": False,
                "securityContext": POD_SECURITY,
                "terminationGracePeriodSeconds": 60,
                "volumes": [
                    {"name": "model", "emptyDir": {"sizeLimit": "1Gi"}},
                    {"name": "tmp", "emptyDir": {}},
                ],
                "tolerations": [],
            },
        },
    },
    AUTOSCALERS: {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "m"},
        "minReplicas": 1,
        "maxReplicas": 5,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
            }
        ],
    },
    DISRUPTION_BUDGETS: {"maxUnavailable": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": "m"}}},
    NETWORK_POLICIES: {
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "m"}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 8080, "protocol": "TCP"}]}],
    },
}


def child(resource: Resource, namespace: str, owner: dict[str, Any]) -> dict[str, Any]:
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {"namespace": namespace, "name": "m", "labels": LABELS, "ownerReferences": [reference]}
    obj: dict[str, Any] = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
    if resource in SPECS:
        obj["spec"] = copy.deepcopy(SPECS[resource])
    else:
        obj["automountServiceAccountToken"] = False
    return obj


class Site:
    """A namespace with an owner, caches of the kinds that are applied, and an Applier."""

    def __init__(self, client: KubeClient, namespace: str, owner: dict[str, Any]) -> None:
        self.client = client
        self.namespace = namespace
        self.owner = owner
        self.applier = Applier(client)
        self.caches = {
            kind: Reflector(client, kind, project=footprint, namespaces=[namespace], label_selector=SELECTOR)
            for kind in KINDS
        }

    async def apply(self, desired: dict[str, Any]) -> dict[str, Any] | None:
        cache = self.caches[self.client.resource_of(desired)]
        live = cache.get(self.namespace, desired["metadata"]["name"])
        return await self.applier.apply(desired, live, cache.observe)

    async def live(self, kind: Resource) -> dict[str, Any]:
        found = await self.client.get(kind, self.namespace, "m")
        assert found is not None
        return found

    def writes(self) -> float:
        counter = self.client.metrics.api_requests
        samples = [sample for metric in counter.collect() for sample in metric.samples]
        return sum(
            s.value
            for s in samples
            if s.name.endswith("_total") and s.labels["verb"] not in {"get", "list", "watch"}
        )

    async def sees(self, kind: Resource, obj: dict[str, Any]) -> None:
        """Wait until the cache has heard by its watch what somebody else did."""
        wanted = int(obj["metadata"]["resourceVersion"])
        cache = self.caches[kind]
        await eventually(
            lambda: cache._highest >= wanted, f"the cache of {kind.label} has heard of version {wanted}"
        )


@pytest.fixture
async def client(api_kubeconfig: Path) -> AsyncIterator[KubeClient]:
    async with await KubeClient.connect(kubeconfig=api_kubeconfig) as connected:
        yield connected


@pytest.fixture
async def site(client: KubeClient, namespace: str) -> AsyncIterator[Site]:
    owner = await client.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": "owner"}}
    )
    made = Site(client, namespace, owner)
    tasks = [asyncio.create_task(cache.run()) for cache in made.caches.values()]
    async with asyncio.timeout(20):
        for cache in made.caches.values():
            await cache.synced.wait()
    yield made
    await cancel_and_wait(*tasks)


@pytest.fixture
def foreign(client: KubeClient) -> KubeClient:
    """The same API server as somebody else."""
    other = copy.copy(client)
    other.field_manager = "somebody"
    return other


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.plural)
async def test_written_once_then_never_even_after_a_restart(site: Site, kind: Resource):
    desired = child(kind, site.namespace, site.owner)
    answer = await site.apply(desired)
    assert answer is not None
    before = site.writes()
    assert await site.apply(copy.deepcopy(desired)) is None
    site.applier = Applier(site.client)  # an operator that has just started remembers nothing
    assert await site.apply(copy.deepcopy(desired)) is None, (
        f"a restart would write {kind.kind} again; ours are {footprint(answer).fields}"
    )
    assert site.writes() == before
    now = await site.live(kind)
    assert now["metadata"]["resourceVersion"] == answer["metadata"]["resourceVersion"]


async def test_a_change_of_ours_is_written(site: Site):
    desired = child(DEPLOYMENTS, site.namespace, site.owner)
    await site.apply(desired)
    del desired["spec"]["template"]["spec"]["containers"][0]["env"][0]
    desired["spec"]["template"]["spec"]["containers"][0]["image"] = "solera-server:2"
    assert await site.apply(desired) is not None
    container = (await site.live(DEPLOYMENTS))["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "solera-server:2"
    assert [variable["name"] for variable in container["env"]] == ["EMPTY"]


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        (SERVICES, {"spec": {"selector": {"app.kubernetes.io/name": "stolen"}}}),
        (SERVICES, {"spec": {"ports": [{"name": "http", "port": 80, "targetPort": 9999}]}}),
        (DEPLOYMENTS, {"spec": {"template": {"spec": {"automountServiceAccountToken": True}}}}),
        (DEPLOYMENTS, {"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": 1}}}}),
        (DEPLOYMENTS, {"spec": {"template": {"spec": {"volumes": None, "containers": [
            {"name": "server", "image": "other:1"}]}}}}),
        (AUTOSCALERS, {"spec": {"maxReplicas": 50}}),
        (AUTOSCALERS, {"spec": {"metrics": None}}),
        (NETWORK_POLICIES, {"spec": {"ingress": [{}]}}),
        (DISRUPTION_BUDGETS, {"metadata": {"labels": {"app.kubernetes.io/name": "other"}}}),
        (DISRUPTION_BUDGETS, {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}),
        (SERVICE_ACCOUNTS, {"metadata": {"ownerReferences": None}}),
        (SERVICE_ACCOUNTS, {"automountServiceAccountToken": None}),
    ],
    ids=lambda value: value.plural if isinstance(value, Resource) else None,
)  # fmt: skip
@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
async def test_a_foreign_edit_of_our_fields_is_put_back(
    site: Site, foreign: KubeClient, kind: Resource, patch: dict[str, Any], restarted: bool
):
    desired = child(kind, site.namespace, site.owner)
    await site.apply(desired)
    good = await site.live(kind)
    bad = await foreign.patch(kind, site.namespace, "m", patch)
    await site.sees(kind, bad)
    if restarted:
        site.applier = Applier(site.client)
    assert await site.apply(desired) is not None, f"the edit {patch} was not noticed"
    now = await site.live(kind)
    for obj in (good, now):
        for noise in ("resourceVersion", "generation", "managedFields"):
            obj["metadata"].pop(noise, None)
    assert now == good
    assert await site.apply(desired) is None, "putting back does not come to rest"


async def test_what_others_add_beside_our_fields_stays_and_costs_nothing(site: Site, foreign: KubeClient):
    desired = child(DEPLOYMENTS, site.namespace, site.owner)
    await site.apply(desired)
    theirs = {"metadata": {"annotations": {"theirs": "1"}}, "spec": {"replicas": 7}}
    changed = await foreign.patch(DEPLOYMENTS, site.namespace, "m", theirs)
    await site.sees(DEPLOYMENTS, changed)
    before = site.writes()
    assert await site.apply(desired) is None
    site.applier = Applier(site.client)
    assert await site.apply(desired) is None
    assert site.writes() == before
    now = await site.live(DEPLOYMENTS)
    assert now["spec"]["replicas"] == 7
    assert now["metadata"]["annotations"]["theirs"] == "1"


async def test_a_deleted_child_is_made_again(site: Site):
    desired = child(SERVICES, site.namespace, site.owner)
    await site.apply(desired)
    await site.client.delete(SERVICES, site.namespace, "m")
    await eventually(lambda: not list(site.caches[SERVICES].keys()), "the cache has lost the Service")
    assert await site.apply(desired) is not None


async def test_a_name_that_is_taken_is_refused_and_not_touched(site: Site, foreign: KubeClient):
    theirs = await foreign.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": site.namespace, "name": "m"},
            "spec": {"ports": [{"port": 1}]},
        }
    )
    with pytest.raises(NameConflict, match="was not made by Solera") as caught:
        await site.apply(child(SERVICES, site.namespace, site.owner))
    assert not caught.value.leftover
    assert await site.live(SERVICES) == theirs


async def test_a_child_of_another_owner_is_refused_as_leftover(site: Site):
    mine = child(SERVICES, site.namespace, site.owner)
    await site.apply(mine)
    before = await site.live(SERVICES)
    successor = copy.deepcopy(mine)
    successor["metadata"]["ownerReferences"][0]["uid"] = "11111111-2222-3333-4444-555555555555"
    with pytest.raises(NameConflict, match="belongs to another owner") as caught:
        await site.apply(successor)
    assert caught.value.leftover
    assert await site.live(SERVICES) == before


async def test_a_child_that_is_going_away_is_left_alone(site: Site, foreign: KubeClient):
    desired = child(CONFIG_MAPS, site.namespace, site.owner)
    del desired["automountServiceAccountToken"]
    first = await site.applier.apply(desired, None)
    assert first is not None
    kept = {"metadata": {"finalizers": ["solera.dev/test"]}}
    await foreign.patch(CONFIG_MAPS, site.namespace, "m", kept)
    await site.client.delete(CONFIG_MAPS, site.namespace, "m")
    before = site.writes()
    assert await site.applier.apply({**desired, "data": {"a": "1"}}, None) is None
    assert site.writes() == before
    await foreign.patch(CONFIG_MAPS, site.namespace, "m", {"metadata": {"finalizers": None}})


async def test_a_builder_that_forgets_owner_or_label_is_told(site: Site):
    desired = child(SERVICES, site.namespace, site.owner)
    with pytest.raises(ValueError, match="names no controller"):
        await site.apply({**desired, "metadata": {**desired["metadata"], "ownerReferences": []}})
    with pytest.raises(ValueError, match="lacks the label"):
        await site.apply({**desired, "metadata": {**desired["metadata"], "labels": {}}})


def test_children_of_a_kind_share_their_fields_in_memory():
    def live(owner: str) -> Footprint:
        fields = {"f:metadata": {"f:ownerReferences": {f'k:{{"uid":"{owner}"}}': {}}}}
        entry = {"manager": "solera", "operation": "Apply", "fieldsV1": fields}
        references = [{"uid": owner, "controller": True}]
        return footprint({"metadata": {"managedFields": [entry], "ownerReferences": references}})

    assert live("1111").fields is live("2222").fields
