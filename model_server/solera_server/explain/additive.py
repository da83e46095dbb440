"""Models that are sums over the columns: linear models and naive Bayes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from solera_server.compiled.bayes import DiscreteBayes
from solera_server.compiled.links import softmax
from solera_server.explain.method import LOG, LOG_ODDS, LOGITS, SCORE, VALUE

if TYPE_CHECKING:
    from solera_server.compiled.linear import LinearClassifier, LinearRegressor, Sums
    from solera_server.compiled.node import Node
    from solera_server.compiled.registry import Estimator
    from solera_server.explain.method import Matrix, Origins

_SECONDS_PER_PRODUCT = 5e-9


class Additive:
    """
    Sums of a weight times a column: what a column contributes is its weight times the distance to its mean.

    ``reference`` are the columns' means in training, shape (columns,); ``threshold`` is what a column must
    exceed to count as 1, and otherwise as 0, where the model looks at it so.
    """

    def __init__(
        self,
        sums: Sums,
        reference: Matrix,
        of: Origins,
        combine: Matrix | None = None,
        threshold: float | None = None,
    ) -> None:
        weights, intercept = sums.weights, sums.intercept
        if combine is not None:
            weights, intercept = weights @ combine, intercept @ combine
        self.combine: Matrix | None = combine
        self._weights = weights
        self._reference = reference
        self._threshold = threshold
        self._of = of
        self.base: Matrix = intercept + reference @ weights
        self.cost = weights.size * _SECONDS_PER_PRODUCT

    def contributions(self, X: Matrix) -> Matrix:
        if self._threshold is not None:
            X = (self._threshold < X).astype(np.float64)
        rows = [self._of.summed(row[:, None] * self._weights) for row in X - self._reference]
        return np.array(rows).reshape(len(X), self._of.features, -1)


class Densities:
    """
    Gaussian naive Bayes: sums of logarithms of densities, one a column.

    What a column contributes is its logarithm's distance to the mean of that over the training rows, which
    follows from the classes' means and variances. ``shares`` are the classes' in training.
    """

    def __init__(self, node: Node, intercept: Matrix, of: Origins, combine: Matrix) -> None:
        count = node.array("class_count_", (len(intercept),))
        shape = (len(intercept), len(of.of_column))
        self._means, self._variances = node.array("theta_", shape), node.array("var_", shape)
        self._of = of
        self.combine: Matrix | None = combine
        self._combine = combine
        shares = count / count.sum()
        spread = self._variances - node.number("epsilon_")
        squares = np.array([shares @ (spread + (self._means - mean) ** 2) for mean in self._means])
        halves = np.log(2.0 * math.pi * self._variances)
        self._expected = -0.5 * (squares / self._variances + halves)
        self._halves = halves
        self.base: Matrix = (intercept + self._expected.sum(axis=1)) @ combine
        self.cost = self._means.size * 4 * _SECONDS_PER_PRODUCT

    def contributions(self, X: Matrix) -> Matrix:
        rows = []
        for row in X:
            logs = -0.5 * ((row - self._means) ** 2 / self._variances + self._halves)
            rows.append(self._of.summed((logs - self._expected).T @ self._combine))
        return np.array(rows).reshape(len(X), self._of.features, -1)


def bayes_method(node: Node, estimator: Estimator, of: Origins) -> Additive | Densities | None:
    """
    Return the method of a naive Bayes classifier, None for another estimator.

    Its scores are logarithms of joint probabilities, which share all that says nothing of the class: two
    classes are told apart by their difference, more by the distance to the mean of all.
    """
    if node.type == "sklearn.naive_bayes.GaussianNB":
        priors = node.array("class_prior_", (None,))
        return Densities(node, np.log(priors), of, _combine(len(priors)))
    if isinstance(estimator, DiscreteBayes):
        classes = len(estimator.classes)
        counts = node.array("feature_count_", (classes, estimator.n_features))
        rows = node.array("class_count_", (classes,))
        reference = counts.sum(axis=0) / rows.sum()
        return Additive(estimator, reference, of, _combine(classes), estimator.threshold)
    return None


def _combine(classes: int) -> Matrix:
    if classes == 2:
        return np.array([[-1.0], [1.0]])
    result: Matrix = np.eye(classes) - 1.0 / classes
    return result


def bayes_scale(classes: int) -> str:
    return LOG_ODDS if classes == 2 else LOGITS


def linear_scale(estimator: LinearRegressor | LinearClassifier) -> str:
    """Say what an estimator's sums are: without probabilities just scores."""
    if estimator.classes is None:
        return VALUE if estimator.link is None else LOG
    if not estimator.has_probabilities:
        return SCORE
    return LOGITS if estimator.probabilities is softmax else LOG_ODDS
