"""Lists that cannot be mended by an apply are replaced, and belong to nobody but the apply afterwards."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from solera_operator.engine.apply import Applier, footprint
from solera_operator.engine.client import KubeClient
from solera_operator.engine.errors import Conflict, Invalid
from solera_operator.engine.repair import replace_spec
from solera_operator.engine.resource import SERVICES


@pytest.fixture
async def client(api_kubeconfig: Path) -> AsyncIterator[KubeClient]:
    async with await KubeClient.connect(kubeconfig=api_kubeconfig) as connected:
        yield connected


async def service(client: KubeClient, namespace: str) -> dict[str, Any]:
    owner = await client.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": "owner"}}
    )
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "m",
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "solera"},
            "ownerReferences": [{**reference, "uid": owner["metadata"]["uid"]}],
        },
        "spec": {
            "selector": {"app": "m"},
            "ports": [{"name": "http", "port": 80}, {"name": "grpc", "port": 81}],
        },
    }


async def break_ports(client: KubeClient, namespace: str) -> dict[str, Any]:
    """As somebody else: a port without name, which goes with no other."""
    client.field_manager = "somebody"
    try:
        return await client.patch(SERVICES, namespace, "m", {"spec": {"ports": [{"port": 90}]}})
    finally:
        client.field_manager = "solera"


async def test_lists_are_replaced_and_have_one_owner(client: KubeClient, namespace: str):
    desired, applier = await service(client, namespace), Applier(client)
    await applier.apply(desired, None)
    broken = await break_ports(client, namespace)
    with pytest.raises(Invalid):
        await applier.apply(desired, footprint(broken))

    mended = await replace_spec(client, desired, broken["metadata"]["uid"])
    answer = await applier.apply(desired, footprint(mended))
    assert answer is not None
    assert [port["port"] for port in answer["spec"]["ports"]] == [80, 81]
    owners = {(e["manager"], e["operation"]) for e in answer["metadata"]["managedFields"]}
    assert ("solera", "Apply") in owners
    assert ("solera", "Update") not in owners
    assert await applier.apply(desired, footprint(answer)) is None, "and then there is nothing to write"

    del desired["spec"]["ports"][1]
    answer = await applier.apply(desired, footprint(answer))
    assert answer is not None
    assert [port["port"] for port in answer["spec"]["ports"]] == [80], "what is applied no longer goes"


async def test_another_object_of_that_name_is_left_alone(client: KubeClient, namespace: str):
    desired = await service(client, namespace)
    await Applier(client).apply(desired, None)
    with pytest.raises((Conflict, Invalid)):
        await replace_spec(client, desired, "00000000-0000-0000-0000-000000000000")
