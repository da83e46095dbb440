"""The charts of bench-overload: goodput and refusals over the offered load, and the second in which load falls."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from serving_bench.svg import ALARM, FAINT, GOOD, OURS, REFERENCE, Axis, Drawing, axes

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLORS = (OURS, REFERENCE)
_WIDTH, _HEIGHT, _GAP, _TOP = 270, 200, 72, 92


def draw(details: dict[str, Any]) -> str:
    """Return the SVG for the document bench-overload-run.json."""
    trials = details["trials"]
    subjects = list(dict.fromkeys(trial["subject"] for trial in trials))
    drawing = Drawing(3 * (_WIDTH + _GAP) + 10, _HEIGHT + 150)
    drawing.text(
        12, 24, "Offered load from half to ten times the capacity, one CPU", size=16, font_weight="600"
    )
    for number, subject in enumerate(subjects):
        drawing.bar(12 + number * 330, 38, 12, 12, _COLORS[number])
        drawing.text(30 + number * 330, 48, subject, size=12)
    drawing.text(12 + 2 * 330, 48, "Red: the bounds that we are held to.", size=11, fill=FAINT)
    _over_ratio(drawing, 0, trials, subjects, "goodput_ratio")
    _over_ratio(drawing, 1, trials, subjects, "reject_p99_ms")
    _fall(drawing, 2, trials, subjects)
    return drawing.render()


def _over_ratio(
    drawing: Drawing,
    column: int,
    trials: Sequence[dict[str, Any]],
    subjects: Sequence[str],
    figure: str,
) -> None:
    ratios = sorted({trial["ratio"] for trial in trials})
    x, y_start, y_end = _place(column)
    across = Axis(ratios[0], ratios[-1], x, x + _WIDTH, log=True)
    if figure == "goodput_ratio":
        up = Axis(0, 1.6, y_start, y_end)
        marks = [(share / 4, f"{share * 25}%") for share in range(7)]
        title = "Good answers, of capacity"
        for ratio, bound in ((2.0, 0.9), (10.0, 0.8)):
            drawing.line(across(ratio) - 8, up(bound), across(ratio) + 8, up(bound), ALARM, stroke_width="2")
    else:
        up = Axis(0, 60, y_start, y_end)
        marks = [(value, f"{value} ms") for value in range(0, 61, 10)]
        title = "Refusals: time to the answer, p99"
        drawing.line(x, up(50), x + _WIDTH, up(50), ALARM, stroke_dasharray="4 3")
    x_marks = [(ratio, f"{ratio:g}x") for ratio in ratios]
    axes(
        drawing,
        across,
        up,
        x_marks=x_marks,
        y_marks=marks,
        title=title,
        x_title="offered, times the capacity",
    )
    for color, subject in zip(_COLORS, subjects, strict=False):
        line = []
        for ratio in ratios:
            values = [
                trial[figure] for trial in trials if (trial["subject"], trial["ratio"]) == (subject, ratio)
            ]
            if values and (figure == "goodput_ratio" or max(values) > 0):
                line.append((across(ratio), up(statistics.median(values))))
        drawing.path(line, color, dots=True)


def _fall(drawing: Drawing, column: int, trials: Sequence[dict[str, Any]], subjects: Sequence[str]) -> None:
    """Latency of good answers around the time at which ten times the capacity falls to half of it."""
    x, y_start, y_end = _place(column)
    worst = max(trial["ratio"] for trial in trials)
    chosen = [trial for trial in trials if trial["ratio"] == worst]
    length = max(len(trial["timeline"]) for trial in chosen) * 0.1
    across = Axis(-1, length - 1, x, x + _WIDTH)
    up = Axis(0, 1000, y_start, y_end)
    axes(
        drawing,
        across,
        up,
        x_marks=[(second, f"{second} s") for second in range(-1, int(length))],
        y_marks=[(value, f"{value} ms") for value in range(0, 1001, 200)],
        title=f"From {worst:g}x to 0.5x at 0 s: latency, p90",
        x_title="seconds since the load fell",
    )
    drawing.line(across(0), y_start, across(0), y_end, FAINT, stroke_dasharray="4 3")
    drawing.line(across(1), y_start, across(1), y_end, GOOD, stroke_dasharray="4 3")
    for color, subject in zip(_COLORS, subjects, strict=False):
        last = [trial for trial in chosen if trial["subject"] == subject][-1:]
        for trial in last:
            line = [
                (across(window["start"] - 1 + 0.05), up(window["p90_ms"]))
                for window in trial["timeline"]
                if window["good"]
            ]
            drawing.path(line, color)


def _place(column: int) -> tuple[float, float, float]:
    x = 54 + column * (_WIDTH + _GAP)
    return x, _TOP + _HEIGHT, _TOP
