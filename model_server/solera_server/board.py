"""What the processes of a server know of one another: a board in shared memory, and health read from it."""

from __future__ import annotations

import enum
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from solera_server.health import Verdict
from solera_server.shared import Field, SharedCounters

if TYPE_CHECKING:
    from collections.abc import Callable

BEAT_SECONDS = 0.25
"""How often a worker's event loop says that it moves."""

SILENCE_SECONDS = 10.0
"""Without a beat for so long, an event loop counts as hung."""

_REPLACING_SECONDS = 3.0
# For so long a worker may be away before the server is not ready: the connections that the kernel has
# given to it wait.


class Stage(enum.IntEnum):
    """Where a worker is in its life."""

    AWAY = 0
    STARTING = 1
    SERVING = 2
    DRAINING = 3
    CLOSED = 4
    """Its port is closed and nobody waits there; what it has accepted is being answered."""


_RUNNING = (Stage.SERVING, Stage.DRAINING, Stage.CLOSED)


class Board:
    """
    One slot for each of ``workers`` processes. Times are of the monotonic clock, which they share.

    A worker writes its slot; while it is away, its parent does.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._shared = SharedCounters(
            [
                Field("stage"),
                Field("pid"),
                Field("cut"),
                Field("since", (1,), np.float64),
                Field("beat", (1,), np.float64),
                Field("busy", (1,), np.float64),
            ],
            workers,
        )
        common = [Field("draining", (1,), np.float64), Field("manager"), Field("parent")]
        self._common = SharedCounters(common, 1).slot(0)

    @property
    def draining(self) -> bool:
        return bool(self._common["draining"][0])

    def start_draining(self) -> None:
        """Let readiness fall: every process sees it at once."""
        self._common["draining"][0] = monotonic()

    def draining_seconds(self) -> float:
        """For how long the server has been draining; 0 when it is not."""
        since = float(self._common["draining"][0])
        return monotonic() - since if since else 0.0

    def occupy(self, slot: int, stage: Stage, pid: int = 0) -> None:
        """Say who is in a slot and how far it is."""
        mine, now = self._shared.slot(slot), monotonic()
        mine["beat"][0] = now
        mine["busy"][0] = 0.0
        mine["since"][0] = now
        mine["pid"][0] = pid
        mine["stage"][0] = stage

    def change(self, slot: int, stage: Stage) -> None:
        """Say how far the process is that has the slot."""
        self._shared.slot(slot)["stage"][0] = stage

    def beat(self, slot: int, busy_seconds: float) -> None:
        mine = self._shared.slot(slot)
        mine["busy"][0] = busy_seconds
        mine["beat"][0] = monotonic()

    def stage(self, slot: int) -> Stage:
        return Stage(int(self._shared.each("stage")[slot, 0]))

    def add_cut(self, slot: int, connections: int) -> None:
        self._shared.slot(slot)["cut"][0] += connections

    @property
    def cut(self) -> int:
        """Connections that had to be cut, of all workers."""
        return int(self._shared.total("cut")[0])

    def name_parents(self, parent: int, manager: int) -> None:
        self._common["parent"][0] = parent
        self._common["manager"][0] = manager

    def pids(self) -> list[int]:
        """Return the processes that are there, the parent first."""
        workers = self._shared.each("pid")[:, 0].tolist()
        found = [int(self._common["parent"][0]), int(self._common["manager"][0]), *workers]
        return [pid for pid in found if pid]

    def hung(self, slot: int, stall_seconds: float, now: float | None = None) -> str | None:
        """Say how a worker hangs, or None. One that starts or is away does not."""
        if self.stage(slot) not in _RUNNING:
            return None
        mine = self._shared.slot(slot)
        silence = (monotonic() if now is None else now) - float(mine["beat"][0])
        busy = float(mine["busy"][0])
        if busy > stall_seconds:
            return f"worker {slot}: a prediction has been running for {busy + silence:.0f} s"
        if silence > min(SILENCE_SECONDS, stall_seconds):
            return f"worker {slot}: its event loop has not moved for {silence:.0f} s"
        return None

    def away_seconds(self, slot: int) -> float:
        """For how long a worker has not been serving; 0 when it is."""
        if self.stage(slot) in _RUNNING:
            return 0.0
        return monotonic() - float(self._shared.slot(slot)["since"][0])


class PoolHealth:
    """
    Health of all workers together, for the probes.

    One that hangs makes the server not live, as it would if it were alone. ``loaded`` says whether there
    are workers yet.
    """

    def __init__(
        self, board: Board, stall_seconds: float, *, loaded: bool, clock: Callable[[], float] = monotonic
    ) -> None:
        self._board = board
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._loaded = loaded
        self._was_ready = False

    def live(self) -> Verdict:
        if self._loaded:
            for slot in range(self._board.workers):
                reason = self._board.hung(slot, self._stall_seconds, self._clock())
                if reason is not None:
                    return Verdict(good=False, reason=reason)
        return Verdict(good=True, reason="ok")

    def ready(self) -> Verdict:
        board = self._board
        if board.draining:
            return Verdict(good=False, reason="draining")
        if not self._loaded:
            return Verdict(good=False, reason="loading")
        longest = max(board.away_seconds(slot) for slot in range(board.workers))
        if longest > (_REPLACING_SECONDS if self._was_ready else 0.0):
            return Verdict(good=False, reason="starting" if not self._was_ready else "a worker is away")
        self._was_ready = True
        return self.live()
