"""Records of bench-server as tables, for a terminal and for docs/performance.md, with the targets judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving_bench.cases import CASES
from serving_bench.servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving_bench.records import Record

HEAD = (
    "server",
    "requests/s",
    "Solera is",
    "p50 ms",
    "p99 ms",
    "CPU ms/request",
    "memory MB",
    "start s",
    "errors",
)
PEERS = tuple(name for name, server in SERVERS.items() if server.peer and name != "floor")


@dataclass(frozen=True)
class Target:
    """Times the best peer, and the share of the fixed reply, that a point is held to."""

    times: float | None
    share: float


def target(case: str, connections: int) -> Target:
    times = {"iris": (10.0, 40.0), "forest-1": (30.0, 200.0), "forest-32": (30.0, 200.0)}.get(case)
    alone = connections == 1
    return Target(None if times is None else times[0 if alone else 1], 0.4 if alone else 0.6)


def points(records: Sequence[Record]) -> list[tuple[str, int]]:
    return list(dict.fromkeys((record.case, record.connections) for record in records))


def at(records: Sequence[Record], case: str, connections: int) -> dict[str, Record]:
    return {one.server: one for one in records if (one.case, one.connections) == (case, connections)}


def best_peer(found: dict[str, Record]) -> Record | None:
    peers = [found[name] for name in PEERS if name in found]
    return max(peers, key=lambda one: one.throughput, default=None)


def rows(found: dict[str, Record]) -> list[tuple[str, ...]]:
    """One row of text for each server at a point, the fastest first."""
    ours = found.get("solera")
    made = []
    for one in sorted(found.values(), key=lambda one: -one.throughput):
        ratio = "" if ours is None or one.server == "solera" or not one.throughput else _times(ours, one)
        made.append(
            (
                f"{one.server} {one.version}" if one.server in PEERS else one.server,
                f"{one.throughput:,.0f}",
                ratio,
                _figure(one.p50_ms),
                _figure(one.p99_ms),
                f"{one.cpu_ms_per_request:.3f}",
                f"{one.rss_mb:.0f}",
                f"{one.cold_start_s:.2f}",
                str(one.errors),
            )
        )
    return made


def verdicts(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """One row for each point: what was to be reached, what was."""
    made = []
    for case, connections in points(records):
        found = at(records, case, connections)
        ours, fixed, best = found.get("solera"), found.get("solera-fixed"), best_peer(found)
        bare = found.get("bare")
        if ours is None:
            continue
        wanted = target(case, connections)
        peers = [found[name] for name in PEERS if name in found]
        made.append(
            (
                f"{case}, {connections}",
                _judged(ours.throughput / best.throughput, wanted.times, "x") if best else "",
                best.server if best else "",
                f"{bare.throughput / best.throughput:.0f}x" if bare and best else "",
                f"{fixed.throughput / best.throughput:.0f}x" if fixed and best else "",
                _judged(ours.throughput / fixed.throughput, wanted.share, "%") if fixed else "",
                _lower(ours.p99_ms, [one.p99_ms for one in peers]),
                _lower(ours.cpu_ms_per_request, [one.cpu_ms_per_request for one in peers]),
                _lower(ours.rss_mb, [one.rss_mb for one in peers]),
                _lower(ours.cold_start_s, [one.cold_start_s for one in peers]),
            )
        )
    return made


VERDICT_HEAD = (
    "case, connections",
    "times the best peer (target)",
    "best peer",
    "the bare loop is",
    "the fixed reply is",
    "share of the fixed reply (target)",
    "p99",
    "CPU",
    "memory",
    "start",
)


def text(records: Sequence[Record]) -> str:
    """Everything, for a terminal."""
    return "\n".join([tables(records), _aligned([VERDICT_HEAD, *verdicts(records)])])


def tables(records: Sequence[Record], what: str = "connection") -> str:
    """All figures, for a terminal; ``what`` there are several of at a time."""
    parts = []
    for case, connections in points(records):
        parts.append(f"{title(case)}, {connections} {what}{'s' if connections > 1 else ''}")
        parts.append(_aligned([HEAD, *rows(at(records, case, connections))]))
    return "\n".join(parts)


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(['---', *['---:'] * (len(head) - 1)])}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in body)])


def title(case: str) -> str:
    return next(one.title for one in CASES if one.name == case)


def _judged(value: float, wanted: float | None, unit: str) -> str:
    shown = f"{value:.1f}x" if unit == "x" else f"{value:.0%}"
    if wanted is None:
        return shown
    bound = f"{wanted:.0f}x" if unit == "x" else f"{wanted:.0%}"
    return f"{shown} ({bound}){'' if value >= wanted else ' missed'}"


def _lower(ours: float, theirs: Sequence[float]) -> str:
    """How far below the best of the others, as a factor."""
    if not theirs:
        return ""
    factor = min(theirs) / ours if ours else 0.0
    return f"{factor:.1f}x lower" if factor > 1 else f"{1 / factor:.1f}x higher: missed"


def _times(ours: Record, other: Record) -> str:
    return f"{ours.throughput / other.throughput:.2f}x"


def _figure(milliseconds: float) -> str:
    return f"{milliseconds:.3f}" if milliseconds < 10 else f"{milliseconds:.1f}"


def _aligned(table: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return (
        "\n".join(
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in table
        )
        + "\n"
    )
