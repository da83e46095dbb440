"""The baseline of an artifact: what features and predictions looked like at training, in frozen bins.

Servers count into the same bins, and drift is judged against these counts. `docs/artifact-format.md` shows
the file `baseline.json`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from solera_core import artifact
from solera_core.failures import ArtifactCorrupt
from solera_core.histogram import Bins, CategoricalBins, NumericBins, read_bins
from solera_core.schema import STRING, Schema

FORMAT_VERSION = 1
LABEL = "predict"
SCORE = "score"
"""Second class's probability where there are two classes, the largest one where there are more."""


def score(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the score of each row; probabilities have shape (rows, classes)."""
    if probabilities.shape[1] == 2:
        return probabilities[:, 1]
    found: npt.NDArray[np.float64] = probabilities.max(axis=1)
    return found


@dataclass(frozen=True)
class Histogram:
    """Bins with the number of rows in each; `mean` of the finite values where they are numbers."""

    bins: Bins
    counts: tuple[int, ...]
    mean: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the document's form."""
        document = {"bins": self.bins.to_json(), "counts": list(self.counts)}
        return document if self.mean is None else {**document, "mean": self.mean}


@dataclass(frozen=True)
class Baseline:
    """Histograms of training rows by feature, in the schema's order, and of held-out predictions by output.

    `predictions` has `predict` and, for classifiers with probabilities, `score`; it is empty when the model
    refused a held-out row. `outcome_clip` bounds the errors of a regression that servers add up: beyond it an
    error counts as the bound; None for classification, and when there is nothing to derive it from.
    """

    rows: int
    held_out_rows: int
    features: dict[str, Histogram]
    predictions: dict[str, Histogram]
    outcome_clip: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the document `baseline.json`."""
        document: dict[str, Any] = {
            "formatVersion": FORMAT_VERSION,
            "rows": self.rows,
            "features": [{"name": name, **item.to_json()} for name, item in self.features.items()],
            "heldOutRows": self.held_out_rows,
            "predictions": [{"name": name, **item.to_json()} for name, item in self.predictions.items()],
        }
        if self.outcome_clip is not None:
            document["outcomeClip"] = self.outcome_clip
        return document


def read_baseline(document: Any, schema: Schema) -> Baseline:
    """Read `baseline.json` of an artifact with this schema.

    Raises ArtifactCorrupt.
    """
    required = {"formatVersion", "rows", "features", "heldOutRows", "predictions"}
    if not isinstance(document, dict) or not required <= set(document) <= required | {"outcomeClip"}:
        raise ArtifactCorrupt(
            f"baseline.json is not an object with the fields {', '.join(sorted(required))}."
        )
    if document["formatVersion"] != FORMAT_VERSION:
        raise ArtifactCorrupt(f"baseline.json has not the format version {FORMAT_VERSION}.")
    features = _histograms(document["features"], "features", _rows(document, "rows"))
    predictions = _histograms(document["predictions"], "predictions", _rows(document, "heldOutRows"))
    if list(features) != [feature.name for feature in schema.features]:
        raise ArtifactCorrupt("baseline.json has not the features of schema.json, in their order.")
    for feature in schema.features:
        kind = CategoricalBins if feature.type == STRING else NumericBins
        if not isinstance(features[feature.name].bins, kind):
            raise ArtifactCorrupt(f'baseline.json: the bins of "{feature.name}" do not fit {feature.type}.')
    _check_predictions(predictions, schema)
    clip = document.get("outcomeClip")
    if clip is not None and not (_is_number(clip) and clip > 0):
        raise ArtifactCorrupt("baseline.json: outcomeClip is not a positive number.")
    return Baseline(
        document["rows"],
        document["heldOutRows"],
        features,
        predictions,
        None if clip is None else float(clip),
    )


def load_baseline(directory: Path, schema: Schema) -> Baseline | None:
    """Read the baseline of a verified artifact; None when it has none.

    Raises ArtifactCorrupt.
    """
    if not (directory / artifact.BASELINE).is_file():
        return None
    return read_baseline(artifact.read_json(directory, artifact.BASELINE), schema)


def _check_predictions(predictions: dict[str, Histogram], schema: Schema) -> None:
    classes = schema.target.classes
    if predictions and (LABEL not in predictions or not set(predictions) <= {LABEL, SCORE}):
        raise ArtifactCorrupt(f"baseline.json: predictions are {LABEL} and possibly {SCORE}.")
    for name, histogram in predictions.items():
        kind = CategoricalBins if name == LABEL and classes is not None else NumericBins
        if not isinstance(histogram.bins, kind):
            raise ArtifactCorrupt(f"baseline.json: the bins of {name} do not fit the task {schema.task}.")


def _rows(document: dict[str, Any], name: str) -> int:
    value = document[name]
    if type(value) is not int or value < 0:
        raise ArtifactCorrupt(f"baseline.json: {name} is not a number of rows.")
    return value


def _histograms(items: Any, where: str, rows: int) -> dict[str, Histogram]:
    if not isinstance(items, list):
        raise ArtifactCorrupt(f"baseline.json: {where} is not a list.")
    found = {}
    for index, item in enumerate(items):
        place = f"baseline.json: {where}[{index}]"
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise ArtifactCorrupt(f"{place} has no name.")
        if not {"name", "bins", "counts"} <= set(item) <= {"name", "bins", "counts", "mean"}:
            raise ArtifactCorrupt(f"{place} has other fields than name, bins, counts and mean.")
        bins, counts, mean = read_bins(item["bins"], place), item["counts"], item.get("mean")
        if (
            not isinstance(counts, list)
            or len(counts) != bins.size
            or not all(type(number) is int and number >= 0 for number in counts)
            or sum(counts) != rows
        ):
            raise ArtifactCorrupt(f"{place}: counts are not one for each bin, or not of {rows} rows.")
        if mean is not None and not _is_number(mean):
            raise ArtifactCorrupt(f"{place}: mean is not a number.")
        found[item["name"]] = Histogram(bins, tuple(counts), None if mean is None else float(mean))
    if len(found) != len(items):
        raise ArtifactCorrupt(f"baseline.json: {where} has a name twice.")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
