"""The runner: results, back-off, time limits, liveness and an orderly end."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from manual_clock import ManualClock

from solera_operator.engine.errors import Conflict, Unavailable
from solera_operator.engine.metrics import Metrics
from solera_operator.engine.queue import WorkQueue
from solera_operator.engine.runner import Controller, Result
from solera_operator.engine.store import Key

KEY = ("ns", "name")


class Bench:
    """A controller whose reconcile the test gives."""

    def __init__(self, reconcile: Callable[[Key], Awaitable[Result]], **options: float) -> None:
        self.metrics = Metrics()
        self.queue = WorkQueue[Key]("test", metrics=self.metrics)
        self.controller = Controller("model", reconcile, self.queue, metrics=self.metrics, **options)

    async def once(self) -> None:
        """Run one key through, and stop."""
        self.queue.add(KEY)
        self.controller.start()
        async with asyncio.timeout(5):
            while not self.results():  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0.005)
        await self.controller.stop()

    def results(self) -> set[str]:
        lines = self.metrics.text().decode().splitlines()
        return {
            line.split('result="')[1].split('"')[0]
            for line in lines
            if line.startswith("solera_reconcile_seconds_count{")
        }


async def test_a_result_brings_the_key_back_in_time():
    async def reconcile(key: Key) -> Result:
        return Result(requeue_after=30.0)

    bench = Bench(reconcile)
    await bench.once()
    assert bench.results() == {"requeued"}
    due = bench.queue.next_due()
    assert due is not None
    assert 29.0 < due <= 30.0


async def test_without_a_result_only_a_change_brings_it_back():
    async def reconcile(key: Key) -> Result:
        return Result()

    bench = Bench(reconcile)
    await bench.once()
    assert bench.results() == {"done"}
    assert bench.queue.next_due() is None


@pytest.mark.parametrize(
    ("failure", "result", "at_least"),
    [
        (Conflict(409, "Conflict", "stale"), "conflict", 0.1),
        (Unavailable(503, "Busy", "later", retry_after=7.0), "unavailable", 6.5),
        (RuntimeError("bug"), "error", 0.1),
        (TimeoutError("its own"), "error", 0.1),
    ],
)
async def test_a_failure_brings_it_back_with_delay(failure: Exception, result: str, at_least: float):
    async def reconcile(key: Key) -> Result:
        raise failure

    bench = Bench(reconcile)
    await bench.once()
    assert bench.results() == {result}
    due = bench.queue.next_due()
    assert due is not None
    assert due > at_least
    assert bench.queue.failures(KEY) == 1


async def test_success_ends_the_back_off():
    attempts = 0

    async def reconcile(key: Key) -> Result:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise RuntimeError("once")
        return Result()

    bench = Bench(reconcile)
    bench.queue.add(KEY)
    bench.controller.start()
    async with asyncio.timeout(5):
        while attempts < 2 or bench.queue.running():  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.01)
    await bench.controller.stop()
    assert bench.queue.failures(KEY) == 0


async def test_a_reconcile_over_its_time_limit_is_cancelled_and_tried_again():
    async def reconcile(key: Key) -> Result:
        await asyncio.sleep(3600)
        return Result()

    bench = Bench(reconcile, time_limit=0.05)
    await bench.once()
    assert bench.results() == {"timeout"}
    assert bench.queue.failures(KEY) == 1


async def test_stopping_lets_what_runs_finish_and_takes_nothing_more():
    began, finish, finished = asyncio.Event(), asyncio.Event(), []

    async def reconcile(key: Key) -> Result:
        began.set()
        await finish.wait()
        finished.append(key)
        return Result()

    bench = Bench(reconcile, workers=1)
    bench.queue.add(KEY)
    bench.queue.add(("ns", "other"))
    bench.controller.start()
    await began.wait()
    stopping = asyncio.create_task(bench.controller.stop(grace=5))
    await asyncio.sleep(0.02)
    assert not stopping.done()
    finish.set()
    async with asyncio.timeout(5):
        await stopping
    assert finished == [KEY]


async def test_stopping_does_not_wait_longer_than_its_grace():
    began = asyncio.Event()

    async def reconcile(key: Key) -> Result:
        began.set()
        await asyncio.sleep(3600)
        return Result()

    bench = Bench(reconcile)
    bench.queue.add(KEY)
    bench.controller.start()
    await began.wait()
    async with asyncio.timeout(5):
        await bench.controller.stop(grace=0.05)
    assert bench.results() == {"cancelled"}


async def test_liveness_tells_a_stuck_reconcile_from_a_quiet_time():
    clock = ManualClock()
    queue = WorkQueue[Key]("test", clock=clock)

    async def reconcile(key: Key) -> Result:
        return Result()

    controller = Controller("model", reconcile, queue, time_limit=60, clock=clock)
    clock.move(3600)
    assert controller.trouble() is None, "nothing to do is no trouble"
    queue.add(KEY)
    assert queue.poll() == KEY  # somebody runs it and does not come back
    clock.move(89)
    assert controller.trouble() is None
    clock.move(2)
    trouble = controller.trouble()
    assert trouble == "model: reconcile of ns/name has run for 91 s"
