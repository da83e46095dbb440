"""The chart of bench-soak: memory over requests."""

from __future__ import annotations

from typing import Any

from serving_bench.svg import OURS, Axis, Drawing, axes


def draw(document: dict[str, Any]) -> str:
    """Return the SVG for the document bench-soak.json."""
    readings = document["readings"]
    total = readings[-1]["requests"]
    high = 20 * (int(max(one["rss_mb"] for one in readings)) // 20 + 1)
    drawing = Drawing(720, 300)
    x, y = Axis(0, max(1, total), 70, 690), Axis(0, high, 240, 60)
    step = high // 4
    axes(
        drawing,
        x,
        y,
        x_marks=[(total * share / 4, f"{total * share / 4:,.0f}") for share in range(5)],
        y_marks=[(value, f"{value} MB") for value in range(0, high + 1, step)],
        title="Resident memory of the server over its requests",
        x_title="requests answered",
    )
    drawing.path([(x(one["requests"]), y(one["rss_mb"])) for one in readings], OURS)
    return drawing.render()
