"""The queue: deduplication, one worker a key, the earliest time wins, back-off."""

import asyncio
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule
from manual_clock import ManualClock

from solera_operator.engine.clock import SystemClock
from solera_operator.engine.metrics import Metrics
from solera_operator.engine.queue import WorkQueue

KEYS = st.sampled_from([("ns", name) for name in "abcd"])
DELAYS = st.sampled_from([0.0, 0.5, 1.0, 2.0, 10.0])


class QueueMachine(RuleBasedStateMachine):
    """The queue beside the simplest thing that could be right: a time for each key."""

    taken = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.queue = WorkQueue[tuple[str, str]]("test", clock=self.clock, rng=random.Random(1))
        self.wanted: dict[tuple[str, str], float] = {}  # key -> when it is to run
        self.running: set[tuple[str, str]] = set()
        self.failures: dict[tuple[str, str], int] = {}

    def want(self, key: tuple[str, str], when: float) -> None:
        self.wanted[key] = min(when, self.wanted.get(key, float("inf")))

    @rule(key=KEYS)
    def add(self, key: tuple[str, str]) -> None:
        self.queue.add(key)
        self.want(key, self.clock.seconds)

    @rule(key=KEYS, seconds=DELAYS)
    def add_after(self, key: tuple[str, str], seconds: float) -> None:
        self.queue.add_after(key, seconds)
        self.want(key, self.clock.seconds + seconds)

    @rule(seconds=DELAYS)
    def time_passes(self, seconds: float) -> None:
        self.clock.move(seconds)

    @rule(target=taken)
    def poll(self) -> tuple[str, str] | None:
        due = {k: t for k, t in self.wanted.items() if t <= self.clock.seconds and k not in self.running}
        key = self.queue.poll()
        if not due:
            assert key is None, f"{key} was handed out, but nothing is due"
            return None
        assert key in due, f"{key} was handed out, due were {due}, running {self.running}"
        del self.wanted[key]
        self.running.add(key)
        return key

    @rule(key=consumes(taken), failed=st.booleans())
    def done(self, key: tuple[str, str] | None, failed: bool) -> None:
        if key is None:
            return
        if failed:
            wait = self.queue.retry(key)
            count = self.failures[key] = self.failures.get(key, 0) + 1
            whole = min(60.0, 0.5 * 2 ** (count - 1))
            assert whole / 2 <= wait <= whole
            self.want(key, self.clock.seconds + wait)
        else:
            self.queue.forget(key)
            self.failures.pop(key, None)
        self.queue.done(key)
        self.running.discard(key)

    @invariant()
    def says_when_to_come_back(self) -> None:
        ready = [t for k, t in self.wanted.items() if k not in self.running]
        assert self.queue.depth() == sum(t <= self.clock.seconds for t in ready)
        later = [t - self.clock.seconds for t in ready if t > self.clock.seconds]
        assert self.queue.next_due() == (pytest.approx(min(later)) if later else None)
        assert set(self.queue.running()) == self.running

    @precondition(lambda self: not self.running)
    @rule()
    def nothing_is_lost(self) -> None:
        self.clock.move(100.0)
        handed_out = set()
        while (key := self.queue.poll()) is not None:
            handed_out.add(key)
            self.queue.done(key)
        assert handed_out == set(self.wanted)
        self.wanted.clear()


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, report_multiple_bugs=False
)


async def test_waiting_workers_get_every_key_once_at_a_time():
    queue = WorkQueue[tuple[str, str]]("test")
    running: set[tuple[str, str]] = set()
    runs: dict[tuple[str, str], int] = {}

    async def work() -> None:
        while (key := await queue.get()) is not None:
            assert key not in running, f"two workers have {key}"
            running.add(key)
            await asyncio.sleep(0)
            running.discard(key)
            runs[key] = runs.get(key, 0) + 1
            queue.done(key)

    workers = [asyncio.create_task(work()) for _ in range(3)]
    for round_ in range(50):
        for name in "abcdef":
            queue.add_after(("ns", name), 0.0 if round_ % 2 else 0.001)
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        while queue.depth() or queue.running() or queue.next_due() is not None:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.001)
    queue.close()
    await asyncio.gather(*workers)
    assert set(runs) == {("ns", name) for name in "abcdef"}
    assert all(count <= 50 for count in runs.values())


async def test_a_waiting_worker_wakes_up_when_a_delayed_key_is_due():
    clock = ManualClock()
    queue = WorkQueue[str]("test", clock=clock)
    queue.add_after("late", 60.0)
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0.01)
    assert not worker.done()
    clock.move(60.0)
    async with asyncio.timeout(5):
        assert await worker == "late"


async def test_an_earlier_time_wakes_a_worker_that_waits_for_a_later_one():
    queue = WorkQueue[str]("test", clock=SystemClock())
    queue.add_after("late", 3600.0)
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0.01)
    queue.add_after("soon", 0.01)
    async with asyncio.timeout(5):
        assert await worker == "soon"


async def test_a_worker_whose_key_runs_does_not_spin_for_it():
    """A key that is due again while it runs must not keep the other workers busy."""
    calls = 0

    class CountingClock(SystemClock):
        async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
            nonlocal calls
            calls += 1
            return await super().wait(event, seconds)

    queue = WorkQueue[str]("test", clock=CountingClock())
    queue.add("key")
    assert queue.poll() == "key"
    queue.add("key")
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0.05)
    assert calls == 1, "the worker woke up for a key that it cannot have"
    queue.done("key")
    async with asyncio.timeout(5):
        assert await worker == "key"


async def test_a_cancelled_worker_passes_its_turn_on():
    queue = WorkQueue[str]("test")
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("key")
    first.cancel()
    async with asyncio.timeout(5):
        assert await second == "key"


def test_back_off_grows_to_its_cap_and_is_forgotten():
    clock = ManualClock()
    queue = WorkQueue[str]("test", clock=clock)
    waits = [queue.retry("key") for _ in range(12)]
    assert 0.25 <= waits[0] <= 0.5
    assert 30.0 <= waits[-1] <= 60.0
    queue.forget("key")
    assert queue.retry("key") <= 0.5
    assert queue.retry("key", at_least=90.0) == 90.0


def test_metrics_show_depth_age_and_retries():
    clock, metrics = ManualClock(), Metrics()
    queue = WorkQueue[str]("models", clock=clock, metrics=metrics)
    queue.add("a")
    queue.add_after("b", 30)
    queue.retry("c")
    clock.move(5.0)
    text = metrics.text().decode()
    assert 'solera_queue_depth{queue="models"} 2.0' in text
    assert 'solera_queue_delayed{queue="models"} 1.0' in text
    assert 'solera_queue_oldest_seconds{queue="models"} 5.0' in text
    assert 'solera_queue_retries_total{queue="models"} 1.0' in text
