"""A few SVG primitives for charts: no fonts fetched, readable on light and dark backgrounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

INK, FAINT, GRID = "#24292f", "#57606a", "#d0d7de"
OURS, OTHERS, REFERENCE = "#0969da", "#8c959f", "#bf8700"
ALARM, GOOD = "#cf222e", "#1a7f37"


@dataclass
class Drawing:
    """Elements collected on a white sheet of ``width`` by ``height`` pixels."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def text(
        self, x: float, y: float, words: str, *, size: float = 12, anchor: str = "start", **style: str
    ) -> None:
        extra = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
        fill = "" if "fill" in style else f' fill="{INK}"'
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{fill}{extra}>{escape(words)}</text>'
        )

    def bar(self, x: float, y: float, width: float, height: float, color: str) -> None:
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" fill="{color}"/>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, color: str = GRID, **style: str) -> None:
        extra = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"{extra}/>'
        )

    def path(self, points: Sequence[tuple[float, float]], color: str, *, dots: bool = False) -> None:
        where = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{where}" fill="none" stroke="{color}" stroke-width="1.8"/>')
        if dots:
            self.parts.extend(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in points)

    def render(self) -> str:
        style = 'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:.0f} {self.height:.0f}" {style}>'
        sheet = f'<rect width="{self.width:.0f}" height="{self.height:.0f}" fill="#ffffff"/>'
        return "\n".join([head, sheet, *self.parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class Axis:
    """Maps values from ``low`` to ``high`` onto pixels ``start`` to ``end``; logarithmic if asked."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        bounded = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(bounded / self.low) / math.log(self.high / self.low)
        else:
            share = (bounded - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def axes(
    drawing: Drawing,
    x: Axis,
    y: Axis,
    *,
    x_marks: Sequence[tuple[float, str]],
    y_marks: Sequence[tuple[float, str]],
    title: str,
    x_title: str,
) -> None:
    """Draw the frame of a chart: horizontal grid lines with their values, marks below, a title above."""
    drawing.text(x.start, y.end - 14, title, size=13, font_weight="600")
    for value, words in y_marks:
        drawing.line(x.start, y(value), x.end, y(value))
        drawing.text(x.start - 6, y(value) + 4, words, size=11, anchor="end", fill=FAINT)
    for value, words in x_marks:
        drawing.line(x(value), y.start, x(value), y.start + 4, FAINT)
        drawing.text(x(value), y.start + 17, words, size=11, anchor="middle", fill=FAINT)
    drawing.line(x.start, y.start, x.end, y.start, FAINT)
    drawing.text((x.start + x.end) / 2, y.start + 34, x_title, size=11, anchor="middle", fill=FAINT)
