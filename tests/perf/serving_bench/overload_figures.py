"""What a run of open-loop load says: goodput, how fast refusals come, how soon all is normal again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving_bench.open_loop import Outcome, quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

REFUSED = (429, 503)
WINDOW = 0.1
"""Seconds of a window, for recovery and for the chart."""
QUIET_WINDOWS = 5
"""Windows in a row that must be normal."""


@dataclass(frozen=True)
class Window:
    """Answers to the requests that were due in one window: ``start`` in seconds since the load fell."""

    start: float
    good: int
    bad: int
    p90_ms: float


def goodput(outcomes: Sequence[Outcome], begin: float, seconds: float) -> float:
    """
    Good answers a second, 200 within the deadline, of those that came in the ``seconds`` from ``begin``.

    Whatever was asked then but answered later is no work of that time.
    """
    end = begin + seconds
    return sum(one.status == 200 and begin <= one.due + one.latency < end for one in outcomes) / seconds


def refusal_p99_ms(outcomes: Sequence[Outcome]) -> float:
    """The 99th percentile of the time to a refusal; 0 when none came."""
    return quantile(sorted(one.latency for one in outcomes if one.status in REFUSED), 0.99) * 1000


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in outcomes:
        name = {0: "gave up", -1: "broken", -2: "unsent"}.get(one.status, str(one.status))
        found[name] = found.get(name, 0) + 1
    return found


def windows(outcomes: Sequence[Outcome], begin: float, end: float) -> list[Window]:
    """Cut the requests due from ``begin`` to ``end`` into windows."""
    made = []
    for number in range(round((end - begin) / WINDOW)):
        start = begin + number * WINDOW
        inside = [one for one in outcomes if start <= one.due < start + WINDOW]
        good = sorted(one.latency for one in inside if one.status == 200)
        made.append(
            Window(round(number * WINDOW, 3), len(good), len(inside) - len(good), quantile(good, 0.9) * 1000)
        )
    return made


def normal_ms(outcomes: Sequence[Outcome]) -> float:
    """The latency up to which a window counts as normal: from requests before the load rose."""
    good = sorted(one.latency for one in outcomes if one.status == 200)
    return 1.5 * quantile(good, 0.99) * 1000 + 5


def recovered_s(found: Sequence[Window], normal: float) -> float:
    """Seconds from the fall of the load to the first of several normal windows; infinite if they never come."""
    calm = [window.bad == 0 and window.p90_ms <= normal for window in found]
    for number in range(len(calm) - QUIET_WINDOWS + 1):
        if all(calm[number : number + QUIET_WINDOWS]):
            return found[number].start
    return math.inf
