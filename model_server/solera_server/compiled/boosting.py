"""
Boosted trees: sums of small steps in the order of the iterations, and the loss's link at the end.

An exponential is computed by the function that scikit-learn uses in the same place, since those of numpy
and of the C library differ in the last bit.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled import kernels
from solera_server.compiled.boosting_categories import Recoding, node_sets, recoding
from solera_server.compiled.kernels_numpy_trees import REFUSES_INFINITE, REFUSES_MISSING
from solera_server.compiled.links import softmax
from solera_server.compiled.node import Node
from solera_server.compiled.registry import Context, Estimator, estimator
from solera_server.compiled.trees import (
    Described,
    Flat,
    Forest,
    OutputForEachClass,
    class_values,
    fitted_tree,
    flatten,
    forest,
    node_columns,
    refusal,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

_REGRESSION_TREE = "DecisionTreeRegressor"
_CLASSIFICATION_TREE = "DecisionTreeClassifier"
REFUSES_EVERYTHING = REFUSES_MISSING | REFUSES_INFINITE
_LOSS = "sklearn._loss.loss."
_IDENTITY = frozenset({"HalfSquaredError", "AbsoluteError", "HuberLoss", "PinballLoss"})
_EXPONENTIAL = frozenset({"HalfPoissonLoss", "HalfGammaLoss"})


class Exponential(Forest):
    """Regression whose sums are logarithms."""

    exponentials = True

    def predict(self, scores: Matrix) -> NDArray[Any]:
        with np.errstate(over="ignore"):
            return np.exp(scores[:, 0])


class TwoClasses(Forest):
    """Two classes by one sum: half the log odds or the whole, as ``factor`` says."""

    exponentials = True
    has_probabilities = True
    classes: NDArray[Any]

    def __init__(
        self, trees: Any, features: int, classes: NDArray[Any], *, factor: float = 1.0, zero: int
    ) -> None:
        """Take ``zero``, the number of the class to which a sum of 0 belongs."""
        super().__init__(trees, features, 1)
        self.classes = classes
        self._factor = factor
        self._second = operator.ge if zero else operator.gt

    def predict(self, scores: Matrix) -> NDArray[Any]:
        if len(scores) == 1:
            number = int(self._second(scores.item(), 0.0))
            return self.classes[number : number + 1]
        chosen: NDArray[Any] = self.classes[self._second(scores[:, 0], 0.0).astype(np.intp)]
        return chosen

    def predict_proba(self, scores: Matrix) -> Matrix:
        result = np.empty((len(scores), 2))
        kernels.two_shares(scores, self._factor, result)
        return result


class ManyClasses(OutputForEachClass):
    """Several classes by a sum each."""

    exponentials = True

    def __init__(
        self, trees: Any, features: int, classes: NDArray[Any], link: Callable[[Matrix], Matrix]
    ) -> None:
        super().__init__(trees, features, classes)
        self._link = link

    def predict_proba(self, scores: Matrix) -> Matrix:
        return self._link(scores)


def softmax_in_pairs(scores: Matrix) -> Matrix:
    """
    Return the exponentials over their sum, row by row, added up as numpy does within a row.

    From eight classes on that is not one after the other, as links.softmax does, and as it comes about where
    scikit-learn's scores lie class by class.
    """
    result: Matrix = scores - scores.max(axis=1)[:, None]
    np.exp(result, result)
    result /= result.sum(axis=1)[:, None]
    return result


# ---- gradient boosting ---------------------------------------------------------------------------


@estimator(
    "sklearn.ensemble._gb.GradientBoostingClassifier", "sklearn.ensemble._gb.GradientBoostingRegressor"
)
def _gradient_boosting(node: Node, _context: Context) -> Estimator:
    features = node.integer("n_features_in_", 1)
    outputs = node.integer("n_trees_per_iteration_", 1)
    members = node.get("estimators_")
    if not isinstance(members, np.ndarray) or members.ndim != 2 or members.shape[1] != outputs:
        raise node.fail("estimators_ is no table of trees")
    rate = node.number("learning_rate")
    flat = []
    for member in members.reshape(-1):
        if not isinstance(member, Node):
            raise node.fail("estimators_ holds something else than trees")
        tree = fitted_tree(member, features, _REGRESSION_TREE)
        if tree.values.shape[1] != 1:
            raise node.fail("a tree's leaves have several values")
        flat.append(_scaled(flatten(tree, features), rate))
    loss = loss_name(node)
    offsets = list(range(outputs)) * len(members)
    start = initial_scores(node, loss, outputs)
    made = forest(flat, features=features, start=start, offsets=offsets, refuses=REFUSES_EVERYTHING)
    if node.name == "GradientBoostingRegressor":
        if loss not in _IDENTITY or outputs != 1:
            raise node.fail(f"the loss is {loss}")
        return Forest(made, features, 1)
    classes = class_values(node)
    if loss == "HalfMultinomialLoss" and outputs == len(classes) > 2:
        return ManyClasses(made, features, classes, softmax_in_pairs)
    if outputs != 1 or len(classes) != 2 or loss not in ("HalfBinomialLoss", "ExponentialLoss"):
        raise node.fail(f"the loss is {loss} for {len(classes)} classes")
    factor = 2.0 if loss == "ExponentialLoss" else 1.0
    return TwoClasses(made, features, classes, factor=factor, zero=1)


def loss_name(node: Node) -> str:
    loss = node.node("_loss")
    if not loss.type.startswith(_LOSS):
        raise node.fail(f"the loss is {loss.type}")
    return loss.name


def _scaled(tree: Flat, rate: float) -> Flat:
    return Flat(
        tree.feature, tree.threshold, tree.left, tree.flags, tree.place, rate * tree.values, tree.categories
    )


def initial_scores(node: Node, loss: str, outputs: int) -> Matrix:
    """Return what the sums begin with, the same for every row: shape (outputs,)."""
    if node.get("init_") == "zero":
        return np.zeros(outputs)
    initial = node.node("init_", "sklearn.dummy.DummyClassifier", "sklearn.dummy.DummyRegressor")
    if initial.name == "DummyRegressor":
        constant: Matrix = initial.array("constant_", (1, outputs))[0]
        return constant
    if initial.text("_strategy") != "prior":
        raise node.fail("its first estimate is not the classes' shares")
    prior = initial.array("class_prior_", (None,))
    if len(prior) != max(outputs, 2):
        raise node.fail("its first estimate has another number of classes")
    smallest = float(np.finfo(np.float64).eps)
    if outputs == 1:
        odds = _logit(min(max(float(prior[1]), smallest), 1 - smallest))
        return np.array([0.5 * odds if loss == "ExponentialLoss" else odds])
    shares = np.clip(prior, smallest, 1 - smallest)
    mean = np.exp(np.array([np.log(shares).mean()]))
    logarithms: Matrix = np.log(shares / mean)
    return logarithms


def _logit(share: float) -> float:
    """Return log(p / (1 - p)), near a half by another formula, as scipy does."""
    if share < 0.3 or share > 0.65:
        return math.log(share / (1 - share))
    distance = 2 * (share - 0.5)
    return math.log1p(distance) - math.log1p(-distance)


# ---- histogram gradient boosting -----------------------------------------------------------------

_HIST = "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoosting"


@estimator(_HIST + "Classifier", _HIST + "Regressor")
def _histogram_boosting(node: Node, _context: Context) -> Estimator:
    features = node.integer("_n_features", 1)
    if node.integer("n_features_in_", 1) != features:
        raise node.fail("its inner features are not those of the input")
    outputs = node.integer("n_trees_per_iteration_", 1)
    iterations = node.listed("_predictors")
    recode = recoding(node, features)
    known = None if recode is None else recode.known_sets(features)
    flat = []
    for iteration in iterations:
        if not isinstance(iteration, list) or len(iteration) != outputs:
            raise node.fail("an iteration has not one tree for each output")
        flat += [flatten(histogram_tree(tree, node, known), features) for tree in iteration]
    start = node.array("_baseline_prediction", (1, outputs))[0]
    offsets = list(range(outputs)) * len(iterations)
    made = forest(flat, features=features, start=start, offsets=offsets, single=False, refuses=0)
    return _histogram_model(node, Recoded(made, recode) if recode else made, features, outputs)


class Recoded:
    """Trees behind a recoding of categorical features."""

    def __init__(self, trees: Any, recode: Recoding) -> None:
        self._trees = trees
        self._recode = recode

    def score(self, x: Matrix, out: Matrix) -> int:
        """Do what kernels.Trees does. Raises Refused."""
        refused: int = self._trees.score(self._recode(x), out)
        return refused


def _histogram_model(node: Node, made: Any, features: int, outputs: int) -> Estimator:
    loss = loss_name(node)
    if node.name.endswith("Regressor"):
        if outputs != 1 or loss not in _IDENTITY | _EXPONENTIAL:
            raise node.fail(f"the loss is {loss}")
        return (Exponential if loss in _EXPONENTIAL else Forest)(made, features, 1)
    classes = class_values(node)
    if loss == "HalfMultinomialLoss" and outputs == len(classes) > 2:
        return ManyClasses(made, features, classes, softmax)
    if outputs != 1 or len(classes) != 2 or loss != "HalfBinomialLoss":
        raise node.fail(f"the loss is {loss} for {len(classes)} classes")
    return TwoClasses(made, features, classes, zero=0)


def histogram_tree(tree: Any, node: Node, known: NDArray[np.uint32] | None = None) -> Described:
    """Return one tree of an iteration; ``known`` has the categories of each feature, where there are any."""
    if not isinstance(tree, Node) or tree.name != "TreePredictor":
        raise node.fail("an iteration holds something else than trees")
    nodes, column = node_columns(tree)
    leaf = column("is_leaf", "i") != 0
    set_of = sets = None
    if (column("is_categorical", "i")[~leaf] != 0).any():
        if known is None:
            raise tree.fail("it splits by categories that are not known")
        set_of, sets = node_sets(tree, nodes, ~leaf, known)
    return Described(
        leaf=leaf,
        left=column("left", "i"),
        right=column("right", "i"),
        feature=column("feature_idx", "i"),
        threshold=column("num_threshold", "f"),
        missing_left=column("missing_go_to_left", "i") != 0,
        values=column("value", "f", finite=True)[:, None],
        set_of=set_of,
        sets=sets,
    )


# ---- AdaBoost ------------------------------------------------------------------------------------

_ADABOOST = "sklearn.ensemble._weight_boosting.AdaBoost"


def _boosted(node: Node) -> tuple[int, list[Node], Matrix]:
    """Return the number of features, the trees and their weights."""
    members = node.listed("estimators_")
    if not members or not all(isinstance(member, Node) for member in members):
        raise node.fail("estimators_ holds no fitted trees")
    weights = node.array("estimator_weights_", (None,))
    if len(weights) < len(members):
        raise node.fail("there is not one weight for each tree")
    return node.integer("n_features_in_", 1), members, weights


class Votes(OutputForEachClass):
    """Weighted votes of trees; the scores are the classes' sums of votes."""

    exponentials = True

    def predict(self, scores: Matrix) -> NDArray[Any]:
        if len(self.classes) == 2:
            chosen = (scores[:, 1] - scores[:, 0] > 0).astype(np.intp)
        else:
            chosen = scores.argmax(axis=1)
        values: NDArray[Any] = self.classes[chosen]
        return values

    def predict_proba(self, scores: Matrix) -> Matrix:
        if len(self.classes) == 2:
            decision = scores[:, 1] - scores[:, 0]
            return softmax(np.column_stack([-decision, decision]) / 2)
        return softmax(scores / (len(self.classes) - 1))


@estimator(_ADABOOST + "Classifier")
def _adaboost_classifier(node: Node, _context: Context) -> Estimator:
    features, members, weights = _boosted(node)
    classes = class_values(node)
    if len(classes) < 2:
        raise node.fail("it knows one class only")
    flat = []
    for member, weight in zip(members, weights.tolist(), strict=False):
        tree = flatten(fitted_tree(member, features, _CLASSIFICATION_TREE), features)
        known = class_values(member).tolist()
        if tree.values.shape[1] != len(known) or not set(known) <= set(classes.tolist()):
            raise node.fail("a tree knows other classes")
        chosen = np.array([classes.tolist().index(value) for value in known])[tree.values.argmax(axis=1)]
        votes = np.full((len(chosen), len(classes)), -1 / (len(classes) - 1) * weight)
        votes[np.arange(len(chosen)), chosen] = weight
        flat.append(
            Flat(tree.feature, tree.threshold, tree.left, tree.flags, tree.place, votes, tree.categories)
        )
    start = np.zeros(len(classes))
    made = forest(
        flat, features=features, start=start, divisor=float(weights.sum()), refuses=REFUSES_EVERYTHING
    )
    return Votes(made, features, classes)


class Median(Forest):
    """The weighted median of the trees' values; the scores are the values, shape (rows, trees)."""

    def __init__(self, trees: Any, features: int, weights: Matrix) -> None:
        super().__init__(trees, features, len(weights))
        self._weights = weights

    def scores(self, X: Any) -> Matrix:
        out = np.empty((len(X), len(self._weights)))
        refused = self.trees.each(X, out)
        if refused >= 0:
            raise refusal(X, refused)
        return out

    def predict(self, scores: Matrix) -> NDArray[Any]:
        order = scores.argsort(axis=1)
        below = np.cumsum(self._weights[order], axis=1)
        middle = (below >= 0.5 * below[:, -1][:, None]).argmax(axis=1)
        rows = np.arange(len(scores))
        values: NDArray[Any] = scores[rows, order[rows, middle]]
        return values


@estimator(_ADABOOST + "Regressor")
def _adaboost_regressor(node: Node, _context: Context) -> Estimator:
    features, members, weights = _boosted(node)
    flat = [flatten(fitted_tree(member, features, _REGRESSION_TREE), features) for member in members]
    if any(tree.values.shape[1] != 1 for tree in flat):
        raise node.fail("a tree's leaves have several values")
    made = forest(flat, features=features, start=np.zeros(1), refuses=REFUSES_EVERYTHING)
    return Median(made, features, weights[: len(members)])
