"""Naive Bayes and discriminant analysis: logarithms of probabilities, added up in the columns' order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled import kernels
from solera_server.compiled.blocks import Matrix
from solera_server.compiled.linear import LinearClassifier
from solera_server.compiled.links import column_sums, log_softmax_exponentials
from solera_server.compiled.node import Node, checked
from solera_server.compiled.refusals import Refused
from solera_server.compiled.registry import SUMS, Context, Estimator, estimator

if TYPE_CHECKING:
    from numpy.typing import NDArray


_PARTS_AT_ONCE = 2**16
"""Numbers that are made at once of rows, classes and columns: so many stay in the cache."""


class Likelihoods:
    """A classifier by logarithms of likelihoods, shape (rows, classes)."""

    exactness = SUMS
    exponentials = True
    native = False
    has_probabilities = True
    takes_sparse = False
    finite_scores = True

    def __init__(self, n_features: int, classes: NDArray[Any]) -> None:
        self.n_features = n_features
        self.classes = classes

    def predict(self, scores: Matrix) -> NDArray[Any]:
        classes: NDArray[Any] = self.classes[scores.argmax(axis=1)]
        return classes

    def predict_proba(self, scores: Matrix) -> NDArray[Any]:
        return log_softmax_exponentials(scores)


class GaussianBayes(Likelihoods):
    """Each column normal in each class."""

    def __init__(self, classes: NDArray[Any], means: Matrix, variances: Matrix, priors: Matrix) -> None:
        super().__init__(means.shape[1], classes)
        self._means = means
        self._variances = variances
        self._constants = np.log(priors)
        self._halves = -0.5 * np.array([np.sum(np.log(2.0 * math.pi * row)) for row in variances])

    def scores(self, X: Matrix) -> Matrix:
        out = np.empty((len(X), len(self.classes)))
        step = max(1, _PARTS_AT_ONCE // self._means.size)
        with np.errstate(all="ignore"):
            for start in range(0, len(X), step):
                parts = (X[start : start + step, None, :] - self._means) ** 2
                parts /= self._variances
                sums = column_sums(parts.reshape(-1, self.n_features)).reshape(-1, len(self.classes))
                out[start : start + step] = self._constants + (self._halves - 0.5 * sums)
        return out


def _classes(node: Node) -> NDArray[Any]:
    classes = node.array_like("classes_")
    if len(classes) < 2:
        raise node.fail("it has fewer than two classes")
    return classes


@estimator("sklearn.naive_bayes.GaussianNB")
def gaussian_nb(node: Node, _context: Context) -> Estimator:
    classes = _classes(node)
    shape = (len(classes), node.integer("n_features_in_"))
    variances = node.array("var_", shape)
    priors = node.array("class_prior_", (len(classes),))
    if not ((variances > 0).all() and (priors > 0).all()):
        raise node.fail("a variance or a prior is not positive")
    return GaussianBayes(classes, node.array("theta_", shape), variances, priors)


class DiscreteBayes(LinearClassifier):
    """Counts times logarithms of probabilities."""

    def __init__(
        self, weights: Matrix, intercept: Matrix, classes: NDArray[Any], threshold: float | None = None
    ) -> None:
        super().__init__(weights, intercept, classes, log_softmax_exponentials)
        self.threshold = threshold
        self.takes_sparse = threshold is None
        self.finite_scores = threshold is None

    def scores(self, X: Any) -> Matrix:
        if self.threshold is not None:
            if not np.isfinite(X).all():
                raise Refused("a number is missing or infinite")
            X = (self.threshold < X).astype(np.float64)
        return super().scores(X)


def _log_probabilities(node: Node) -> tuple[Matrix, NDArray[Any]]:
    classes = _classes(node)
    return node.array("feature_log_prob_", (len(classes), node.integer("n_features_in_"))), classes


@estimator("sklearn.naive_bayes.MultinomialNB")
def multinomial_nb(node: Node, _context: Context) -> Estimator:
    logs, classes = _log_probabilities(node)
    priors = node.array("class_log_prior_", (len(classes),))
    return DiscreteBayes(np.ascontiguousarray(logs.T), priors, classes)


@estimator("sklearn.naive_bayes.ComplementNB")
def complement_nb(node: Node, _context: Context) -> Estimator:
    logs, classes = _log_probabilities(node)
    return DiscreteBayes(np.ascontiguousarray(logs.T), np.zeros(len(classes)), classes)


@estimator("sklearn.naive_bayes.BernoulliNB")
def bernoulli_nb(node: Node, _context: Context) -> Estimator:
    logs, classes = _log_probabilities(node)
    with np.errstate(all="ignore"):
        absent = np.log(1 - np.exp(logs))
    if not np.isfinite(absent).all():
        raise node.fail("a probability is one")
    intercept = node.array("class_log_prior_", (len(classes),)) + absent.sum(axis=1)
    weights = np.ascontiguousarray((logs - absent).T)
    if node.get("binarize") is None:
        return DiscreteBayes(weights, intercept, classes)
    return DiscreteBayes(weights, intercept, classes, node.number("binarize"))


class QuadraticDiscriminant(Likelihoods):
    """Each class normal, with a covariance of its own."""

    def __init__(
        self,
        classes: NDArray[Any],
        means: Matrix,
        rotations: list[Matrix],
        constants: list[tuple[float, float]],
    ) -> None:
        super().__init__(means.shape[1], classes)
        self._means = means
        self._rotations = rotations
        self._constants = constants

    def scores(self, X: Matrix) -> Matrix:
        columns = []
        with np.errstate(all="ignore"):
            for mean, rotation, (logarithm, prior) in zip(
                self._means, self._rotations, self._constants, strict=True
            ):
                turned = np.empty((len(X), rotation.shape[1]))
                kernels.linear(X - mean, rotation, np.zeros(rotation.shape[1]), turned)
                columns.append(-0.5 * (column_sums(turned * turned) + logarithm) + prior)
        return np.stack(columns, axis=1)

    def predict(self, scores: Matrix) -> NDArray[Any]:
        if scores.shape[1] == 2:
            second = (scores[:, 1] - scores[:, 0] > 0).view(np.int8)
            chosen: NDArray[Any] = self.classes[second]
            return chosen
        return super().predict(scores)


@estimator("sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis")
def quadratic_discriminant_analysis(node: Node, _context: Context) -> Estimator:
    classes = _classes(node)
    features = node.integer("n_features_in_")
    means = node.array("means_", (len(classes), features))
    priors = node.array("priors_", (len(classes),))
    rotations, constants = [], []
    pairs = zip(
        node.listed("rotations_", len(classes)), node.listed("scalings_", len(classes)), priors, strict=True
    )
    for rotation, scaling, prior in pairs:
        scales = checked(scaling, "QuadraticDiscriminantAnalysis: scalings_", (None,))
        turn = checked(rotation, "QuadraticDiscriminantAnalysis: rotations_", (features, len(scales)))
        if not (scales > 0).all() or not prior > 0:
            raise node.fail("a scaling or a prior is not positive")
        rotations.append(np.ascontiguousarray(turn * scales**-0.5))
        constants.append((float(np.sum(np.log(scales))), math.log(float(prior))))
    return QuadraticDiscriminant(classes, means, rotations, constants)
