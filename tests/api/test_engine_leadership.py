"""Leadership against a real API server, with candidates as processes that are killed, cut off and robbed."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine_cluster import Wire, eventually

from solera_operator.engine.client import KubeClient, Object
from solera_operator.engine.leadership import EXIT_LOST, Leadership
from solera_operator.engine.resource import LEASES

CANDIDATE = Path(__file__).with_name("engine_candidate.py")


class Candidate:
    """A process; `leads` becomes true when it says so."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.leads = False
        self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.leads = self.leads or line == b"leading\n"

    async def starts_leading(self, seconds: float) -> float:
        """Wait for that; seconds that it took."""
        began = time.monotonic()
        await eventually(lambda: self.leads, "the candidate leads", seconds)
        return time.monotonic() - began

    async def ends(self, seconds: float) -> int:
        async with asyncio.timeout(seconds):
            return await self.process.wait()


@pytest.fixture
async def client(api_kubeconfig: Path) -> AsyncIterator[KubeClient]:
    async with await KubeClient.connect(kubeconfig=api_kubeconfig) as connected:
        yield connected


@pytest.fixture
async def candidates(api_kubeconfig: Path, namespace: str, client: KubeClient) -> AsyncIterator["Start"]:
    start = Start(api_kubeconfig, namespace, client.credentials.server)
    yield start
    for candidate in start.started:
        with contextlib.suppress(ProcessLookupError):
            candidate.process.kill()
        await candidate.process.wait()


class Start:
    def __init__(self, kubeconfig: Path, namespace: str, server: str) -> None:
        self.arguments = (str(kubeconfig), namespace)
        self.server = server
        self.started: list[Candidate] = []

    async def __call__(self, server: str | None = None) -> Candidate:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(CANDIDATE),
            *self.arguments,
            server or self.server,
            stdout=asyncio.subprocess.PIPE,
        )
        candidate = Candidate(process)
        self.started.append(candidate)
        return candidate


async def lease(client: KubeClient, namespace: str) -> Object:
    found = await client.get(LEASES, namespace, "candidates")
    assert found is not None
    return found


async def test_a_killed_leader_is_replaced_within_ten_seconds(
    candidates: Start, client: KubeClient, namespace: str
):
    first = await candidates()
    await first.starts_leading(10)
    second = await candidates()
    await asyncio.sleep(3)  # time in which a second leader could wrongly come up
    assert not second.leads
    first.process.kill()
    took = await second.starts_leading(10)
    assert took < 10
    found = (await lease(client, namespace))["spec"]
    assert found["leaseTransitions"] == 1
    assert found["leaseDurationSeconds"] == 6


async def test_a_leader_that_stops_in_order_hands_over_at_once(candidates: Start):
    first = await candidates()
    await first.starts_leading(10)
    second = await candidates()
    await asyncio.sleep(2)
    first.process.send_signal(signal.SIGTERM)
    assert await first.ends(5) == 0
    assert await second.starts_leading(10) < 4


async def test_a_leader_that_is_cut_off_exits_before_its_lease_runs_out(candidates: Start):
    wire = Wire(candidates.server)
    await wire.open()
    first = await candidates(wire.address)
    await first.starts_leading(10)
    wire.cut()
    began = time.monotonic()
    assert await first.ends(10) == EXIT_LOST
    assert time.monotonic() - began < 6.0
    await wire.close()


async def test_a_leader_that_is_robbed_exits_at_its_next_renewal(
    candidates: Start, client: KubeClient, namespace: str
):
    first = await candidates()
    await first.starts_leading(10)
    for _ in range(20):  # the holder may renew between our read and our write
        stolen = await lease(client, namespace)
        stolen["spec"]["holderIdentity"] = "somebody else"
        with contextlib.suppress(Exception):
            await client.replace(stolen)
            break
    assert await first.ends(6) == EXIT_LOST


async def test_a_leader_that_was_frozen_too_long_exits_when_it_wakes_up(candidates: Start):
    first = await candidates()
    await first.starts_leading(10)
    first.process.send_signal(signal.SIGSTOP)
    second = await candidates()
    await second.starts_leading(12)
    first.process.send_signal(signal.SIGCONT)
    assert await first.ends(5) == EXIT_LOST


async def test_somebodys_label_on_the_lease_does_not_cost_the_leadership(client: KubeClient, namespace: str):
    lost = asyncio.Event()
    leadership = Leadership(
        client, namespace, "candidates", duration=3, renew_every=0.2, deadline=2, on_lost=lost.set
    )
    task = asyncio.create_task(leadership.run())
    async with asyncio.timeout(5):
        await leadership.leading.wait()
    assert "solera_leader 1.0" in client.metrics.text().decode()
    for number in range(5):
        await client.patch(LEASES, namespace, "candidates", {"metadata": {"labels": {"n": str(number)}}})
        await asyncio.sleep(0.3)
    assert leadership.leading.is_set()
    assert not lost.is_set()
    await leadership.release()
    await task
    assert (await lease(client, namespace))["spec"]["holderIdentity"] == ""
    assert "solera_leader 0.0" in client.metrics.text().decode()


async def test_a_lease_that_changed_since_its_last_renewal_is_released_all_the_same(
    client: KubeClient, namespace: str
):
    """As when a renewal is under way as the release begins: the API server has it, we have no answer yet."""
    leadership = Leadership(client, namespace, "candidates")
    task = asyncio.create_task(leadership.run())
    async with asyncio.timeout(5):
        await leadership.leading.wait()
    await client.patch(LEASES, namespace, "candidates", {"metadata": {"labels": {"n": "1"}}})
    await leadership.release()
    assert (await lease(client, namespace))["spec"]["holderIdentity"] == ""
    await task


async def test_a_renewal_and_a_release_at_once_end_with_a_free_lease(client: KubeClient, namespace: str):
    lost = asyncio.Event()
    for _ in range(5):
        leadership = Leadership(
            client, namespace, "candidates", duration=3, renew_every=0.001, deadline=2, on_lost=lost.set
        )
        task = asyncio.create_task(leadership.run())
        async with asyncio.timeout(5):
            await leadership.leading.wait()
        await asyncio.sleep(0.02)  # it renews without a pause: one renewal is under way at any time
        await leadership.release()
        await task
        assert (await lease(client, namespace))["spec"]["holderIdentity"] == ""
    assert not lost.is_set()


async def test_a_release_leaves_the_lease_to_who_has_it_now(client: KubeClient, namespace: str):
    leadership = Leadership(client, namespace, "candidates")
    task = asyncio.create_task(leadership.run())
    async with asyncio.timeout(5):
        await leadership.leading.wait()
    taken = {"spec": {"holderIdentity": "somebody else"}}
    await client.patch(LEASES, namespace, "candidates", taken)
    await leadership.release()
    assert (await lease(client, namespace))["spec"]["holderIdentity"] == "somebody else"
    await task


async def test_who_stands_by_says_so_and_writes_nothing(client: KubeClient, namespace: str):
    first = Leadership(client, namespace, "candidates", identity="first")
    second = Leadership(client, namespace, "candidates", identity="second")
    tasks = [asyncio.create_task(first.run())]
    async with asyncio.timeout(5):
        await first.leading.wait()
    assert not second.standing_by, "it has not seen the Lease yet"
    tasks.append(asyncio.create_task(second.run()))
    await eventually(lambda: second.standing_by, "the second one stands by")
    assert not second.leading.is_set()
    assert not first.standing_by
    spec = (await lease(client, namespace))["spec"]
    assert spec["holderIdentity"] == "first"
    for leadership in (first, second):
        await leadership.release()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_impossible_times_are_refused(client: KubeClient):
    with pytest.raises(ValueError, match="renew_every < deadline < duration"):
        Leadership(client, "ns", "name", duration=6, renew_every=5, deadline=4)
