"""Estimates of metrics with one-sided 95% bounds.

Proportions have Wilson's bounds. The others have percentiles of a bootstrap over the held-out rows with a
fixed seed. A bootstrap of rows that were all answered rightly says that nothing can go wrong; so the metrics
of labels are never surer than Wilson's bound on the share of right answers, and a ranking without an error is
never surer than Wilson's bound for as many rows as the rarer side has. Percentiles of few rows are far too
sure, so that metrics without Wilson's support have no bounds below `FEWEST_UNITS` rows.

Rows that share a key are not independent: then whole keys are drawn, and Wilson's bound gets the effective
number of rows of Korn and Graubard (1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from solera_core.catalogue import Catalogue
from solera_trainer.metrics import label_metrics, number_metrics, proba_metrics
from solera_trainer.predictions import Codes, Floats, Labelled, Measured

Z = 1.6448536269514722
"""The 95% point of the normal distribution: every bound is one-sided."""

RESAMPLES = 1000
FEWEST_RESAMPLES = 200
SEED = 20_260_101
FEWEST_UNITS = 30
"""Independent rows (or keys) below which percentiles of a bootstrap are no bounds."""

_MANY_ROWS = 20_000
_ROUNDING = 1e-9
_CELLS = 4_000_000
_RANKINGS = ("roc_auc", "average_precision")
_SHARES = ("accuracy", "f1_micro", "recall_weighted")
_LOSSES = ("log_loss", "brier_score")


@dataclass(frozen=True)
class Estimate:
    """A metric on the held-out rows; None where it is not defined, and then `reason` says why. Bounds may be
    None for a value that is.
    """

    name: str
    value: float | None
    lower: float | None
    upper: float | None
    reason: str = ""


@dataclass(frozen=True)
class _Units:
    """What is independent: rows, or groups of rows. `codes` of shape (rows,) are 0 to count - 1."""

    codes: Codes | None
    count: int

    @classmethod
    def of(cls, groups: Codes | None, rows: int) -> _Units:
        codes = None if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.int64)
        count = rows if codes is None else int(codes.max()) + 1
        return cls(None if count == rows else codes, count)


def estimates(
    catalogue: Catalogue, task: str, rows: Labelled | Measured, groups: Codes | None = None
) -> list[Estimate]:
    """Return every metric of the task, in the catalogue's order.

    `groups` are codes, equal for rows that are not independent of each other; shape (rows,).
    """
    everyone = np.ones((1, len(rows.true)))
    points = {name: float(values[0]) for name, values in compute(rows, everyone).items()}
    units = _Units.of(groups, len(rows.true))
    samples = _bootstrap(rows, units)
    effective = _effective_rows(rows, units)
    found = []
    for metric in catalogue.metrics.values():
        if metric.task != task:
            continue
        value = points[metric.name]
        if not math.isfinite(value):
            found.append(Estimate(metric.name, None, None, None, _why_not(metric.needs, rows)))
            continue
        bounds: tuple[float | None, float | None] = None, None
        if metric.interval == "Wilson" and units.codes is None:
            bounds = wilson(value, effective)
        elif units.count >= FEWEST_UNITS or not _needs_many(metric.name, rows):
            bounds = _percentiles(
                metric.name, value, samples[metric.name], rows, points, units=units, effective=effective
            )
        found.append(Estimate(metric.name, value, *bounds))
    return found


def _needs_many(name: str, rows: Labelled | Measured) -> bool:
    """Say whether only the percentiles bound the metric."""
    return isinstance(rows, Measured) or name in _RANKINGS or name in _LOSSES


def _effective_rows(rows: Labelled | Measured, units: _Units) -> float:
    """Return how many independent rows say as much about the share of right answers as these do."""
    count = len(rows.true)
    if units.codes is None or isinstance(rows, Measured):
        return count
    hits = (rows.true == rows.predicted).astype(np.float64)
    share = float(hits.mean())
    sums = np.bincount(units.codes, hits - share, units.count)
    if units.count < 2 or np.abs(sums).max() < _ROUNDING:
        return units.count
    from scipy.special import stdtrit

    variance = float(sums @ sums) / count**2 * units.count / (units.count - 1)
    few = float(stdtrit(count - 1, 0.95) / stdtrit(units.count - 1, 0.95)) ** 2
    return min(float(count), max(1.0, share * (1 - share) / variance * few))


def compute(rows: Labelled | Measured, weights: Floats) -> dict[str, Floats]:
    """Return all metrics of the rows for each row of weights."""
    if isinstance(rows, Measured):
        return number_metrics(rows, weights)
    return {**label_metrics(rows, weights), **proba_metrics(rows, weights)}


def wilson(share: float, rows: float) -> tuple[float, float]:
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


def _bootstrap(rows: Labelled | Measured, units: _Units) -> dict[str, Floats]:
    count = len(rows.true)
    total = RESAMPLES if count <= _MANY_ROWS else max(FEWEST_RESAMPLES, RESAMPLES * _MANY_ROWS // count)
    step = max(1, _CELLS // count)
    random = np.random.default_rng(SEED)
    parts: list[dict[str, Floats]] = []
    for start in range(0, total, step):
        size = min(step, total - start)
        drawn = random.integers(0, units.count, size=(size, units.count))
        drawn += units.count * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * units.count).reshape(size, units.count)
        if units.codes is not None:
            weights = weights[:, units.codes]
        parts.append(compute(rows, weights.astype(np.float64)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _percentiles(
    name: str,
    value: float,
    sample: Floats,
    rows: Labelled | Measured,
    points: dict[str, float],
    *,
    units: _Units,
    effective: float,
) -> tuple[float | None, float | None]:
    defined = sample[np.isfinite(sample)]
    if not len(defined):
        return None, None
    lower, upper = (float(bound) for bound in np.percentile(defined, [5, 95]))
    # A percentile may miss the estimate itself (max_error always does on one side).
    lower, upper = min(lower, value), max(upper, value)
    if isinstance(rows, Measured) or name in _LOSSES:
        return lower, upper
    if name in _RANKINGS:
        if lower == upper:
            codes = np.arange(len(rows.true)) if units.codes is None else units.codes
            counts = [len(np.unique(codes[rows.true == code])) for code in range(rows.classes)]
            lower = value * wilson(1.0, max(1, min(counts)))[0]
        return lower, upper
    accuracy = points["accuracy"]
    if name in _SHARES:
        low, high = wilson(value, effective)
        lower, upper = min(lower, low), max(upper, high)
    elif accuracy > 0 and value > 0:
        low, high = wilson(accuracy, effective)
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
