"""What a model answers for rows with known targets, in one form for cross-validation and held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Labelled:
    """Classes as codes: positions in the list of classes; a true class that the list lacks has the last code.

    `proba` has shape (rows, classes), or is None when the model gives no probabilities.
    """

    true: Codes
    predicted: Codes
    proba: Floats | None
    classes: int
    unseen: int
    """Rows whose true class had no training row."""


@dataclass(frozen=True)
class Measured:
    """True and predicted numbers; shape (rows,)."""

    true: Floats
    predicted: Floats


def labelled(model: Any, frame: Any, true: npt.NDArray[Any], classes: Sequence[Any]) -> Labelled:
    """Return a classifier's answers for the rows of the frame."""
    known = {label: code for code, label in enumerate(classes)}
    fitted = model.classes_.tolist()
    positions = [known[label] for label in fitted]
    codes = np.array([known.get(label, len(classes)) for label in true.tolist()], dtype=np.int64)
    predicted = np.array([known[label] for label in model.predict(frame).tolist()], dtype=np.int64)
    proba = None
    if hasattr(model, "predict_proba"):
        # A fold may lack a class; its probability is 0 there.
        proba = np.zeros((len(true), len(classes)))
        proba[:, positions] = model.predict_proba(frame)
    return Labelled(codes, predicted, proba, len(classes), int((codes == len(classes)).sum()))


def measured(model: Any, frame: Any, true: npt.NDArray[Any]) -> Measured:
    """Return a regressor's answers for the rows of the frame."""
    predicted = np.asarray(model.predict(frame), dtype=np.float64).reshape(len(true))
    return Measured(np.asarray(true, dtype=np.float64), predicted)
