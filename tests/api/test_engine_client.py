"""Client, status and events against a real API server: typed errors, preconditions, no needless write."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from engine_cluster import CRDS, WIDGETS, Wire, eventually, install_widgets, widget

from solera_operator.engine import errors
from solera_operator.engine.client import KubeClient
from solera_operator.engine.events import EventRecorder
from solera_operator.engine.resource import CONFIG_MAPS, EVENTS
from solera_operator.engine.status import patch_if_changed
from solera_operator.engine.tasks import cancel_and_wait


@pytest.fixture
async def client(api_kubeconfig: Path) -> AsyncIterator[KubeClient]:
    async with await KubeClient.connect(kubeconfig=api_kubeconfig, resources=[WIDGETS, CRDS]) as connected:
        await install_widgets(connected)
        yield connected


def config_map(namespace: str, name: str, **data: str) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def test_create_get_patch_delete(client: KubeClient, namespace: str):
    assert await client.get(CONFIG_MAPS, namespace, "a") is None
    made = await client.create(config_map(namespace, "a", x="1"))
    assert await client.get(CONFIG_MAPS, namespace, "a") == made
    metadata = await client.get(CONFIG_MAPS, namespace, "a", metadata_only=True)
    assert metadata is not None
    assert metadata["metadata"] == made["metadata"]
    assert "data" not in metadata
    assert (await client.patch(CONFIG_MAPS, namespace, "a", {"data": {"x": "2"}}))["data"] == {"x": "2"}
    assert await client.delete(CONFIG_MAPS, namespace, "a")
    assert not await client.delete(CONFIG_MAPS, namespace, "a")


async def test_pages_cover_the_collection_at_one_version(client: KubeClient, namespace: str):
    for number in range(5):
        await client.create(config_map(namespace, f"c{number}"))
    pages = [page async for page in client.list_pages(CONFIG_MAPS, namespace, limit=2)]
    assert [len(items) for items, _ in pages][:2] == [2, 2]
    assert len({version for _, version in pages}) == 1
    found = [item for items, _ in pages for item in items]
    assert {item["metadata"]["name"] for item in found} >= {f"c{number}" for number in range(5)}
    assert all(item["kind"] == "ConfigMap" and item["apiVersion"] == "v1" for item in found)


async def test_refusals_have_their_types(client: KubeClient, namespace: str):
    made = await client.create(config_map(namespace, "taken"))
    with pytest.raises(errors.AlreadyExists) as exists:
        await client.create(config_map(namespace, "taken"))
    assert exists.value.details["name"] == "taken"
    with pytest.raises(errors.Invalid, match="is invalid"):
        await client.create(config_map(namespace, "Not A Name"))
    with pytest.raises(errors.Invalid, match='unknown field "typo"'):
        await client.create({**config_map(namespace, "b"), "typo": 1})
    with pytest.raises(errors.NotFound):
        await client.patch(CONFIG_MAPS, namespace, "nowhere", {"data": {}})
    with pytest.raises(errors.Conflict):
        await client.delete(CONFIG_MAPS, namespace, "taken", uid="11111111-2222-3333-4444-555555555555")
    stale = {"metadata": {"resourceVersion": "1"}, "data": {"x": "1"}}
    with pytest.raises(errors.Conflict):
        await client.patch(CONFIG_MAPS, namespace, "taken", stale)
    assert await client.delete(CONFIG_MAPS, namespace, "taken", uid=made["metadata"]["uid"])
    with pytest.raises(KeyError, match="not known to this client"):
        await client.create({"apiVersion": "v9", "kind": "Nothing", "metadata": {"name": "x"}})


async def test_no_answer_is_unavailable_and_counted(api_kubeconfig: Path, client: KubeClient):
    wire = Wire(client.credentials.server)
    await wire.open()
    async with await KubeClient.connect(kubeconfig=api_kubeconfig) as other:
        other.credentials.server = wire.address
        assert await other.get(CONFIG_MAPS, "default", "nothing") is None
        wire.cut()
        with pytest.raises(errors.Unavailable, match="did not answer"):
            await other.get(CONFIG_MAPS, "default", "nothing")
        text = other.metrics.text().decode()
        assert 'solera_api_requests_total{code="0",resource="configmaps",verb="get"} 1.0' in text
        assert 'solera_api_requests_total{code="404",resource="configmaps",verb="get"} 1.0' in text
    await wire.close()


async def test_status_is_written_only_when_it_says_something_new(client: KubeClient, namespace: str):
    live = await client.create(widget(namespace, "w", size=1))
    conditions = [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Progressing",
            "message": "m",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        }
    ]
    status = {"conditions": conditions, "serving": {"replicas": 1, "version": "w-v1"}, "url": "http://w"}
    written = await patch_if_changed(client, live, status)
    assert written is not None
    assert written["status"] == status
    assert await patch_if_changed(client, written, status) is None
    again = await client.get(WIDGETS, namespace, "w")
    assert again == written
    # What is no longer wanted goes away, also inside.
    less = {"conditions": conditions, "serving": {"replicas": 2}, "url": None}
    written = await patch_if_changed(client, written, less)
    assert written is not None
    assert written["status"] == {"conditions": conditions, "serving": {"replicas": 2}}
    assert await patch_if_changed(client, written, less) is None


async def test_a_status_decided_on_something_stale_is_refused(client: KubeClient, namespace: str):
    live = await client.create(widget(namespace, "w", size=1))
    await client.patch(WIDGETS, namespace, "w", {"spec": {"size": 2}})
    with pytest.raises(errors.Conflict):
        await patch_if_changed(client, live, {"champion": {"version": "w-v1"}})
    now = await client.get(WIDGETS, namespace, "w")
    assert now is not None
    assert "status" not in now


async def test_events_are_posted_once_and_failures_disturb_nobody(client: KubeClient, namespace: str):
    about = await client.create(widget(namespace, "w", size=1))
    recorder = EventRecorder(client, instance="test")
    posting = asyncio.create_task(recorder.run())
    for _ in range(3):
        recorder.emit(about, reason="Promoted", note="w-v2 serves", action="Promote")
    recorder.emit(about, reason="Rejected", note="é" * 5000, action="Reject", kind="Warning")
    gone = {**about, "metadata": {**about["metadata"], "namespace": "no-such-namespace"}}
    recorder.emit(gone, reason="Lost", note="nobody hears this", action="None")

    async def posted() -> list[dict[str, Any]]:
        return await client.list_all(EVENTS, namespace)

    async def both() -> bool:
        return len(await posted()) >= 2

    await eventually(both, "both events are there")
    await recorder.drain()
    found = {event["reason"]: event for event in await posted()}
    assert set(found) == {"Promoted", "Rejected"}
    assert len(await posted()) == 2
    assert found["Rejected"]["type"] == "Warning"
    assert 1022 <= len(found["Rejected"]["note"].encode()) <= 1024
    assert found["Promoted"]["regarding"]["uid"] == about["metadata"]["uid"]
    text = client.metrics.text().decode()
    assert 'solera_events_total{result="duplicate"} 2.0' in text
    assert 'solera_events_total{result="failed"} 1.0' in text
    await cancel_and_wait(posting)


async def test_a_flood_of_events_is_limited(client: KubeClient, namespace: str):
    about = await client.create(widget(namespace, "w", size=1))
    recorder = EventRecorder(client, instance="test")
    for number in range(200):
        recorder.emit(about, reason="Flood", note=str(number), action="None")
    text = client.metrics.text().decode()
    limited = next(line for line in text.splitlines() if 'events_total{result="limited"}' in line)
    assert float(limited.split()[-1]) >= 140
