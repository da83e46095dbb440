"""A deduplicating queue of keys: one worker a key, one pending time a key, back-off after failures."""

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from solera_operator.engine import backoff
from solera_operator.engine.clock import Clock, SystemClock
from solera_operator.engine.metrics import Metrics

K = TypeVar("K", bound=Hashable)

_BACKOFF_BASE = 0.5
_BACKOFF_CAP = 60.0


class WorkQueue(Generic[K]):
    """
    Every key is in at most one of three states beside running: due, delayed, absent.

    `add` makes it due, `add_after` delays it (the earliest time wins). What is added while its key runs
    waits until that run is done. Keys become due in the order of their times.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._due: dict[K, float] = {}  # key -> since when; in order
        self._delayed: dict[K, float] = {}  # key -> when
        self._heap: list[tuple[float, int, K]] = []  # times of _delayed, and outdated ones
        self._sequence = 0  # keys need no order
        self._running: dict[K, float] = {}  # key -> since when
        self._held: dict[K, float] = {}  # key that runs -> when it is to run again
        self._failures: dict[K, int] = {}
        self._waiters: deque[asyncio.Event] = deque()
        self._closed = False
        metrics = metrics or Metrics()
        self._retries = metrics.queue_retries.labels(name)
        metrics.watch_queue(
            name, depth=self.depth, delayed=lambda: len(self._delayed) + len(self._held), age=self.age
        )

    def add(self, key: K) -> None:
        """Make the key due now."""
        self.add_after(key, 0.0)

    def add_after(self, key: K, seconds: float) -> None:
        """Make the key due after that many seconds, unless it is due earlier already."""
        when = self._clock.monotonic() + max(0.0, seconds)
        if key in self._running:
            self._held[key] = min(when, self._held.get(key, when))
        elif key not in self._due and when < self._delayed.get(key, float("inf")):
            self._schedule(key, when)

    def retry(self, key: K, *, at_least: float = 0.0) -> float:
        """Put the key back after a failure; returns the delay in seconds. `forget` ends the counting."""
        self._failures[key] = self._failures.get(key, 0) + 1
        self._retries.inc()
        wait = backoff.delay(self._failures[key], base=_BACKOFF_BASE, cap=_BACKOFF_CAP, rng=self._rng)
        wait = max(wait, at_least)
        self.add_after(key, wait)
        return wait

    def forget(self, key: K) -> None:
        """Forget the key's failures: its next back-off starts from the beginning."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        return self._failures.get(key, 0)

    def poll(self) -> K | None:
        """Take a due key, now running, or None. Every key taken must be given back with `done`."""
        self._promote()
        if not self._due:
            return None
        key = next(iter(self._due))
        del self._due[key]
        self._running[key] = self._clock.monotonic()
        return key

    async def get(self) -> K | None:
        """Wait for a due key and take it; None once the queue is closed."""
        while not self._closed:
            key = self.poll()
            if key is not None:
                return key
            waiter = asyncio.Event()
            self._waiters.append(waiter)
            try:
                await self._clock.wait(waiter, self.next_due())
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                if waiter.is_set() and self._due:
                    self._wake_one()  # more may have come than this waiter will take, or it was cancelled
        return None

    def done(self, key: K) -> None:
        """Give a key back after its run."""
        del self._running[key]
        when = self._held.pop(key, None)
        if when is not None:
            self._schedule(key, when)

    def close(self) -> None:
        """Let all waiters go; nothing is handed out any more."""
        self._closed = True
        while self._waiters:
            self._waiters.popleft().set()

    def next_due(self) -> float | None:
        """Seconds until the next delayed key is due (0: now); None when nothing is delayed."""
        self._drop_outdated()
        return max(0.0, self._heap[0][0] - self._clock.monotonic()) if self._heap else None

    def depth(self) -> int:
        """Count the keys that are due and wait for a worker."""
        self._promote()
        return len(self._due)

    def age(self) -> float:
        """Seconds that the first due key has waited."""
        self._promote()
        first = next(iter(self._due.values()), None)
        return 0.0 if first is None else self._clock.monotonic() - first

    def running(self) -> dict[K, float]:
        """List the keys that are running, with the seconds that they have run."""
        now = self._clock.monotonic()
        return {key: now - since for key, since in self._running.items()}

    def _schedule(self, key: K, when: float) -> None:
        if when <= self._clock.monotonic():
            self._delayed.pop(key, None)
            self._due[key] = when
        else:
            self._delayed[key] = when
            self._sequence += 1
            heapq.heappush(self._heap, (when, self._sequence, key))
        self._wake_one()

    def _drop_outdated(self) -> None:
        while self._heap and self._delayed.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)

    def _promote(self) -> None:
        now = self._clock.monotonic()
        self._drop_outdated()
        while self._heap and self._heap[0][0] <= now:
            when, _, key = heapq.heappop(self._heap)
            del self._delayed[key]
            self._due[key] = when
            self._drop_outdated()

    def _wake_one(self) -> None:
        if self._waiters:
            self._waiters.popleft().set()
