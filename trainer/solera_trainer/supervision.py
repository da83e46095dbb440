"""Running a Job's work under a deadline: it ends with a message whatever happens to it.

The work runs in a thread and the main thread waits, so that a deadline or SIGTERM is answered at once even
when the work is in the middle of a long computation.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable
from typing import Any

from solera_core.failures import Failure, Reason


def supervised(work: Callable[[], dict[str, Any]], seconds: float | None) -> dict[str, Any]:
    """Return what the work returns.

    Call it in the main thread. Raises Failure: the work's own, DeadlineExceeded after `seconds`, Interrupted
    on SIGTERM, OutOfMemory, or InternalError for anything else (its traceback goes to stderr). After a
    deadline or a signal the work may still be running: leave by `os._exit`.
    """
    box = _Box()
    wake = threading.Event()

    def run() -> None:
        try:
            box.result = work()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the main thread
            box.error = error
        finally:
            wake.set()

    def interrupt(number: int, _: object) -> None:
        box.signal = number
        wake.set()

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        threading.Thread(target=run, name="work", daemon=True).start()
        finished = wake.wait(seconds)
    finally:
        signal.signal(signal.SIGTERM, before)
    if box.result is not None:
        return box.result
    if box.error is not None:
        raise _failure(box.error) from box.error
    if not finished:
        advice = "raise training.deadline or try fewer settings"
        message = f"the deadline passed after {seconds:.0f} s of work: {advice}."
        raise Failure(Reason.DEADLINE_EXCEEDED, message)
    raise Failure(Reason.INTERRUPTED, "the pod was told to stop before the work was done.")


class _Box:
    result: dict[str, Any] | None = None
    error: BaseException | None = None
    signal: int | None = None


def _failure(error: BaseException) -> Failure:
    if isinstance(error, Failure):
        return error
    if isinstance(error, MemoryError):
        message = "the work needs more memory than there is: raise training.pod.resources.limits.memory."
        return Failure(Reason.OUT_OF_MEMORY, message)
    traceback.print_exception(error)
    return Failure(Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
