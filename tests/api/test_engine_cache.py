"""Caches against a real API server that stops, forgets and is cut off: the store is always made whole."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from engine_cluster import (
    CRDS,
    WIDGETS,
    ControlPlane,
    Wire,
    control_plane_of_ours,
    eventually,
    install_widgets,
    version_and_spec,
    widget,
    wired,
)

from solera_operator.engine.cache import Reflector
from solera_operator.engine.client import KubeClient
from solera_operator.engine.resource import NAMESPACES
from solera_operator.engine.source import Feed, KopfSource, WriteRefused
from solera_operator.engine.store import Key, Store
from solera_operator.engine.tasks import cancel_and_wait

__all__ = ["control_plane_of_ours"]
NS = "engine"


class Follower:
    """A cache that follows the widgets over a wire, and what it reported."""

    def __init__(self, kind: str, client: KubeClient, wire: Wire) -> None:
        self.wire = wire
        self.client = client
        self.changes: list[tuple[Key, Any, Any]] = []
        self.store: Store[Any]
        if kind == "kopf":
            source = KopfSource(client, namespaces=[NS], page_size=2)
            self.store = source.feed(WIDGETS, project=version_and_spec, on_change=self.note)
            self.run = source.run
        else:
            reflector = Reflector(
                client, WIDGETS, namespaces=[NS], project=version_and_spec, on_change=self.note, page_size=2
            )
            self.store, self.run = reflector, reflector.run

    def note(self, key: Key, old: Any, new: Any) -> None:
        self.changes.append((key, old, new))

    def content(self) -> dict[str, Any]:
        return {key[1]: value for key, value in zip(self.store.keys(), self.store.values(), strict=True)}


@pytest.fixture
async def direct(control_plane_of_ours: ControlPlane) -> AsyncIterator[KubeClient]:
    """A client whose wire is never cut; the namespace is there and empty."""
    async with await KubeClient.connect(
        kubeconfig=control_plane_of_ours.kubeconfig, resources=[WIDGETS, CRDS]
    ) as client:
        await install_widgets(client)
        await client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
        assert NAMESPACES.kind == "Namespace"
        for found in await client.list_all(WIDGETS, NS):
            await client.delete(WIDGETS, NS, found["metadata"]["name"])
        yield client


@pytest.fixture(params=["reflector", "kopf"])
async def follower(
    request: pytest.FixtureRequest, control_plane_of_ours: ControlPlane, direct: KubeClient
) -> AsyncIterator[Follower]:
    async with wired(control_plane_of_ours.kubeconfig) as (client, wire):
        following = Follower(request.param, client, wire)
        task = asyncio.create_task(following.run())
        yield following
        await cancel_and_wait(task)


async def truth(client: KubeClient) -> dict[str, Any]:
    return {o["metadata"]["name"]: version_and_spec(o) for o in await client.list_all(WIDGETS, NS)}


async def becomes_true(follower: Follower, direct: KubeClient, seconds: float = 15.0) -> None:
    expected = await truth(direct)
    await eventually(
        lambda: follower.content() == expected, f"the store is {expected}", seconds, follower.content
    )


async def test_an_empty_collection_is_synced(follower: Follower):
    async with asyncio.timeout(10):
        await follower.store.synced.wait()
    assert follower.content() == {}


async def test_what_was_there_before_comes_in_pages(control_plane_of_ours: ControlPlane, direct: KubeClient):
    for number in range(5):
        await direct.create(widget(NS, f"w{number}", size=number))
    for kind in ("reflector", "kopf"):
        async with wired(control_plane_of_ours.kubeconfig) as (client, wire):
            following = Follower(kind, client, wire)
            task = asyncio.create_task(following.run())
            async with asyncio.timeout(10):
                await following.store.synced.wait()
            assert following.content() == await truth(direct)
            assert len(following.changes) == 5, "each object is reported once"
            await cancel_and_wait(task)


async def test_changes_are_followed(follower: Follower, direct: KubeClient):
    await follower.store.synced.wait()
    await direct.create(widget(NS, "a", size=1))
    await direct.create(widget(NS, "b", size=1))
    await direct.patch(WIDGETS, NS, "a", {"spec": {"size": 2}})
    await becomes_true(follower, direct)
    await direct.delete(WIDGETS, NS, "b")
    await becomes_true(follower, direct)
    assert follower.changes[-1][0] == (NS, "b")
    assert follower.changes[-1][2] is None


async def test_an_own_write_is_seen_at_once_and_reported_once(follower: Follower, direct: KubeClient):
    await follower.store.synced.wait()
    answer = await direct.create(widget(NS, "mine", size=1))
    follower.store.observe(answer)
    assert follower.store.get(NS, "mine") == version_and_spec(answer)
    await direct.create(widget(NS, "later", size=1))
    await becomes_true(follower, direct)
    assert sum(key == (NS, "mine") for key, _, _ in follower.changes) == 1


async def test_a_cut_wire_loses_nothing(follower: Follower, direct: KubeClient):
    for name in ("kept", "changed", "deleted"):
        await direct.create(widget(NS, name, size=1))
    await follower.store.synced.wait()
    await becomes_true(follower, direct)
    follower.wire.cut()
    await direct.delete(WIDGETS, NS, "deleted")
    await direct.patch(WIDGETS, NS, "changed", {"spec": {"size": 2}})
    await direct.create(widget(NS, "created", size=3))
    follower.wire.mend()
    await becomes_true(follower, direct)


@pytest.mark.parametrize("round_", range(2))
async def test_a_restarted_api_server_that_has_forgotten_loses_nothing(
    follower: Follower, direct: KubeClient, control_plane_of_ours: ControlPlane, round_: int
):
    """After its restart the server's watch cache begins at the present: old watches get 410."""
    for name in ("kept", "changed", "deleted"):
        await direct.create(widget(NS, name, size=round_))
    await follower.store.synced.wait()
    await becomes_true(follower, direct)
    follower.wire.cut()
    await direct.delete(WIDGETS, NS, "deleted")
    await direct.patch(WIDGETS, NS, "changed", {"spec": {"size": 2}})
    control_plane_of_ours.stop_api_server()
    follower.wire.mend()
    await asyncio.to_thread(control_plane_of_ours.start_api_server)
    await direct_again(direct)
    await becomes_true(follower, direct, seconds=30.0)
    if isinstance(follower.store, Reflector):
        assert 'reason="expired"' in follower.client.metrics.text().decode(), (
            "no 410 was met: this tests less"
        )
    # and goes on
    await direct.delete(WIDGETS, NS, "kept")
    await becomes_true(follower, direct)


async def test_the_last_object_vanishing_unseen_is_noticed(
    follower: Follower, direct: KubeClient, control_plane_of_ours: ControlPlane
):
    """An empty list brings no event at all."""
    await direct.create(widget(NS, "only", size=1))
    await follower.store.synced.wait()
    await becomes_true(follower, direct)
    follower.wire.cut()
    await direct.delete(WIDGETS, NS, "only")
    control_plane_of_ours.stop_api_server()
    await asyncio.to_thread(control_plane_of_ours.start_api_server)
    follower.wire.mend()
    await direct_again(direct)
    await becomes_true(follower, direct, seconds=30.0)
    assert follower.changes[-1][2] is None


async def direct_again(direct: KubeClient) -> None:
    """Idle connections of the client died with the server: the first use of each may say so."""

    async def answers() -> bool:
        try:
            await direct.list_all(WIDGETS, NS)
        except Exception:  # noqa: BLE001 - whatever it is, it is not yet the answer
            return False
        return True

    await eventually(answers, "the API server answers again", 30.0)


async def test_kopf_writes_nothing(control_plane_of_ours: ControlPlane, direct: KubeClient):
    async with wired(control_plane_of_ours.kubeconfig) as (client, wire):
        following = Follower("kopf", client, wire)
        created = await direct.create(widget(NS, "quiet", size=1))
        task = asyncio.create_task(following.run())
        await becomes_true(following, direct)
        assert isinstance(following.store, Feed)
        changed = await direct.patch(WIDGETS, NS, "quiet", {"spec": {"size": 2}})
        await becomes_true(following, direct)
        other = await direct.create(widget(NS, "other", size=1))  # seen, so "quiet" has been handled
        await becomes_true(following, direct)
        now = await direct.get(WIDGETS, NS, "quiet")
        assert now == changed, "kopf has changed the object"
        assert {entry["manager"] for entry in now["metadata"]["managedFields"]} == {"solera"}
        assert "finalizers" not in now["metadata"]
        assert "annotations" not in now["metadata"]
        assert created["metadata"]["uid"] == now["metadata"]["uid"]
        assert other["metadata"]["managedFields"]
        sent = {
            line.split('verb="')[1].split('"')[0]
            for line in client.metrics.text().decode().splitlines()
            if line.startswith("solera_api_requests_total{")
        }
        assert sent <= {"get", "list", "watch"}, f"requests of these verbs were sent: {sent}"
        await cancel_and_wait(task)


async def test_kopf_is_not_able_to_write(control_plane_of_ours: ControlPlane):
    """Whatever its settings say: its session does not let a write pass."""
    async with wired(control_plane_of_ours.kubeconfig) as (client, _):
        session = (await KopfSource(client)._login()).aiohttp_session
        async with session:
            url = client.credentials.server + WIDGETS.path(NS, "quiet")
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                with pytest.raises(WriteRefused, match="kopf only reads here"):
                    await session.request(method, url, json={})


async def test_kopf_waits_for_a_kind_that_is_installed_later(
    control_plane_of_ours: ControlPlane, direct: KubeClient, monkeypatch: pytest.MonkeyPatch
):
    """kopf itself looks for kinds once, when it starts; so it is started again until it finds them."""
    monkeypatch.setattr("solera_operator.engine.source._FIND_SECONDS", 1.0)
    await direct.delete(CRDS, None, f"{WIDGETS.plural}.{WIDGETS.group}")
    signals = 0

    def count() -> None:
        nonlocal signals
        signals += 1

    async with wired(control_plane_of_ours.kubeconfig) as (client, _):
        source = KopfSource(client, namespaces=[NS], install_signals=count)
        feed = source.feed(WIDGETS, project=version_and_spec)
        task = asyncio.create_task(source.run())
        await eventually(lambda: signals >= 2, "kopf was started again")
        assert not feed.synced.is_set()
        await install_widgets(direct)
        await direct.create(widget(NS, "late", size=1))
        async with asyncio.timeout(20):
            await feed.synced.wait()
        await eventually(lambda: feed.get(NS, "late") is not None, "the object is seen")
        await cancel_and_wait(task)


async def test_kopf_keeps_nothing_of_what_is_gone(control_plane_of_ours: ControlPlane, direct: KubeClient):
    """No task and no memory of kopf's stays behind an object that came and went."""
    async with wired(control_plane_of_ours.kubeconfig) as (client, wire):
        following = Follower("kopf", client, wire)
        task = asyncio.create_task(following.run())
        await following.store.synced.wait()
        before = len(asyncio.all_tasks())
        for number in range(60):
            await direct.create(widget(NS, f"brief{number}", size=number))
            await direct.delete(WIDGETS, NS, f"brief{number}")
        await eventually(
            lambda: sum(new is None for _, _, new in following.changes) == 60, "all deletions are reported"
        )
        await eventually(lambda: len(asyncio.all_tasks()) <= before, "kopf's tasks have ended")
        gc.collect()
        kept = [found for found in gc.get_objects() if type(found).__name__ == "ResourceMemory"]
        assert len(kept) <= 1, f"kopf keeps {len(kept)} records"
        await cancel_and_wait(task)
