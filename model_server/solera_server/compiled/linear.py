"""
Linear models: products of columns with weights, summed in the columns' order, and what follows from the sums.

BLAS chooses its order of summation by the number of rows; here the order is fixed, so that no row's answer
depends on its neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled import kernels
from solera_server.compiled.blocks import Matrix, Split
from solera_server.compiled.links import indicator_sums, normalised_logistic, softmax
from solera_server.compiled.registry import SUMS, Context, Estimator, Numbers, estimator

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from solera_server.compiled.node import Node


class Sums:
    """Scores of shape (rows, outputs): X times ``weights`` (n_features, outputs), plus ``intercept``."""

    exactness = SUMS
    exponentials = True
    native = kernels.NATIVE
    takes_sparse = True
    finite_scores = True

    def __init__(self, weights: Matrix, intercept: Matrix) -> None:
        self.n_features, self._outputs = weights.shape
        self.weights = weights
        self.intercept = intercept
        self._zero = np.zeros(self._outputs)

    def scores(self, X: Any) -> Matrix:
        out = np.empty((len(X) if isinstance(X, np.ndarray) else X.rows, self._outputs))
        if isinstance(X, np.ndarray):
            kernels.linear(X, self.weights, self.intercept, out)
            return out
        return self._split(X, out)

    def scaled(self, X: Matrix, shift: Matrix, divisor: Matrix, bound: float) -> Matrix | None:
        """Return the scores of (X - shift) / divisor; None where a number or score is not below ``bound``."""
        out = np.empty((len(X), self._outputs))
        calm = kernels.scaled_linear(X, shift, divisor, self.weights, self.intercept, bound, out)
        return out if calm else None

    def _split(self, block: Split, out: Matrix) -> Matrix:
        """Add up block after block: another order than that of one dense matrix, and as fixed."""
        total = np.zeros(out.shape)
        for start, matrix in block.dense:
            kernels.linear(
                np.ascontiguousarray(matrix),
                self.weights[start : start + matrix.shape[1]],
                self._zero,
                out,
            )
            total += out
        for start, sparse in block.sparse:
            total += sparse.times(self.weights[start : start + sparse.width])
        total += self.intercept
        return total


class LinearRegressor(Numbers, Sums):
    """A number: the sum, or what a link makes of it."""

    def __init__(
        self, weights: Matrix, intercept: Matrix, link: Callable[[Matrix], Matrix] | None = None
    ) -> None:
        super().__init__(weights, intercept)
        self.link = link

    def predict(self, scores: Matrix) -> NDArray[Any]:
        values = scores[:, 0]
        return values if self.link is None else self.link(values)


class LinearClassifier(Sums):
    """The class of the largest sum, or with one sum its sign."""

    def __init__(
        self,
        weights: Matrix,
        intercept: Matrix,
        classes: NDArray[Any],
        probabilities: Callable[[Matrix], Matrix] | None = None,
    ) -> None:
        super().__init__(weights, intercept)
        self.classes: NDArray[Any] = classes
        self.has_probabilities = probabilities is not None
        self.probabilities = probabilities

    def predict(self, scores: Matrix) -> NDArray[Any]:
        if len(scores) == 1:
            # A view of one class takes a third of the time of a choice.
            number = int(scores.argmax()) if scores.shape[1] > 1 else int(scores.item() > 0)
            return self.classes[number : number + 1]
        chosen = (scores[:, 0] > 0).view(np.int8) if scores.shape[1] == 1 else scores.argmax(axis=1)
        classes: NDArray[Any] = self.classes[chosen]
        return classes

    def predict_proba(self, scores: Matrix) -> NDArray[Any]:
        if self.probabilities is None:
            raise NotImplementedError
        return self.probabilities(scores)


def weights_and_intercept(node: Node, outputs: int | None = None) -> tuple[Matrix, Matrix]:
    """Return ``coef_`` as (n_features, outputs) and ``intercept_`` as (outputs,). Raises NotCompilable."""
    features = node.integer("n_features_in_")
    coefficients = node.get("coef_")
    if getattr(coefficients, "ndim", 0) == 1:
        weights = node.array("coef_", (features,)).reshape(features, 1)
    else:
        weights = np.ascontiguousarray(node.array("coef_", (outputs, features)).T)
    count = weights.shape[1]
    if outputs is not None and count != outputs:
        raise node.fail(f"it has {count} rows of coefficients, not {outputs}")
    intercept = node.get("intercept_")
    if isinstance(intercept, np.ndarray) and intercept.ndim == 1 and intercept.size == count:
        return weights, node.array("intercept_", (count,))
    return weights, np.full(count, node.number("intercept_"))


def class_sums(node: Node) -> tuple[Matrix, Matrix, NDArray[Any]]:
    """Return weights, intercept and classes of a classifier: one sum for two classes, otherwise one each."""
    classes = node.array_like("classes_")
    if len(classes) < 2:
        raise node.fail("it has fewer than two classes")
    return *weights_and_intercept(node, 1 if len(classes) == 2 else len(classes)), classes


@estimator(
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
    "sklearn.linear_model._logistic.LogisticRegression",
)
def logistic_regression(node: Node, _context: Context) -> Estimator:
    weights, intercept, classes = class_sums(node)
    two = weights.shape[1] == 1
    return LinearClassifier(weights, intercept, classes, normalised_logistic if two else softmax)


@estimator(
    "sklearn.svm._classes.LinearSVC",
    "sklearn.linear_model._perceptron.Perceptron",
    "sklearn.linear_model._passive_aggressive.PassiveAggressiveClassifier",
)
def plain_classifier(node: Node, _context: Context) -> Estimator:
    return LinearClassifier(*class_sums(node))


@estimator("sklearn.linear_model._ridge.RidgeClassifier")
def ridge_classifier(node: Node, _context: Context) -> Estimator:
    binarizer = node.node("_label_binarizer", "LabelBinarizer")
    classes = binarizer.array_like("classes_")
    if len(classes) < 2 or not str(binarizer.get("y_type_")).startswith(("binary", "multiclass")):
        raise node.fail("it has several targets")
    sums = weights_and_intercept(node, 1 if len(classes) == 2 else len(classes))
    return LinearClassifier(*sums, classes)


@estimator("sklearn.linear_model._stochastic_gradient.SGDClassifier")
def sgd_classifier(node: Node, _context: Context) -> Estimator:
    probabilities = {"log_loss": normalised_logistic, "modified_huber": indicator_sums}
    return LinearClassifier(*class_sums(node), probabilities.get(node.text("loss")))


@estimator(
    "sklearn.linear_model._base.LinearRegression",
    "sklearn.linear_model._bayes.ARDRegression",
    "sklearn.linear_model._bayes.BayesianRidge",
    "sklearn.linear_model._coordinate_descent.ElasticNet",
    "sklearn.linear_model._coordinate_descent.Lasso",
    "sklearn.linear_model._huber.HuberRegressor",
    "sklearn.linear_model._passive_aggressive.PassiveAggressiveRegressor",
    "sklearn.linear_model._quantile.QuantileRegressor",
    "sklearn.linear_model._ridge.Ridge",
    "sklearn.linear_model._stochastic_gradient.SGDRegressor",
    "sklearn.linear_model._theil_sen.TheilSenRegressor",
    "sklearn.svm._classes.LinearSVR",
)
def linear_regressor(node: Node, _context: Context) -> Estimator:
    return LinearRegressor(*weights_and_intercept(node, 1))


@estimator(
    "sklearn.linear_model._glm.glm.PoissonRegressor",
    "sklearn.linear_model._glm.glm.GammaRegressor",
    "sklearn.linear_model._glm.glm.TweedieRegressor",
)
def generalised_linear_regressor(node: Node, _context: Context) -> Estimator:
    link = node.node("_base_loss").node("link", "IdentityLink", "LogLink").name
    return LinearRegressor(*weights_and_intercept(node, 1), np.exp if link == "LogLink" else None)
