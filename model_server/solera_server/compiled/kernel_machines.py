"""Support vector machines and kernel ridge: a kernel with each stored row, summed in their order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled import kernels
from solera_server.compiled.blocks import Matrix
from solera_server.compiled.kernels_numpy import EUCLIDEAN
from solera_server.compiled.node import Node
from solera_server.compiled.refusals import Refused
from solera_server.compiled.registry import SUMS, Context, Estimator, Numbers, estimator

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = ("linear", "poly", "polynomial", "rbf", "sigmoid")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel function and its parameters."""

    kind: str
    gamma: float
    shift: float
    degree: float

    def of_products(self, products: Matrix) -> Matrix:
        """Return the kernel's values from scalar products."""
        if self.kind == "linear":
            return products
        inner = self.gamma * products + self.shift
        result: Matrix = np.tanh(inner) if self.kind == "sigmoid" else inner**self.degree
        return result


class KernelSums:
    """Sums over stored rows of the kernel with them times ``weights`` (stored rows, outputs)."""

    exactness = SUMS
    exponentials = True
    native = kernels.NATIVE
    takes_sparse = False
    finite_scores = False

    def __init__(self, points: Matrix, kernel: Kernel, weights: Matrix, intercept: Matrix) -> None:
        self.n_features = points.shape[1]
        self._turned = np.ascontiguousarray(points.T)
        self._kernel = kernel
        self._weights = weights
        self._intercept = intercept
        self._zeros = np.zeros(len(points))

    def scores(self, X: Matrix) -> Matrix:
        if not np.isfinite(X).all():
            raise Refused("a number is missing or infinite")
        with np.errstate(all="ignore"):
            values = np.empty((len(X), len(self._zeros)))
            if self._kernel.kind == "rbf":
                for number, row in enumerate(np.ascontiguousarray(X)):
                    kernels.distances(self._turned, row, EUCLIDEAN, values[number])
                values *= -self._kernel.gamma
                np.exp(values, values)
            else:
                kernels.linear(X, self._turned, self._zeros, values)
                values = np.ascontiguousarray(self._kernel.of_products(values))
            out = np.empty((len(X), self._weights.shape[1]))
            kernels.linear(values, self._weights, self._intercept, out)
        return out


class KernelRegressor(Numbers, KernelSums):
    """The one sum."""


class PairwiseVotes(KernelSums):
    """A sum for each pair of classes, whose sign is a vote; of equal votes the first class counts."""

    has_probabilities = False

    def __init__(self, classes: NDArray[Any], **parts: Any) -> None:
        super().__init__(**parts)
        self.classes = classes

    def predict(self, scores: Matrix) -> NDArray[Any]:
        votes = np.zeros((len(scores), len(self.classes)), dtype=np.int64)
        for pair, (first, second) in enumerate(combinations(range(len(self.classes)), 2)):
            won = scores[:, pair] > 0
            votes[:, first] += won
            votes[:, second] += ~won
        classes: NDArray[Any] = self.classes[votes.argmax(axis=1)]
        return classes

    def predict_proba(self, scores: Matrix) -> NDArray[Any]:
        raise NotImplementedError


def _machine_kernel(node: Node) -> Kernel:
    kind = node.text("kernel", KINDS)
    return Kernel(kind, node.number("_gamma"), node.number("coef0"), node.number("degree"))


def _vectors(node: Node) -> Matrix:
    if node.get("_sparse"):
        raise node.fail("it was fitted on sparse columns")
    return node.array("support_vectors_", (None, node.integer("n_features_in_", 1)))


@estimator("sklearn.svm._classes.SVR", "sklearn.svm._classes.NuSVR")
def support_vector_regressor(node: Node, _context: Context) -> Estimator:
    points = _vectors(node)
    weights = np.ascontiguousarray(node.array("_dual_coef_", (1, len(points))).T)
    return KernelRegressor(points, _machine_kernel(node), weights, node.array("_intercept_", (1,)))


@estimator("sklearn.svm._classes.SVC", "sklearn.svm._classes.NuSVC")
def support_vector_classifier(node: Node, _context: Context) -> Estimator:
    if node.get("probability") is True or node.flag("break_ties"):
        raise node.fail("it has probabilities, or breaks ties")
    classes = node.array_like("classes_")
    points = _vectors(node)
    coefficients = node.array("_dual_coef_", (len(classes) - 1, len(points)))
    counts = node.array("_n_support", (len(classes),), "i")
    if len(classes) < 2 or (counts < 0).any() or int(counts.sum()) != len(points):
        raise node.fail("its classes are not those of its vectors")
    ends = np.cumsum(counts)
    pairs = list(combinations(range(len(classes)), 2))
    weights = np.zeros((len(points), len(pairs)))
    for number, (first, second) in enumerate(pairs):
        # The vectors of a class have one row of coefficients against each other class.
        for one, row in ((first, second - 1), (second, first)):
            rows = slice(int(ends[one] - counts[one]), int(ends[one]))
            weights[rows, number] = coefficients[row, rows]
    return PairwiseVotes(
        classes,
        points=points,
        kernel=_machine_kernel(node),
        weights=weights,
        intercept=node.array("_intercept_", (len(pairs),)),
    )


@estimator("sklearn.kernel_ridge.KernelRidge")
def kernel_ridge(node: Node, _context: Context) -> Estimator:
    points = node.array("X_fit_", (None, node.integer("n_features_in_", 1)))
    gamma = 1.0 / points.shape[1] if node.get("gamma") is None else node.number("gamma")
    kernel = Kernel(node.text("kernel", KINDS), gamma, node.number("coef0"), node.number("degree"))
    weights = node.array("dual_coef_", (len(points),)).reshape(len(points), 1)
    return KernelRegressor(points, kernel, weights, np.zeros(1))
