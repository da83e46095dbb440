"""Gates: does a metric on the held-out rows keep its bounds, and if not, why, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from solera_core.catalogue import Catalogue
from solera_core.spec import Gate, Judge
from solera_trainer.intervals import FEWEST_UNITS, Estimate, rows_needed


@dataclass(frozen=True)
class Verdict:
    """The judgement of one gate. `bound` is the number that was compared: the estimate, or its worse
    bound.
    """

    gate: Gate
    value: float | None
    bound: float | None
    passed: bool
    message: str

    def to_json(self) -> dict[str, Any]:
        """Return the form that a result has."""
        return {
            "metric": self.gate.metric,
            "min": self.gate.min,
            "max": self.gate.max,
            "judge": self.gate.judge.value,
            "value": self.value,
            "bound": self.bound,
            "passed": self.passed,
            "message": self.message,
        }


@dataclass(frozen=True)
class Support:
    """How many held-out rows there are, and of how many keys when rows share them."""

    rows: int
    keys: int | None = None

    @property
    def units(self) -> int:
        """How many of them are independent."""
        return self.rows if self.keys is None else self.keys

    @property
    def noun(self) -> str:
        """What is independent, in words."""
        return "held-out rows" if self.keys is None else "keys of held-out rows"


def judge(
    catalogue: Catalogue, gates: Sequence[Gate], found: Sequence[Estimate], support: Support
) -> list[Verdict]:
    """Judge each gate by the estimates of the held-out rows. A metric that is missing never passes."""
    by_name = {estimate.name: estimate for estimate in found}
    return [_judge(catalogue, gate, by_name, support) for gate in gates]


def _judge(catalogue: Catalogue, gate: Gate, found: Mapping[str, Estimate], support: Support) -> Verdict:
    estimate = found.get(gate.metric)
    if estimate is None or estimate.value is None:
        why = estimate.reason if estimate else "there is no such metric for this task"
        return Verdict(gate, None, None, passed=False, message=f"{gate.metric} has no value: {why}.")
    verdict: Verdict | None = None
    for limit, at_least in ((gate.min, True), (gate.max, False)):
        if limit is None:
            continue
        verdict = _side(catalogue, gate, estimate, float(limit), support=support, at_least=at_least)
        if not verdict.passed:
            return verdict
    if verdict is None:
        return Verdict(gate, estimate.value, None, passed=False, message="the gate has neither min nor max.")
    return verdict


def _side(
    catalogue: Catalogue, gate: Gate, estimate: Estimate, limit: float, *, support: Support, at_least: bool
) -> Verdict:
    if estimate.value is None:
        raise ValueError("a metric without value is judged before")
    by_estimate = gate.judge is Judge.ESTIMATE
    pessimistic = estimate.lower if at_least else estimate.upper
    bound = estimate.value if by_estimate else pessimistic
    word, side = ("min", "lower") if at_least else ("max", "upper")
    if bound is None:
        message = f"{gate.metric} is {estimate.value:.4g}, but its {side} bound is not defined."
        if support.units < FEWEST_UNITS:
            message += (
                f" {support.units} {support.noun} are too few: {FEWEST_UNITS} are needed, or judge: Estimate."
            )
        return Verdict(gate, estimate.value, None, passed=False, message=message)
    passed = bound >= limit if at_least else bound <= limit
    compared = f"{gate.metric} {bound:.4g}"
    if not by_estimate:
        compared = f"{gate.metric} {estimate.value:.4g}, {side} 95% bound {bound:.4g}"
    relation = (">=" if passed else "<") if at_least else ("<=" if passed else ">")
    message = f"{compared} {relation} {word} {gate.min if at_least else gate.max}."
    if not passed and not by_estimate:
        message += _resolution(
            catalogue, gate, estimate.value, bound, limit, support=support, at_least=at_least
        )
    return Verdict(gate, estimate.value, bound, passed, message)


def _resolution(
    catalogue: Catalogue,
    gate: Gate,
    value: float,
    bound: float,
    limit: float,
    *,
    support: Support,
    at_least: bool,
) -> str:
    """Say how many held-out rows would be needed, when there are too few to show what the estimate says."""
    if value < limit if at_least else value > limit:
        return " The estimate itself does not reach it."
    metric = catalogue.metrics[gate.metric]
    if metric.interval == "Wilson" and at_least and support.keys is None:
        best = rows_needed(1.0, limit)
        if best is not None and support.rows < best:
            return (
                f" {support.rows} held-out rows cannot show it even without one error: {best} are needed, or "
                "judge: Estimate."
            )
        needed = rows_needed(value, limit)
    elif value == limit:
        needed = None
    else:
        # Bounds shrink with the square root of the number of independent rows.
        needed = math.ceil(support.units * ((value - bound) / (value - limit)) ** 2)
    if needed is None:
        return " The estimate is exactly the limit: no number of rows shows more than that."
    few = f"{support.units} {support.noun} are too few to show it"
    return f" {few}: about {needed} are needed, or judge: Estimate."
