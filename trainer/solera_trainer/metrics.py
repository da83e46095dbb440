"""Metrics, computed from rows with weights: whole numbers that say how often a row counts.

With all weights 1 they are scikit-learn's metrics of the same names. Many resamples of the rows are computed
at once for bootstrap bounds: weights have the shape (resamples, rows), and results the shape (resamples,).
NaN means that a metric is not defined there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from solera_trainer.predictions import Floats, Labelled, Measured

Rows = npt.NDArray[np.bool_]
_EPSILON = float(np.finfo(np.float64).eps)


def label_metrics(rows: Labelled, weights: Floats) -> dict[str, Floats]:
    """Return the metrics that labels alone decide."""
    size = rows.classes + 1
    hits = np.eye(size)[rows.true] * (rows.true == rows.predicted)[:, None]
    tp = weights @ hits
    true = weights @ np.eye(size)[rows.true]
    predicted = weights @ np.eye(size)[rows.predicted]
    total = weights.sum(axis=1)
    present = (true + predicted) > 0
    recall = _ratio(tp, true)
    precision = _ratio(tp, predicted)
    f1 = _ratio(2 * tp, true + predicted)
    accuracy = tp.sum(axis=1) / total
    share = true / total[:, None]
    return {
        "accuracy": accuracy,
        "f1_micro": accuracy,
        "balanced_accuracy": _mean_where(recall, true > 0),
        "f1_macro": _mean_where(f1, present),
        "precision_macro": _mean_where(precision, present),
        "recall_macro": _mean_where(recall, present),
        "f1_weighted": (f1 * share).sum(axis=1),
        "precision_weighted": (precision * share).sum(axis=1),
        "recall_weighted": (recall * share).sum(axis=1),
        "matthews_corrcoef": _matthews(tp, true, predicted, total),
    }


def proba_metrics(rows: Labelled, weights: Floats) -> dict[str, Floats]:
    """Return the metrics that need probabilities. None is defined for rows of a class without training
    rows.
    """
    undefined = np.full(len(weights), np.nan)
    if rows.proba is None or rows.unseen:
        return dict.fromkeys(("roc_auc", "average_precision", "log_loss", "brier_score"), undefined)
    total = weights.sum(axis=1)
    clipped = np.clip(rows.proba, _EPSILON, 1 - _EPSILON)
    clipped /= clipped.sum(axis=1, keepdims=True)
    losses = -np.log(clipped[np.arange(len(rows.true)), rows.true])
    truth = np.eye(rows.classes)[rows.true]
    squares = ((rows.proba - truth) ** 2).sum(axis=1) / (2 if rows.classes == 2 else 1)
    return {
        "roc_auc": _over_classes(rows, weights, _area),
        "average_precision": _over_classes(rows, weights, _average_precision),
        "log_loss": weights @ losses / total,
        "brier_score": weights @ squares / total,
    }


def number_metrics(rows: Measured, weights: Floats) -> dict[str, Floats]:
    """Return the metrics of Regression."""
    total = weights.sum(axis=1)
    error = rows.predicted - rows.true
    size, square = np.abs(error), error**2
    squares = weights @ square / total
    # Centred first: the variance of large numbers would otherwise be lost in their squares.
    centred = rows.true - rows.true.mean()
    variance = weights @ centred**2 / total - (weights @ centred / total) ** 2
    spread = squares - (weights @ error / total) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(variance > 0, 1 - squares / variance, np.nan)
        explained = np.where(variance > 0, 1 - spread / variance, np.nan)
    return {
        "r2": r2,
        "explained_variance": explained,
        "mean_absolute_error": weights @ size / total,
        "median_absolute_error": _median(size, weights, total),
        "mean_squared_error": squares,
        "root_mean_squared_error": np.sqrt(squares),
        "mean_absolute_percentage_error": weights @ (size / np.maximum(np.abs(rows.true), _EPSILON)) / total,
        "max_error": np.where(weights > 0, size, 0).max(axis=1),
    }


def _ratio(part: Floats, whole: Floats) -> Floats:
    result: Floats = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return result


def _mean_where(values: Floats, mask: Rows) -> Floats:
    result: Floats = (values * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
    return result


def _matthews(tp: Floats, true: Floats, predicted: Floats, total: Floats) -> Floats:
    together = tp.sum(axis=1) * total - (true * predicted).sum(axis=1)
    spread = (total**2 - (predicted**2).sum(axis=1)) * (total**2 - (true**2).sum(axis=1))
    result: Floats = np.divide(together, np.sqrt(spread), out=np.zeros_like(together), where=spread > 0)
    return result


def _over_classes(
    rows: Labelled, weights: Floats, measure: Callable[[Floats, Rows, Floats], Floats]
) -> Floats:
    """Measure the second of two classes, or the mean over several, each against the rest."""
    if rows.proba is None:
        raise ValueError("there are no probabilities")
    codes = [1] if rows.classes == 2 else range(rows.classes)
    found = [measure(rows.proba[:, code], rows.true == code, weights) for code in codes]
    result: Floats = np.mean(found, axis=0)
    return result


def _grouped(score: Floats, positive: Rows, weights: Floats) -> tuple[Floats, Floats]:
    """Return the weights of positive and negative rows for each distinct score, ascending."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    ordered, hit = weights[:, order], positive[order]
    return np.add.reduceat(ordered * hit, starts, axis=1), np.add.reduceat(ordered * ~hit, starts, axis=1)


def _area(score: Floats, positive: Rows, weights: Floats) -> Floats:
    yes, no = _grouped(score, positive, weights)
    below = np.cumsum(no, axis=1) - no
    pairs = yes.sum(axis=1) * no.sum(axis=1)
    wins = (yes * (below + no / 2)).sum(axis=1)
    result: Floats = np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0)
    return result


def _average_precision(score: Floats, positive: Rows, weights: Floats) -> Floats:
    yes, no = (side[:, ::-1] for side in _grouped(score, positive, weights))
    found = np.cumsum(yes, axis=1)
    precision = _ratio(found, found + np.cumsum(no, axis=1))
    total = found[:, -1]
    summed = (yes * precision).sum(axis=1)
    result: Floats = np.divide(summed, total, out=np.full(len(summed), np.nan), where=total > 0)
    return result


def _median(values: Floats, weights: Floats, total: Floats) -> Floats:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    low = (reached < ((total + 1) // 2)[:, None]).sum(axis=1)
    high = (reached < (total // 2 + 1)[:, None]).sum(axis=1)
    ordered = values[order]
    result: Floats = (ordered[low] + ordered[high]) / 2
    return result
