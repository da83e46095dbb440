"""
When and where predictions run, and which requests are turned away.

What arrived in one turn of the event loop is predicted together, without waiting for more: short work on
the loop itself, long work in the prediction thread. A request is turned away, before its body is decoded,
when it would wait too long for those before it.
"""

from __future__ import annotations

import logging
import math
from time import perf_counter
from typing import TYPE_CHECKING, Any

from solera_server.costs import Costs, measure
from solera_server.job import Merger
from solera_server.worker import MERGED_JOBS, Task, Worker

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from solera_server.batch import Batch, Layout
    from solera_server.job import Job
    from solera_server.limits import Limits
    from solera_server.plain_turn import PlainTurn
    from solera_server.predictor import Outputs, Predictor

log = logging.getLogger(__name__)

SMALL_BODY = 64 * 1024
"""Larger bodies are decoded in the thread, in the lane of the large; bytes."""
_LOOP_SECONDS = 0.001
"""What takes longer does not run on the event loop."""
_TURN_SECONDS = 0.005
_LONGEST_TURN_SECONDS = 0.025
_SHARE = 4
"""
How long the predictions of one turn of the loop may take together: so many times as long as what came
before them (reading, decoding, turning away), within these bounds. So most of the time goes to what was
taken however much is turned away, and who is turned away learns it soon.
"""
_ANSWER_SECONDS = 30e-6
_OBSERVED = 8
"""One in so many plain turns is measured: there may be ten thousand a second."""
_PLAIN_REQUESTS = 500
"""How many plain requests a turn takes at most; answering one takes some 10 microseconds."""


class Scheduler:
    """
    Takes jobs on the event loop, and delivers their answers on it.

    ``in_flight`` counts those that wait or run. Of the limits it keeps ``in_flight`` and ``wait_seconds``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self._loop = loop
        self._limits = limits
        self._worker = Worker(loop, self._finished)
        self._predictor: Predictor | None = None
        self._costs = Costs(0.0, 0.0, 1.0)
        self._short_rows = 0
        """Rows up to which a request is predicted on the loop; 0 where none is."""
        self._row_seconds = 0.0
        self._merger = Merger()
        self._arrived: list[Job] = []
        self._arrived_seconds = 0.0
        """What predicting those is going to take."""
        self._behind = 0.0
        """For how long the first of those has waited, at the end of the last turn."""
        self._turn_ended = 0.0
        self._lanes = [_Backlog(), _Backlog()]
        self._in_flight = self._turns = 0
        self.plain: PlainTurn | None = None
        """Takes short requests by itself, within ``room``; refreshed when that changes."""

    def start(self) -> None:
        self._worker.start()

    def stop(self) -> None:
        """End the prediction thread after what it has; does not wait for it."""
        self._worker.stop()

    def serve(self, predictor: Predictor, layout: Layout) -> None:
        """Set what predicts, and measure what it costs; before the first job."""
        self._predictor = predictor
        self._costs = measure(predictor, layout)
        if predictor.kind == "compiled" and self._costs.of_rows(1) <= _LOOP_SECONDS:
            self._measure_short()
        self._worker.serve(predictor, self._costs)

    @property
    def in_flight(self) -> int:
        return self._in_flight + (0 if self.plain is None else len(self.plain))

    @property
    def queued(self) -> int:
        """How many jobs have not been begun."""
        return self._worker.queued + len(self._arrived) + (0 if self.plain is None else len(self.plain))

    def busy_seconds(self) -> float:
        """For how long the call in the thread has been running; 0 when none does."""
        return self._worker.busy_seconds()

    @property
    def alive(self) -> bool:
        return self._worker.alive

    def submit(self, job: Job) -> int | None:
        """
        Take a job, whose answer is then delivered later; return None.

        Or take it not, and return after how many seconds its sender may try again.
        """
        if self.in_flight >= self._limits.in_flight:
            return max(1, math.ceil(self._wait(large=job.size > SMALL_BODY)))
        if self._short_rows and job.size <= SMALL_BODY:
            return self._submit_short(job)
        return self._submit_long(job)

    def room(self) -> tuple[int, int, int]:
        """
        Return what may be taken for one turn of the loop without a job: rows of a request, rows, requests.

        Nothing while there is more than fits into a turn, or where no prediction is short: whether a request
        must wait, or is turned away, is decided for each job.
        """
        if not self._short_rows or self._behind:
            return 0, 0, 0
        free = self._limits.in_flight - self._in_flight
        return self._short_rows, self._costs.rows_within(_TURN_SECONDS), min(free, _PLAIN_REQUESTS)

    def predict(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Predict what was taken for a turn, on the loop. Raises what the predictor raises."""
        if self._predictor is None:
            raise AssertionError("there is a predictor before there are requests")
        self._turns += 1
        if self._turns % _OBSERVED:
            return self._predictor.predict(batch, outputs)
        started = perf_counter()
        found = self._predictor.predict(batch, outputs)
        self._costs.observe(batch.rows, perf_counter() - started)
        self._measure_short()
        if self.plain is not None:
            self.plain.refresh()
        return found

    def _submit_short(self, job: Job) -> int | None:
        # The estimate says what those that wait will take, the clock what else takes the loop's time.
        wait = max(self._arrived_seconds, self._behind)
        if wait > self._limits.wait_seconds:
            return max(1, math.ceil(wait))
        if job.call is None:
            try:
                job.call = job.decode_short()
            except Exception as error:  # noqa: BLE001 - the job words the answer
                job.deliver(job.fail(error))
                return None
            if job.call is None:
                return self._submit_long(job, large=True)
        rows = job.call.batch.rows
        if rows > self._short_rows:
            return self._submit_long(job)
        self._count(1)
        self._arrived_seconds += rows * self._row_seconds + _ANSWER_SECONDS
        arrived = self._arrived
        arrived.append(job)
        if len(arrived) == 1:
            self._loop.call_soon(self._predict_arrived)
        return None

    def _submit_long(self, job: Job, *, large: bool = False) -> int | None:
        large = large or job.size > SMALL_BODY
        if job.call is None:
            seconds = self._costs.of_body(job.size)
        else:
            rows = job.call.batch.rows
            seconds = self._costs.of_rows(rows) - self._costs.of_call
            large = large or seconds > _TURN_SECONDS
        wait = self._wait(large=large)
        if wait > self._limits.wait_seconds:
            return max(1, math.ceil(wait))
        self._count(1)
        self._lanes[large].add(seconds)
        self._worker.put(Task(job, seconds, large=large))
        return None

    def _wait(self, *, large: bool) -> float:
        """Estimate for how long a job that comes now would wait in its lane: the lanes share the time."""
        call = self._costs.of_call
        merged = 1 if self._predictor is None or not self._predictor.merges else MERGED_JOBS
        small = self._lanes[0].wait(call, merged)
        big = self._lanes[1].wait(call, 1)
        own, other = (big, small) if large else (small, big)
        return min(2 * own, own + other)

    def _predict_arrived(self) -> None:
        """Predict what arrived since the last turn: all of it, or as much as a turn may take."""
        predictor, started = self._predictor, perf_counter()
        if predictor is None:
            raise AssertionError("there is a predictor before there are jobs")
        jobs, left, seconds = self._arrived, self._arrived[:0], _TURN_SECONDS
        if self._arrived_seconds > _TURN_SECONDS:
            jobs, left, seconds = self._turn(jobs, started)
        self._arrived = left
        answers = self._merger.predict(predictor, jobs, started + seconds)
        if len(answers) < len(jobs):  # some call failed, and the turn is over
            self._arrived = left = jobs[len(answers) :] + left
            jobs = jobs[: len(answers)]
        more = bool(left)
        if not more:
            self._arrived_seconds = self._behind = 0.0
        if self._merger.whole:
            self._costs.observe(sum(map(_rows, jobs)), perf_counter() - started)
            self._measure_short()
        self._count(-len(jobs))
        for job, answer in zip(jobs, answers, strict=True):
            try:
                job.deliver(answer)
            except Exception:  # it must not raise; the others' answers, and all later ones, are at stake
                log.exception("an answer was not delivered")
        if more:
            self._turn_ended = ended = perf_counter()
            self._behind = ended - left[0].since
            rows = sum(map(_rows, left))
            self._arrived_seconds = rows * self._row_seconds + len(left) * _ANSWER_SECONDS
            self._loop.call_soon(self._predict_arrived)
        if self.plain is not None:
            self.plain.refresh()

    def _count(self, more: int) -> None:
        before, limit = self._in_flight, self._limits.in_flight
        self._in_flight = now = before + more
        if self.plain is not None and max(before, now) > limit - _PLAIN_REQUESTS:
            self.plain.refresh()

    def _measure_short(self) -> None:
        self._short_rows = self._costs.rows_within(_LOOP_SECONDS)
        self._row_seconds = self._costs.of_row

    def _turn(self, jobs: list[Job], now: float) -> tuple[list[Job], list[Job], float]:
        """Return the jobs of a turn that begins now, those that are left for later, and its seconds."""
        seconds = _TURN_SECONDS
        if self._behind:
            seconds = min(max(seconds, _SHARE * (now - self._turn_ended)), _LONGEST_TURN_SECONDS)
        room = self._costs.rows_within(seconds)
        rows = 0
        for index, job in enumerate(jobs):
            rows += _rows(job)
            if rows > room and index:
                return jobs[:index], jobs[index:], seconds
        return jobs, [], seconds

    def _finished(self, task: Task, answer: Any) -> None:
        self._count(-1)
        self._lanes[task.large].remove(task.seconds)
        if answer is not None:
            task.job.deliver(answer)


class _Backlog:
    """What waits or runs in a lane."""

    __slots__ = ("jobs", "seconds")

    def __init__(self) -> None:
        self.jobs = 0
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.jobs += 1
        self.seconds += seconds

    def remove(self, seconds: float) -> None:
        self.jobs -= 1
        self.seconds = self.seconds - seconds if self.jobs else 0.0

    def wait(self, call: float, merged: int) -> float:
        return self.seconds + call * math.ceil(self.jobs / merged)


def _rows(job: Job) -> int:
    return 0 if job.call is None else job.call.batch.rows
