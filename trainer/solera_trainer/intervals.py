"""Estimates of metrics with one-sided 95% bounds.

Proportions have Wilson's bounds. The others have percentiles of a bootstrap over the held-out rows with a
fixed seed. A bootstrap of rows that were all answered rightly says that nothing can go wrong; so the metrics
of labels are never surer than Wilson's bound on the share of right answers, and a ranking without an error is
never surer than Wilson's bound for as many rows as the rarer side has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from solera_core.catalogue import Catalogue
from solera_trainer.metrics import label_metrics, number_metrics, proba_metrics
from solera_trainer.predictions import Floats, Labelled, Measured

Z = 1.6448536269514722
"""The 95% point of the normal distribution: every bound is one-sided."""

RESAMPLES = 1000
FEWEST_RESAMPLES = 200
SEED = 20_260_101
_MANY_ROWS = 20_000
_CELLS = 4_000_000
_RANKINGS = ("roc_auc", "average_precision")


@dataclass(frozen=True)
class Estimate:
    """A metric on the held-out rows; None where it is not defined, and then `reason` says why."""

    name: str
    value: float | None
    lower: float | None
    upper: float | None
    reason: str = ""


def estimates(catalogue: Catalogue, task: str, rows: Labelled | Measured) -> list[Estimate]:
    """Return every metric of the task, in the catalogue's order."""
    everyone = np.ones((1, len(rows.true)))
    points = {name: float(values[0]) for name, values in compute(rows, everyone).items()}
    samples = _bootstrap(rows)
    found = []
    for metric in catalogue.metrics.values():
        if metric.task != task:
            continue
        value = points[metric.name]
        if not math.isfinite(value):
            found.append(Estimate(metric.name, None, None, None, _why_not(metric.needs, rows)))
            continue
        bounds: tuple[float | None, float | None] = (
            wilson(value, len(rows.true))
            if (metric.interval == "Wilson")
            else _percentiles(metric.name, value, samples[metric.name], rows, points)
        )
        found.append(Estimate(metric.name, value, *bounds))
    return found


def compute(rows: Labelled | Measured, weights: Floats) -> dict[str, Floats]:
    """Return all metrics of the rows for each row of weights."""
    if isinstance(rows, Measured):
        return number_metrics(rows, weights)
    return {**label_metrics(rows, weights), **proba_metrics(rows, weights)}


def wilson(share: float, rows: int) -> tuple[float, float]:
    """Return Wilson's lower and upper bound of a proportion."""
    square = Z * Z
    middle = (share + square / (2 * rows)) / (1 + square / rows)
    half = Z / (1 + square / rows) * math.sqrt(share * (1 - share) / rows + square / (4 * rows * rows))
    # Rounding may carry a bound past the share itself when it is 0 or 1.
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))


def rows_needed(share: float, bound: float) -> int | None:
    """Return how many rows a share needs for its lower bound to reach `bound`; None when none is enough."""
    if bound >= share:
        return None
    low, high = 1, 2
    while wilson(share, high)[0] < bound:
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        if wilson(share, middle)[0] < bound:
            low = middle + 1
        else:
            high = middle
    return high


def _bootstrap(rows: Labelled | Measured) -> dict[str, Floats]:
    count = len(rows.true)
    total = RESAMPLES if count <= _MANY_ROWS else max(FEWEST_RESAMPLES, RESAMPLES * _MANY_ROWS // count)
    step = max(1, _CELLS // count)
    random = np.random.default_rng(SEED)
    parts: list[dict[str, Floats]] = []
    for start in range(0, total, step):
        size = min(step, total - start)
        drawn = random.integers(0, count, size=(size, count)) + count * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        parts.append(compute(rows, weights.astype(np.float64)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _percentiles(
    name: str, value: float, sample: Floats, rows: Labelled | Measured, points: dict[str, float]
) -> tuple[float | None, float | None]:
    defined = sample[np.isfinite(sample)]
    if not len(defined):
        return None, None
    lower, upper = (float(bound) for bound in np.percentile(defined, [5, 95]))
    # A percentile may miss the estimate itself (max_error always does on one side).
    lower, upper = min(lower, value), max(upper, value)
    if isinstance(rows, Measured) or name in {"log_loss", "brier_score"}:
        return lower, upper
    if name in _RANKINGS:
        if lower == upper:
            counts = np.bincount(rows.true, minlength=rows.classes)[: rows.classes]
            lower = value * wilson(1.0, max(1, int(counts.min())))[0]
        return lower, upper
    accuracy = points["accuracy"]
    if accuracy > 0 and value > 0:
        low, high = wilson(accuracy, len(rows.true))
        lower, upper = min(lower, value * low / accuracy), max(upper, min(1.0, value * high / accuracy))
    return lower, upper


def _why_not(needs: str, rows: Labelled | Measured) -> str:
    if isinstance(rows, Labelled) and needs == "proba":
        if rows.proba is None:
            return "the model gives no probabilities"
        if rows.unseen:
            return f"{rows.unseen} held-out rows are of classes without training rows"
        return "a class has no held-out row"
    return "it is not defined for these held-out rows"
