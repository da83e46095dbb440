"""The books of whoever asks servers for their counters: each closed window of a boot is added up once.

A scrape may be missed or repeated, and pods may restart: the kept windows come again with the next scrape,
and what a restart took along is known by name and never silently absent.
"""

from __future__ import annotations

from dataclasses import dataclass

from solera_core.counters import Report, Window, merge
from solera_core.units import SAMPLE_LIMIT


@dataclass
class _Boot:
    pod: str
    started: int
    seconds: int
    first_start: int
    """Start of the window with sequence 0."""
    oldest: int = 0
    """The server keeps nothing below this sequence any more."""

    def sequence(self, start: int) -> int | None:
        """Return the sequence of the window that begins at `start`; None when the boot has no such one."""
        sequence, rest = divmod(start - self.first_start, self.seconds)
        return None if rest or sequence < 0 else sequence


@dataclass(frozen=True)
class Total:
    """A window's sum over servers.

    `window` is None when nothing was added up. `boots` were added up, `waiting` have not closed the window
    as far as is known, and `lost` never will: what they had counted in it is gone.
    """

    window: Window | None
    boots: frozenset[str]
    waiting: frozenset[str]
    lost: frozenset[str]


class Ledger:
    """Adds up the reports of one version's servers, which may come again and in any order."""

    def __init__(self, limit: int = SAMPLE_LIMIT) -> None:
        self._limit = limit
        self._boots: dict[str, _Boot] = {}
        self._ends: dict[str, int] = {}
        self._sums: dict[int, Window] = {}
        self._members: dict[int, set[str]] = {}

    def absorb(self, report: Report) -> None:
        """Take a report in.

        Raises ValueError when its bins, or the times of its windows, are not those of earlier reports.
        """
        if not report.windows:
            return
        first = report.windows[0]
        first_start = first.window.start - first.sequence * report.seconds
        boot = self._boots.setdefault(
            report.boot, _Boot(report.pod, report.started, report.seconds, first_start)
        )
        for reported in report.windows:
            start = reported.window.start
            if boot.sequence(start) != reported.sequence:
                raise ValueError(f"boot {report.boot}: window {reported.sequence} does not begin at {start}")
            members = self._members.setdefault(start, set())
            if not reported.closed or report.boot in members:
                continue
            parts = [self._sums[start]] if start in self._sums else []
            self._sums[start] = merge([*parts, reported.window], self._limit)
            members.add(report.boot)
        boot.oldest = max(boot.oldest, first.sequence)

    def pod_gone(self, pod: str, now: int) -> None:
        """Take note that a pod ended before `now` (seconds since 1970): it closes no more windows."""
        self._ends[pod] = now

    def total(self, start: int) -> Total:
        """Return the sum of the windows that begin at `start`."""
        counted = frozenset(self._members.get(start, ()))
        waiting, lost = set(), set()
        for name, boot in self._boots.items():
            sequence = boot.sequence(start)
            if sequence is None or name in counted:
                continue
            end = self._end(boot)
            if sequence < boot.oldest or (end is not None and start <= end):
                lost.add(name)
            elif end is None:
                waiting.add(name)
        return Total(self._sums.get(start), counted, frozenset(waiting), frozenset(lost))

    def forget(self, before: int) -> None:
        """Drop the sums of windows that begin before `before`, and boots that ended before; for good."""
        for start in [start for start in self._members if start < before]:
            del self._members[start]
            self._sums.pop(start, None)
        ended = {name: self._end(boot) for name, boot in self._boots.items()}
        for name, end in ended.items():
            if end is not None and end < before:
                del self._boots[name]

    def _end(self, boot: _Boot) -> int | None:
        """When a boot had ended at the latest: its pod is gone, or runs a later boot. None: it may live."""
        later = [
            other.started
            for other in self._boots.values()
            if other.pod == boot.pod and (other.started, other.first_start) > (boot.started, boot.first_start)
        ]
        if boot.pod in self._ends:
            later.append(self._ends[boot.pod])
        return min(later, default=None)
