"""
A thread for what is neither a prediction nor quick: explanations, and what the page asks for.

It has a lower priority than the predictions' thread, and does one thing at a time: nobody who asks for a
prediction is to wait for it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from solera_server.message import Request, Response, error_response

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    Work = Callable[[Request], Response]

MAX_WAITING = 32
_NICENESS = 10


class Errands:
    """The thread starts with the first errand. ``work`` must not raise."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._waiting: deque[tuple[Request, Work]] = deque()
        self._some = threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    def handler(self, work: Work) -> Callable[[Request], Response | None]:
        """Return a handler for a route: it answers later, or 503 at once when too many wait."""

        def handle(request: Request) -> Response | None:
            if len(self._waiting) >= MAX_WAITING:
                return error_response(503, "too many requests wait; try again", (b"retry-after", b"1"))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._waiting.append((request, work))
            self._some.release()
            return None

        return handle

    def _run(self) -> None:
        with contextlib.suppress(PermissionError):  # the process has a lower one already
            # On Linux a thread has a priority of its own.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while True:
            self._some.acquire()
            request, work = self._waiting.popleft()
            if not request.abandoned:
                self._loop.call_soon_threadsafe(request.respond, request, work(request))
