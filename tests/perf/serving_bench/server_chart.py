"""The chart of bench-server: throughput of every server at every point, one panel each, on one logarithmic scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving_bench import server_report
from serving_bench.servers import SERVERS
from serving_bench.svg import FAINT, GRID, OTHERS, OURS, REFERENCE, Axis, Drawing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving_bench.records import Record

_PANEL, _LABELS, _BAR = 330, 82, 15
_COLORS = {"solera": OURS, "solera-fixed": REFERENCE, "bare": REFERENCE, "floor": REFERENCE}


def draw(records: Sequence[Record]) -> str:
    """Return the SVG."""
    order = [name for name in SERVERS if any(one.server == name for one in records)]
    cases = list(dict.fromkeys(one.case for one in records if one.case != "iris-v1"))
    counts = sorted({one.connections for one in records})
    high = max(one.throughput for one in records)
    low = min(max(one.throughput, 1.0) for one in records) / 2
    row_height = 44 + _BAR * len(order) + 14
    drawing = Drawing(_PANEL * len(counts) + 20, 60 + row_height * len(cases))
    drawing.text(12, 24, "Requests answered in a second, one CPU for each server", size=16, font_weight="600")
    drawing.text(
        12,
        42,
        "Logarithmic scale: each line to the right is ten times the one before. Blue: Solera. "
        "Ochre: the same process with a fixed reply, a bare loop in C, and a bare uvicorn with scikit-learn.",
        size=11,
        fill=FAINT,
    )
    for row, case in enumerate(cases):
        top = 60 + row * row_height
        drawing.text(12, top + 16, server_report.title(case), size=13, font_weight="600")
        for column, count in enumerate(counts):
            found = server_report.at(records, case, count)
            left = 12 + column * _PANEL
            scale = Axis(low, high, left + _LABELS, left + _PANEL - 62, log=True)
            _panel(drawing, left=left, top=top + 24, found=found, order=order, connections=count, scale=scale)
    return drawing.render()


def _panel(
    drawing: Drawing,
    *,
    left: float,
    top: float,
    found: dict[str, Record],
    order: Sequence[str],
    connections: int,
    scale: Axis,
) -> None:
    drawing.text(
        left, top + 12, f"{connections} connection{'s' if connections > 1 else ''}", size=11, fill=FAINT
    )
    bottom = top + 18 + _BAR * len(order)
    for power in range(8):
        if scale.low <= 10**power <= scale.high:
            drawing.line(scale(10**power), top + 18, scale(10**power), bottom, GRID)
    for place, name in enumerate(order):
        y = top + 18 + place * _BAR
        drawing.text(left + _LABELS - 6, y + 11, name, size=11, anchor="end")
        if name in found:
            end = scale(found[name].throughput)
            drawing.bar(scale.start, y + 2, end - scale.start, _BAR - 4, _COLORS.get(name, OTHERS))
            drawing.text(end + 4, y + 11, f"{found[name].throughput:,.0f}", size=10, fill=FAINT)
        else:
            drawing.text(scale.start, y + 11, "failed", size=10, fill=FAINT)
