"""Prometheus' text format, version 0.0.4, of metrics that are sums of plain numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})


@dataclass(slots=True)
class Family:
    """
    One metric: ``kind`` is counter, gauge or histogram; counters' names end in ``_total``.

    ``samples`` are (suffix of the name, labels, value).
    """

    name: str
    kind: str
    help: str
    samples: list[tuple[str, Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float, labels: Mapping[str, str] | None = None) -> Family:
        self.samples.append(("", labels or {}, value))
        return self

    def add_histogram(
        self, bounds: Sequence[float], counts: Sequence[float], total: float, labels: Mapping[str, str]
    ) -> Family:
        """Add a histogram: ``counts`` is of each bucket alone, and one more for what is above all bounds."""
        below = 0.0
        for bound, count in zip((*map(number, bounds), "+Inf"), counts, strict=True):
            below += count
            self.samples.append(("_bucket", {**labels, "le": bound}, below))
        self.samples.append(("_count", labels, below))
        self.samples.append(("_sum", labels, total))
        return self


def render(families: Iterable[Family]) -> bytes:
    lines = []
    for family in families:
        text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
        lines.append(f"# HELP {family.name} {text}\n# TYPE {family.name} {family.kind}\n")
        for suffix, labels, value in family.samples:
            pairs = ",".join(f'{name}="{labels[name].translate(_ESCAPES)}"' for name in sorted(labels))
            lines.append(
                f"{family.name}{suffix}{{{pairs}}} {number(value)}\n"
                if pairs
                else f"{family.name}{suffix} {number(value)}\n"
            )
    return "".join(lines).encode()


def number(value: float) -> str:
    """Write a number as Prometheus reads it: always as a float, infinities by their sign."""
    value = float(value)
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if value != value else repr(value)  # noqa: PLR0124 - the one value that is not itself
