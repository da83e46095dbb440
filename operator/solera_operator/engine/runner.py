"""Controller: workers that take keys from a queue and reconcile them."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import structlog

from solera_operator.engine.clock import Clock, SystemClock
from solera_operator.engine.errors import Conflict, Unavailable
from solera_operator.engine.metrics import Metrics
from solera_operator.engine.queue import WorkQueue
from solera_operator.engine.store import Key
from solera_operator.engine.tasks import cancel_and_wait

_STUCK_MARGIN = 30.0  # seconds over the time limit after which a reconcile counts as stuck

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What a reconcile came to: `requeue_after` seconds, or None when only a change should bring it back."""

    requeue_after: float | None = None


Reconcile = Callable[[Key], Awaitable[Result]]


class Controller:
    """
    Runs `reconcile(key)` for every key of the queue, several keys at a time, each key by one worker.

    An exception puts the key back with growing delay. `Conflict` (we read something stale) and
    `Unavailable` (the API server asks for patience) are expected and logged only at debug level.
    """

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        queue: WorkQueue[Key],
        *,
        workers: int = 4,
        time_limit: float = 60.0,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """`time_limit`: seconds after which a reconcile is cancelled and counted as failed."""
        self.name = name
        self.queue = queue
        self._reconcile = reconcile
        self._workers = workers
        self._time_limit = time_limit
        self._clock = clock or SystemClock()
        self._seconds = (metrics or Metrics()).reconcile_seconds
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._last_progress = self._clock.monotonic()

    def start(self) -> None:
        """Start the workers. Call it once, after the caches are synced and leadership is held."""
        self._last_progress = self._clock.monotonic()
        self._tasks = [
            asyncio.create_task(self._work(), name=f"{self.name} worker {number}")
            for number in range(self._workers)
        ]

    async def stop(self, grace: float = 20.0) -> None:
        """Take no more keys, let what runs finish for at most `grace` seconds, then cancel it."""
        self._stopping = True
        self.queue.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        await cancel_and_wait(*self._tasks)

    async def wait(self) -> None:
        """Return when the workers have ended; raises what ended one of them, which would be a bug here."""
        if self._tasks:
            await asyncio.gather(*self._tasks)

    def trouble(self) -> str | None:
        """Say in words what keeps this controller from progressing; None when all is well (for /livez)."""
        limit = self._time_limit + _STUCK_MARGIN
        for key, seconds in self.queue.running().items():
            if seconds > limit:
                return f"{self.name}: reconcile of {'/'.join(key)} has run for {seconds:.0f} s"
        idle = self._clock.monotonic() - self._last_progress
        if self._tasks and self.queue.age() > limit and idle > limit:
            return f"{self.name}: keys wait, but nothing was reconciled for {idle:.0f} s"
        if not self._stopping and any(task.done() for task in self._tasks):
            return f"{self.name}: a worker has ended"
        return None

    async def _work(self) -> None:
        while (key := await self.queue.get()) is not None:
            began = self._clock.monotonic()
            outcome = "cancelled"
            try:
                with structlog.contextvars.bound_contextvars(
                    controller=self.name, namespace=key[0], name=key[1]
                ):
                    outcome = await self._attempt(key)
            finally:
                self.queue.done(key)
                self._last_progress = self._clock.monotonic()
                self._seconds.labels(self.name, outcome).observe(self._last_progress - began)

    async def _attempt(self, key: Key) -> str:
        """Reconcile once and put the key back where that is needed; the result's name for the metrics."""
        limit = asyncio.timeout(self._time_limit)
        try:
            async with limit:
                result = await self._reconcile(key)
        except Conflict as failure:
            wait = self.queue.retry(key)
            log.debug("conflict", error=str(failure), retry_in=wait)
            return "conflict"
        except Unavailable as failure:
            wait = self.queue.retry(key, at_least=failure.retry_after or 0.0)
            level = log.debug if self.queue.failures(key) < 5 else log.warning
            level("API server unavailable", error=str(failure), retry_in=wait)
            return "unavailable"
        except Exception as failure:
            wait = self.queue.retry(key)
            if limit.expired():
                log.exception("reconcile took too long", limit=self._time_limit, retry_in=wait)
                return "timeout"
            log.exception("reconcile failed", error=str(failure), retry_in=wait)
            return "error"
        self.queue.forget(key)
        if result.requeue_after is None:
            return "done"
        self.queue.add_after(key, result.requeue_after)
        return "requeued"
