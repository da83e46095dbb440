"""
The thread in which predictions run, so that the event loop stays free for probes and small requests.

One thread: scikit-learn's own parallelism (BLAS, OpenMP) is what uses further cores, and answers stay in
the order in which they were asked.
"""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from solera_server.message import Request, Response


class _Ticket:
    __slots__ = ("request", "response", "work")

    def __init__(self, request: Request, work: Callable[[Request], Response]) -> None:
        self.request = request
        self.work = work
        self.response: Response | None = None


class Worker:
    """
    Runs ``work(request)`` for submitted requests and responds on the event loop.

    ``capacity`` bounds the requests that wait or run. ``work`` must not raise.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, capacity: int) -> None:
        self._loop = loop
        self._capacity = capacity
        self._queue: SimpleQueue[_Ticket | None] = SimpleQueue()
        self._done: deque[_Ticket] = deque()
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="predict", daemon=True)
        self.in_flight = 0

    def start(self) -> None:
        self._thread.start()

    def submit(self, request: Request, work: Callable[[Request], Response]) -> bool:
        """Queue work for a request; False, and nothing queued, when the capacity is used up."""
        if self.in_flight >= self._capacity:
            return False
        self.in_flight += 1
        self._queue.put(_Ticket(request, work))
        return True

    def stop(self) -> None:
        """End the thread after what was submitted; does not wait for it."""
        self._queue.put(None)

    @property
    def queued(self) -> int:
        """How many submitted requests have not been begun."""
        return self._queue.qsize()

    def busy_seconds(self) -> float:
        """For how long the prediction that runs now has been running; 0 when none does."""
        since = self._busy_since
        return 0.0 if since is None else monotonic() - since

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while (ticket := self._queue.get()) is not None:
            if not ticket.request.abandoned:
                self._busy_since = monotonic()
                ticket.response = ticket.work(ticket.request)
                self._busy_since = None
            self._done.append(ticket)
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        done = self._done
        while done:
            ticket = done.popleft()
            self.in_flight -= 1
            if ticket.response is not None:
                ticket.request.respond(ticket.request, ticket.response)
