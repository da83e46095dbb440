"""Models that are sums over the columns: linear models and their links."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solera_server.compiled.links import softmax
from solera_server.explain.method import LOG, LOG_ODDS, LOGITS, SCORE, VALUE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from solera_server.compiled.linear import LinearClassifier, LinearRegressor
    from solera_server.explain.method import Matrix, Origins

_SECONDS_PER_PRODUCT = 5e-9


class Additive:
    """
    Sums of a weight times a column: what a column contributes is its weight times the distance to its mean.

    ``reference`` are the columns' means in training, shape (columns,).
    """

    def __init__(self, weights: Matrix, intercept: Matrix, reference: Matrix, of: Origins) -> None:
        self._weights = weights
        self._reference = reference
        self._features = of.features
        # Columns by feature, so that a feature's columns stand side by side.
        self._order = np.argsort(of.of_column, kind="stable")
        ordered = of.of_column[self._order]
        self._starts: NDArray[np.int64] = np.flatnonzero(np.diff(ordered, prepend=-1))
        self._found = ordered[self._starts]
        self.base: Matrix = intercept + reference @ weights
        self.cost = weights.size * _SECONDS_PER_PRODUCT

    def contributions(self, X: Matrix) -> Matrix:  # noqa: N803
        out = np.zeros((len(X), self._features, self._weights.shape[1]))
        if not len(self._order):
            return out
        weights = self._weights[self._order]
        for row, values in enumerate((X - self._reference)[:, self._order]):
            out[row, self._found] = np.add.reduceat(values[:, None] * weights, self._starts, axis=0)
        return out


def linear_scale(estimator: LinearRegressor | LinearClassifier) -> str:
    """Say what an estimator's sums are: without probabilities just scores."""
    if estimator.classes is None:
        return VALUE if estimator.link is None else LOG
    if not estimator.has_probabilities:
        return SCORE
    return LOGITS if estimator.probabilities is softmax else LOG_ODDS
