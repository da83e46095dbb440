"""
Looking for the next request instead of sleeping, where the last ones came at once.

A CPU without work goes to sleep, and to wake it takes a virtual machine longer than a small prediction. So
after an answer the loop stays awake for a moment, if it did not have to wait longer for any of the last
requests. Where they come less densely it sleeps, and what was spent in vain is one moment each time.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

DEFAULT_SECONDS = 100e-6
"""A client on the same machine has sent its next request by then, even if it had to be woken."""
_SOON = 8
"""After so many requests in a row that came soon the loop stays awake: by chance that is rare."""
_ASLEEP = 3
"""So many times as long may what comes soon take while the loop sleeps, and has to be woken for it."""


class BusyPoll:
    """
    For one event loop, which stays awake for ``seconds`` at a time.

    Not while ``computing`` is true: another thread then needs the interpreter. ``on_begin`` is told when the
    loop begins to stay awake.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        computing: Callable[[], object] = lambda: False,
        on_begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._call_soon = loop.call_soon
        self._seconds = seconds
        self._computing = computing
        self._on_begin = on_begin
        self._until = self._soon_until = 0.0
        self._soon = 0
        self._looking = False

    def arrived(self, now: float) -> None:
        """Take note of something that came from a client (perf_counter)."""
        self._soon = self._soon + 1 if now < self._soon_until else 0

    def answered(self, now: float) -> None:
        """Take note of an answer, and stay awake for what follows it, if that is to be expected."""
        self._until = now + self._seconds
        self._soon_until = now + _ASLEEP * self._seconds
        if self._soon >= _SOON and not self._looking:
            self._looking = True
            self._on_begin()
            self._call_soon(self._look)

    def _look(self) -> None:
        # While a call is due the loop does not sleep: it takes what has arrived, and comes back here.
        if perf_counter() < self._until and not self._computing():
            os.sched_yield()  # to a client of this machine, perhaps
            self._call_soon(self._look)
        else:
            self._looking = False
            self._soon = 0


def default_seconds(environ: Mapping[str, str], usable: float, workers: int) -> float:
    """
    Return for how long to stay awake if nothing is said: 0 where CPU time is not the process's own.

    In a pod the autoscaler counts it, and under a quota of less than a CPU for each worker it would be taken
    from the predictions.
    """
    return 0.0 if "KUBERNETES_SERVICE_HOST" in environ or usable < workers else DEFAULT_SECONDS
