"""
The thread in which long predictions run, so that the event loop stays free for probes and short ones.

One thread: scikit-learn's own parallelism (BLAS, OpenMP) is what uses further cores. Small and large
requests share its time; large ones are predicted in slices where the predictor allows that, so that no
small request waits for a whole one.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from solera_server.job import Merger, join, predict_alone
from solera_server.lanes import Lanes

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from solera_server.costs import Costs
    from solera_server.job import Job
    from solera_server.predictor import Outputs, Predictor

SLICE_SECONDS = 0.005
"""How long a slice of a large request may take."""
MERGED_JOBS = 64
"""How many small requests are predicted together at most."""


class Task:
    """A job in the queue: ``seconds`` is what it was estimated to take, beside its call."""

    __slots__ = ("job", "large", "parts", "seconds", "start")

    def __init__(self, job: Job, seconds: float, *, large: bool) -> None:
        self.job = job
        self.seconds = seconds
        self.large = large
        self.start = 0
        """Rows that have been predicted."""
        self.parts: list[Outputs] = []


class Worker:
    """
    Predicts tasks, and calls ``finished(task, answer)`` on the event loop; the answer is None where the job
    was abandoned before it began.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, finished: Callable[[Task, Any], None]) -> None:
        self._loop = loop
        self._finished = finished
        self._lanes: Lanes[Task] = Lanes()
        self._merger = Merger()
        self._done: deque[tuple[Task, Any]] = deque()
        self._busy_since: float | None = None
        self._predictor: Predictor | None = None
        self._costs: Costs | None = None
        self._thread = threading.Thread(target=self._run, name="predict", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def serve(self, predictor: Predictor, costs: Costs) -> None:
        """Set what predicts; before the first task."""
        self._predictor = predictor
        self._costs = costs

    def put(self, task: Task) -> None:
        self._lanes.put(task, large=task.large)

    def stop(self) -> None:
        """End the thread after what was put; does not wait for it."""
        self._lanes.close()

    @property
    def queued(self) -> int:
        """How many tasks have not been begun."""
        return len(self._lanes)

    def busy_seconds(self) -> float:
        """For how long the call that runs now has been running; 0 when none does."""
        since = self._busy_since
        return 0.0 if since is None else monotonic() - since

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while (taken := self._lanes.take(self._together)) is not None:
            tasks, large = taken
            started = perf_counter()
            self._busy_since = monotonic()
            if large:
                self._step(tasks[0])
            else:
                self._predict(tasks)
            self._busy_since = None
            self._lanes.spent(perf_counter() - started, large=large)

    def _together(self, waiting: deque[Task]) -> int:
        return min(len(waiting), MERGED_JOBS) if self._predictor is not None and self._predictor.merges else 1

    def _predict(self, tasks: list[Task]) -> None:
        """Decode small tasks, and predict those together that could be decoded."""
        predictor, costs = self._ready()
        decoded = [task for task in tasks if self._decode(task)]
        if not decoded:
            return
        jobs = [task.job for task in decoded]
        rows = sum(_rows(job) for job in jobs)
        started = perf_counter()
        answers = self._merger.predict(predictor, jobs)
        if self._merger.whole:
            costs.observe(rows, perf_counter() - started)
        for task, answer in zip(decoded, answers, strict=True):
            self._finish(task, answer)

    def _decode(self, task: Task) -> bool:
        """Decode a task's job if that is not done; False where it ends here."""
        job = task.job
        if job.abandoned:
            self._finish(task, None)
            return False
        if job.call is None:
            try:
                job.call = job.decode()
            except Exception as error:  # noqa: BLE001 - the job words the answer
                self._finish(task, job.fail(error))
                return False
            self._ready()[1].observe_body(job.size, _rows(job))
        return True

    def _step(self, task: Task) -> None:
        """Decode a large task or predict a slice of it, and put it back unless it has ended."""
        predictor, costs = self._ready()
        job = task.job
        if job.call is None:
            if self._decode(task):
                self._lanes.put_back(task)
            return
        if job.abandoned:
            self._finish(task, None)
            return
        batch = job.call.batch
        size = costs.rows_within(SLICE_SECONDS) if predictor.merges else batch.rows
        if size >= batch.rows:
            started = perf_counter()
            answer = predict_alone(predictor, job)
            costs.observe(batch.rows, perf_counter() - started)
            self._finish(task, answer)
            return
        stop = min(task.start + size, batch.rows)
        started = perf_counter()
        try:
            task.parts.append(predictor.predict(batch.slice(task.start, stop), job.call.outputs))
            costs.observe(stop - task.start, perf_counter() - started)
            task.start = stop
            if stop == batch.rows:
                job.outputs = join(task.parts)
                self._finish(task, job.succeed(job.call, job.outputs))
                return
        except Exception as error:  # noqa: BLE001 - the job words the answer
            job.outputs = None
            self._finish(task, job.fail(error))
            return
        self._lanes.put_back(task)

    def _finish(self, task: Task, answer: Any) -> None:
        self._done.append((task, answer))
        self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        done = self._done
        while done:
            self._finished(*done.popleft())

    def _ready(self) -> tuple[Predictor, Costs]:
        if self._predictor is None or self._costs is None:
            raise AssertionError("there is a predictor before there are tasks")
        return self._predictor, self._costs


def _rows(job: Job) -> int:
    return 0 if job.call is None else job.call.batch.rows
