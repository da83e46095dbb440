"""Gates: what a version must reach on the held-out rows before it may serve."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from solera_core.spec.base import SpecModel
from solera_core.spec.quantities import DecimalString, is_decimal
from solera_core.spec.rules import Atomic, Rule, cel_list
from solera_core.spec.task import AT_MOST_ONE


class Judge(StrEnum):
    """Which number a gate looks at."""

    LOWER_BOUND = "LowerBound"
    ESTIMATE = "Estimate"


_DECIMAL_CEL = r"matches(r'^-?[0-9]+(\.[0-9]+)?$')"


def _ordered(gate: "Gate") -> bool:
    low, high = gate.bounds()
    return low is None or high is None or low <= high


def _fraction(gate: "Gate") -> bool:
    return gate.metric not in AT_MOST_ONE or all(bound is None or bound <= 1 for bound in gate.bounds())


class Gate(SpecModel):
    """One metric and the bounds that it has to keep."""

    rules = (
        Rule(
            message="write min, max or both",
            cel="has(self.min) || has(self.max)",
            check=lambda self: self.min is not None or self.max is not None,
        ),
        Rule(
            message="min may not be larger than max",
            cel=f"!has(self.min) || !has(self.max) || !self.min.{_DECIMAL_CEL} || "
            f"!self.max.{_DECIMAL_CEL} || double(self.min) <= double(self.max)",
            check=_ordered,
            at="min",
        ),
        Rule(
            message='{} never exceeds 1: write a fraction such as "0.90" rather than a percentage',
            cel=f"!(self.metric in {cel_list(AT_MOST_ONE)}) || "
            f"((!has(self.min) || !self.min.{_DECIMAL_CEL} || double(self.min) <= 1.0) && "
            f"(!has(self.max) || !self.max.{_DECIMAL_CEL} || double(self.max) <= 1.0))",
            check=_fraction,
            shown_cel="self.metric",
            shown=lambda self: self.metric,
        ),
    )

    metric: Annotated[str, Field(min_length=1, max_length=64)]
    """A metric of the model's task, taken on the held-out rows."""
    min: DecimalString | None = None
    """Least value that passes: a decimal in quotes."""
    max: DecimalString | None = None
    """Largest value that passes: a decimal in quotes."""
    judge: Judge = Judge.LOWER_BOUND
    """LowerBound wants the whole 95% interval inside the bounds (its lower end for min, its upper end for
    max), so that a small test set cannot pass by luck. Estimate looks at the value alone."""

    def bounds(self) -> tuple[Decimal | None, Decimal | None]:
        """Return min and max as numbers."""
        low, high = (Decimal(text) if text and is_decimal(text) else None for text in (self.min, self.max))
        return low, high


Gates = Annotated[tuple[Gate, ...], Field(max_length=32), Atomic()]
