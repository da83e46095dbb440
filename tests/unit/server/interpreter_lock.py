"""Whether other threads of Python get to run while a function of the extension works."""

from __future__ import annotations

import sys
import threading
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE_SECONDS = 10.0


def lets_others_run(work: Callable[[], object]) -> bool:
    """
    Call ``work`` until another thread has run meanwhile, and say whether that came to pass.

    Between instructions of Python nobody is let run here: only where ``work`` itself gives up the lock, and
    then whoever waits need not be quick enough the first time.
    """
    go, ran = threading.Event(), threading.Event()

    def wait() -> None:
        go.wait()
        ran.set()

    before = sys.getswitchinterval()
    other = threading.Thread(target=wait)
    other.start()
    sys.setswitchinterval(1000.0)
    try:
        go.set()
        end = perf_counter() + _PATIENCE_SECONDS
        while not ran.is_set() and perf_counter() < end:
            work()
        return ran.is_set()
    finally:
        sys.setswitchinterval(before)
        other.join()
