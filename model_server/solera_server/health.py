"""Whether this process lives and whether it should get requests, each with the reason in words."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from solera_server.scheduler import Scheduler


class Phase(enum.Enum):
    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Verdict:
    good: bool
    reason: str


class Health:
    """
    Answers the probes. That the event loop moves is shown by the answer itself.

    ``stall_seconds``: a single prediction that runs longer than this means a thread that hangs.
    """

    def __init__(self, scheduler: Scheduler, stall_seconds: float) -> None:
        self.phase = Phase.LOADING
        self._scheduler = scheduler
        self._stall_seconds = stall_seconds

    def live(self) -> Verdict:
        if not self._scheduler.alive:
            return Verdict(good=False, reason="the prediction thread has ended")
        busy = self._scheduler.busy_seconds()
        if busy > self._stall_seconds:
            return Verdict(good=False, reason=f"a prediction has been running for {busy:.0f} s")
        return Verdict(good=True, reason="ok")

    def ready(self) -> Verdict:
        if self.phase is not Phase.SERVING:
            return Verdict(good=False, reason=self.phase.value)
        return self.live()
