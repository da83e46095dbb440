"""What a method of explanation offers, and the words for models that have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Matrix = NDArray[np.float64]

PROBABILITY = "probability"
VALUE = "value"
LOG_ODDS = "log-odds"
HALF_LOG_ODDS = "half log-odds"
LOGITS = "logits"
LOG = "log"
SCORE = "score"
"""The scales of scores, and so of contributions. docs/server/explain.md says what they are."""


class NotExplainable(Exception):  # noqa: N818 - says what the model is
    """No exact contributions can be given for this model; the message says why."""


class Method(Protocol):
    """Exact additive contributions to the scores of one model. Reentrant."""

    base: Matrix
    """What the contributions begin at, shape (scores,)."""
    combine: Matrix | None
    """
    From the model's own scores to those that are explained, shape (own scores, scores).

    None where they are the same.
    """
    cost: float
    """Seconds for one row, roughly; what the limit on rows is made of."""

    def contributions(self, X: Matrix) -> Matrix:
        """Return shape (rows, features, scores) for what the estimator gets, float64 (rows, columns)."""


@dataclass(frozen=True, slots=True)
class Origins:
    """Which feature each column of the estimator's input is made of."""

    features: int
    of_column: NDArray[np.int32]

    def summed(self, parts: Matrix) -> Matrix:
        """Add up what a row's columns contribute, (columns, scores), to (features, scores)."""
        out = np.zeros((self.features, parts.shape[1]))
        np.add.at(out, self.of_column, parts)
        return out


def origins(of_column: Sequence[int | None], features: int) -> Origins:
    """Raises NotExplainable where a column is made of several features."""
    several = sum(origin is None for origin in of_column)
    if several:
        raise NotExplainable(
            f"{several} of the {len(of_column)} columns that the estimator gets are made of several features "
            "each (PCA, polynomials and the like), and what such a column contributes cannot be divided "
            "exactly among them"
        )
    return Origins(features, np.array(of_column, dtype=np.int32))
