"""The baseline that servers compare their traffic with: histograms of training rows and of predictions.

One column is looked at after the other, and held-out rows are predicted in pieces, so that many rows and
many columns need no further copy of the table.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from solera_core.baseline import LABEL, SCORE, Baseline, Histogram, score
from solera_core.histogram import Bins, CategoricalBins, NumericBins, categorical_bins, count, numeric_bins
from solera_core.schema import BOOLEAN, STRING, Column, Feature, Schema, frame
from solera_trainer.dataset import Dataset
from solera_trainer.predictions import Floats

MAX_HELD_OUT = 100_000
_PIECE = 10_000
_MAX_CLASSES = 100
# A regression's errors beyond so many times their root mean square count as this bound in servers' sums.
_CLIP = 10.0


def baseline(schema: Schema, model: Any, dataset: Dataset) -> Baseline:
    """Return the baseline of a fitted model.

    Of more than 100,000 held-out rows the first are predicted: their order, by hash, has no meaning.
    """
    train = ~dataset.test
    features = {
        feature.name: feature_histogram(feature, dataset.columns[feature.name][train])
        for feature in schema.features
    }
    held_out = np.flatnonzero(dataset.test)[:MAX_HELD_OUT]
    columns = {name: column[held_out] for name, column in dataset.columns.items()}
    answers = _predicted(schema, model, columns, len(held_out))
    if answers is None:
        return Baseline(int(train.sum()), 0, features, {})
    labels, scores = answers
    predictions = {LABEL: _of(_label_bins(schema, labels), labels)}
    if scores is not None:
        predictions[SCORE] = _of(numeric_bins(scores), scores)
    clip = None
    if schema.target.classes is None:
        clip = outcome_clip(dataset.target[held_out].astype(np.float64) - labels)
    return Baseline(int(train.sum()), len(held_out), features, predictions, clip)


def feature_histogram(feature: Feature, column: Column) -> Histogram:
    """Return the histogram of a feature's training rows."""
    if feature.type == STRING:
        return _of(categorical_bins(column.tolist()), column)
    numbers = np.asarray(column, dtype=np.float64)
    if feature.type == BOOLEAN:
        return _of(NumericBins((1.0,)), numbers)
    return _of(numeric_bins(numbers), numbers)


def outcome_clip(errors: Floats) -> float | None:
    """Return the bound of errors: ten times their root mean square, rounded up to a power of two."""
    finite = errors[np.isfinite(errors)]
    with np.errstate(over="ignore"):  # an infinite bound is none
        size = float(np.sqrt(np.mean(finite**2))) * _CLIP if len(finite) else 0.0
    return float(2.0 ** np.ceil(np.log2(size))) if 0 < size < 1e300 else None


def _of(bins: Bins, values: npt.NDArray[Any]) -> Histogram:
    mean = None
    if isinstance(bins, NumericBins):
        finite = values[np.isfinite(values)]
        if len(finite):
            # Digits that the order of an addition changes would change the artifact's digest.
            with np.errstate(over="ignore", invalid="ignore"):
                mean = float(f"{np.mean(finite):.12g}")
            mean = mean if np.isfinite(mean) else None
    return Histogram(bins, tuple(count(bins, values).tolist()), mean)


def _label_bins(schema: Schema, labels: npt.NDArray[Any]) -> Bins:
    classes = schema.target.classes
    return numeric_bins(labels) if classes is None else CategoricalBins(classes[:_MAX_CLASSES])


def _predicted(
    schema: Schema, model: Any, columns: Mapping[str, Column], rows: int
) -> tuple[npt.NDArray[Any], Floats | None] | None:
    """Return label and score of each row (no scores without probabilities), or None if the model refuses."""
    labels, scores = [], []
    with_scores = schema.target.classes is not None and hasattr(model, "predict_proba")
    for start in range(0, rows, _PIECE):
        piece = frame({name: column[start : start + _PIECE] for name, column in columns.items()})
        try:
            with warnings.catch_warnings():
                # Categories that the training rows lack are what held-out rows may have.
                warnings.simplefilter("ignore")
                labels.append(np.asarray(model.predict(piece)).reshape(-1))
                if with_scores:
                    scores.append(score(np.asarray(model.predict_proba(piece))))
        except ValueError:
            # A category or a missing value that the estimator does not take: the evaluation will say so.
            return None
    if not labels:
        return None
    return np.concatenate(labels), np.concatenate(scores) if with_scores else None
