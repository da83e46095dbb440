"""
Looking for the next request instead of sleeping, where the last ones came at once.

A CPU without work goes to sleep, and to wake it takes a virtual machine longer than a small prediction. So
after an answer the loop stays awake for a moment, if it did not have to wait longer for any of the last
requests. Where they come less densely it sleeps, and what was spent in vain is one moment each time.
"""

from __future__ import annotations

import math
import os
from time import perf_counter
from typing import TYPE_CHECKING

from solera_server.threads import granted

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

DEFAULT_SECONDS = 100e-6
"""A client on the same machine has sent its next request by then, even if it had to be woken."""
_SOON = 8
"""After so many requests in a row that came soon the loop stays awake: by chance that is rare."""
_ASLEEP = 3
"""So many times as long may what comes soon take while the loop sleeps, and has to be woken for it."""
_CROWDED = 1e-3
"""Who has the CPU for longer, when it is yielded, is no client that answers and waits; seconds."""
_PAUSE, _LONGEST_PAUSE = 1.0, 64.0
"""For so long the loop then sleeps as usual, and twice as long each time; seconds."""


class BusyPoll:
    """
    For one event loop, which stays awake for ``seconds`` at a time.

    Not while ``computing`` is true: the prediction thread would have to share the CPU and the interpreter.
    ``on_begin`` is told when the loop begins to stay awake.
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
        self._soon_until = self._until = 0.0
        self._soon = 0
        self._looking = False
        self._idle = True
        """Nothing has come or gone since the last look."""
        self._paused_until = 0.0
        self._pause = _PAUSE

    def arrived(self, now: float) -> None:
        """Take note of a request (perf_counter)."""
        self._soon = self._soon + 1 if now < self._soon_until else 0
        self._idle = False

    def answered(self, now: float) -> None:
        """Take note of an answer, and stay awake for what follows it, if that is to be expected."""
        self._soon_until = now + _ASLEEP * self._seconds
        self._until = math.inf  # until the next look, when all is written
        self._idle = False
        if self._soon >= _SOON and not self._looking and now >= self._paused_until:
            self._looking = True
            self._on_begin()
            self._call_soon(self._look)

    def _look(self) -> None:
        # While a call is due the loop does not sleep: it takes what has arrived, and comes back here.
        now = perf_counter()
        if self._until == math.inf:
            self._until = now + self._seconds
        if now >= self._until or self._computing():
            self._pause = _PAUSE
            self._sleep()
        elif self._idle and not self._yields(now):
            self._sleep()
        else:
            self._idle = True
            self._call_soon(self._look)

    def _yields(self, now: float) -> bool:
        """
        Let a client run that shares the CPU; False where somebody else wants it too.

        A process that is asleep when a request comes gets the CPU at once, one that yields it waits its turn.
        """
        os.sched_yield()
        ended = perf_counter()
        if ended - now < _CROWDED:
            return True
        self._paused_until = ended + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return False

    def _sleep(self) -> None:
        self._looking = False
        self._soon = 0


def default_seconds(environ: Mapping[str, str], usable: float, workers: int) -> float:
    """
    Return for how long to stay awake if nothing is said: 0 where CPU time is not the process's own.

    In a pod the autoscaler counts it, and under a limit of less than a CPU for each worker it would be taken
    from the predictions. ``usable`` are the CPUs that can be had, whatever the environment says.
    """
    if "KUBERNETES_SERVICE_HOST" in environ or granted(environ, usable) < workers:
        return 0.0
    return DEFAULT_SECONDS
