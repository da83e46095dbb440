"""
The windows of counters in memory that processes share: each process writes its own, a reader adds them up.

A window has a place in a ring for every process, so what a worker process had counted outlives it. The
memory is anonymous and made before the fork; pages that nothing was counted in are never allocated.
"""

from __future__ import annotations

import mmap
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_core.counters import (
    CLIENT_ERRORS,
    OUTCOME_FIELDS,
    PREDICTIONS,
    REQUESTS,
    ROWS,
    SERVER_ERRORS,
    SLOW,
    Layout,
    OutcomeKey,
    Window,
    merge,
)
from solera_core.units import BUCKETS, GROUPS, SAMPLE_LIMIT, UnitSample

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ARMS = 16
"""Pairs of arm and weight epoch in one window; the last place is for all that come after the others."""
MAX_OUTCOMES = 48
TALLIES = (REQUESTS, ROWS, CLIENT_ERRORS, SERVER_ERRORS)
GRACE_SECONDS = 1.0
"""For so long after a window's end what happened in it may still be counted there."""
CLOSED_SECONDS = 2 * GRACE_SECONDS
"""So long after its end a window is closed: nobody writes there any more."""
_SLACK = 3  # the open window, one that is being closed, one that is being cleared


@dataclass(frozen=True)
class Boot:
    """
    The start of a server: its name and its clock.

    The clock is that of the system at the start and then steady, so that no window comes twice when the
    system's is set.
    """

    pod: str
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    wall: float = field(default_factory=time.time)
    steady: float = field(default_factory=time.perf_counter)
    clock: Callable[[], float] = time.perf_counter

    def now(self) -> float:
        """Seconds since 1970."""
        return self.wall - self.steady + self.clock()

    def at(self, steady: float) -> float:
        """Seconds since 1970 of a reading of the steady clock."""
        return self.wall - self.steady + steady


class CounterMemory:
    """
    A ring of windows for each process.

    ``kept`` closed windows can be read, of ``seconds`` each; ``unit_limit`` bounds the units of a window's
    sample. ``seconds`` divides a day.
    """

    def __init__(
        self,
        layout: Layout,
        boot: Boot,
        *,
        seconds: int,
        kept: int,
        processes: int = 1,
        unit_limit: int = SAMPLE_LIMIT,
    ) -> None:
        if 86_400 % seconds:
            raise ValueError(f"windows of {seconds} s do not fill a day")
        self.layout, self.boot, self.seconds, self.kept = layout, boot, seconds, kept
        self.unit_limit = unit_limit
        self.bins = sum(size for _, size in layout.features)
        self.prediction_bins = sum(size for _, size in layout.predictions)
        self.first = self.number(boot.now())
        self._positions = kept + _SLACK
        kind = self._dtype()
        self._memory = mmap.mmap(-1, kind.itemsize * self._positions * processes)
        self._ring: Any = np.ndarray((processes, self._positions), kind, self._memory)

    def number(self, moment: float) -> int:
        """Return the number of the window that holds a moment (seconds since 1970)."""
        return int(moment // self.seconds)

    def region(self, process: int, number: int) -> Any:
        """Return the memory of a process for a window, emptied if it held an older one."""
        region = self._ring[process, number % self._positions]
        if region["mark"] != number + 1:
            region["mark"] = 0
            _clear(region)
            region["mark"] = number + 1
        return region

    def read(self, number: int) -> Window:
        """Return the sum of a window over the processes."""
        start = number * self.seconds
        found = [Window(start)]
        for process in range(len(self._ring)):
            region = self._ring[process, number % self._positions]
            if region["mark"] == number + 1:
                found.append(self._window(region, start))
        return merge(found, self.unit_limit)

    def _window(self, region: Any, start: int) -> Window:
        arms, outcomes = {}, {}
        names = arm_names(region)
        thresholds = len(self.layout.thresholds)
        for index, key in enumerate(names):
            tallies = region["tallies"][index].astype(np.int64)
            arms[key] = {
                PREDICTIONS: region["predictions"][index].astype(np.int64),
                **dict(zip(TALLIES, tallies, strict=False)),
                SLOW: tallies[len(TALLIES) : len(TALLIES) + thresholds].reshape(-1),
            }
        for index, outcome in enumerate(outcome_names(region)):
            outcomes[outcome] = dict(zip(OUTCOME_FIELDS, region["sums"][index].copy(), strict=True))
        count = int(region["units"])
        hashes, owners = region["unit_hash"][:count].copy(), region["unit_arm"][:count].copy()
        members = {key: frozenset(hashes[owners == index].tolist()) for index, key in enumerate(names)}
        # A reader may come while the threshold falls: what it then sees above it does not count.
        sample = UnitSample(0, members).below(int(region["halvings"]))
        features = region["features"].astype(np.int64) if self.bins else None
        return Window(start, features, arms, outcomes, sample)

    def _dtype(self) -> np.dtype[Any]:
        arm = [("arm", "S48"), ("epoch", "i8")]
        outcome = [("version", "S64"), ("arm", "S48"), ("epoch", "i8"), ("day", "i8"), ("clip", "f8")]
        tallies = (MAX_ARMS, len(TALLIES) + len(self.layout.thresholds), BUCKETS)
        return np.dtype(
            [
                ("mark", "i8"),  # number of the window and 1; 0 while it is being cleared
                ("arms", "i8"),
                ("outcomes", "i8"),
                ("units", "i8"),
                ("halvings", "i8"),
                ("arm_names", arm, (MAX_ARMS,)),
                ("outcome_names", outcome, (MAX_OUTCOMES,)),
                ("features", "u4", (GROUPS * self.bins,)),
                ("predictions", "u4", (MAX_ARMS, GROUPS * self.prediction_bins)),
                ("tallies", "u4", tallies),
                ("sums", "i8", (MAX_OUTCOMES, len(OUTCOME_FIELDS), BUCKETS)),
                ("unit_hash", "u8", (self.unit_limit,)),
                ("unit_arm", "u1", (self.unit_limit,)),
            ],
            align=True,
        )


def arm_names(region: Any) -> list[tuple[str, int]]:
    """Return the arms of a window in the order of their places."""
    names = region["arm_names"][: int(region["arms"])]
    return [(name["arm"].decode(), int(name["epoch"])) for name in names]


def outcome_names(region: Any) -> list[OutcomeKey]:
    """Return the keys of a window's outcomes in the order of their places."""
    return [
        OutcomeKey(
            name["version"].decode(),
            name["arm"].decode(),
            int(name["epoch"]),
            int(name["day"]),
            float(name["clip"]),
        )
        for name in region["outcome_names"][: int(region["outcomes"])]
    ]


def _clear(region: Any) -> None:
    """Empty what was used, and only that: pages that were never written stay unallocated."""
    arms, outcomes = int(region["arms"]), int(region["outcomes"])
    if arms:
        region["features"] = 0
    region["predictions"][:arms] = 0
    region["tallies"][:arms] = 0
    region["sums"][:outcomes] = 0
    for name in ("arms", "outcomes", "units", "halvings"):
        region[name] = 0
