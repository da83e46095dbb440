"""Forests, bags of trees and isolation forests: means over trees, in the order in which they were fitted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled.kernels_numpy_trees import REFUSES_INFINITE
from solera_server.compiled.node import Node, checked, checked_indices
from solera_server.compiled.refusals import NotCompilable
from solera_server.compiled.registry import Context, Estimator, estimator
from solera_server.compiled.trees import (
    Described,
    Forest,
    Probabilities,
    class_values,
    fitted_tree,
    flatten,
    forest,
    refusals,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

_CLASSIFIERS = ("DecisionTreeClassifier", "ExtraTreeClassifier")
_REGRESSORS = ("DecisionTreeRegressor", "ExtraTreeRegressor")
_FOREST = "sklearn.ensemble._forest."
_BAGGING = "sklearn.ensemble._bagging."


def _members(node: Node) -> list[Node]:
    members = node.listed("estimators_")
    if not members or not all(isinstance(member, Node) for member in members):
        raise node.fail("estimators_ holds no fitted trees")
    return members


@estimator(_FOREST + "RandomForestClassifier", _FOREST + "ExtraTreesClassifier")
def _forest_classifier(node: Node, _context: Context) -> Estimator:
    features = node.integer("n_features_in_", 1)
    classes = class_values(node)
    members = _members(node)
    flat = []
    for member in members:
        # One at a time: what a file says of a tree is several times as large as its flat form.
        tree = fitted_tree(member, features, *_CLASSIFIERS)
        if tree.values.shape[1] != len(classes):
            raise node.fail("a tree's leaves have not one value a class")
        flat.append(flatten(tree, features))
    made = forest(flat, features=features, start=np.zeros(len(classes)), divisor=float(len(flat)))
    return Probabilities(made, features, classes)


@estimator(_FOREST + "RandomForestRegressor", _FOREST + "ExtraTreesRegressor")
def _forest_regressor(node: Node, _context: Context) -> Estimator:
    features = node.integer("n_features_in_", 1)
    members = _members(node)
    trees = (fitted_tree(member, features, *_REGRESSORS) for member in members)
    return Forest(_mean(trees, features, float(len(members))), features, 1)


def _mean(trees: Iterable[Described], features: int, divisor: float, refuses: int = REFUSES_INFINITE) -> Any:
    flat = []
    for tree in trees:
        if tree.values.shape[1] != 1:
            raise NotCompilable("a tree's leaves have several values")
        flat.append(flatten(tree, features))
    return forest(flat, features=features, start=np.zeros(1), divisor=divisor, refuses=refuses)


class Chosen:
    """An estimator that sees some columns only: what the others hold is not even looked at."""

    def __init__(self, inner: Any, features: int, columns: NDArray[np.int64]) -> None:
        self._inner = inner
        self._columns = columns
        self.n_features = features

    def scores(self, X: Any) -> Any:
        return self._inner.scores(np.ascontiguousarray(X[:, self._columns]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _subsets(node: Node, count: int, features: int) -> list[NDArray[np.int64]]:
    """Return the columns that each member was fitted on."""
    subsets = node.listed("estimators_features_", count)
    return [
        checked_indices(
            checked(subset, "estimators_features_", (None,), "i"), "estimators_features_", 0, features
        )
        for subset in subsets
    ]


def _over(tree: Described, subset: NDArray[np.int64], columns: NDArray[np.int64]) -> Described:
    """Return the tree with features numbered among ``columns``, which hold all of its ``subset``."""
    if not ((tree.feature[~tree.leaf] >= 0) & (tree.feature[~tree.leaf] < len(subset))).all():
        raise NotCompilable("a tree splits by a feature that does not exist")
    own = np.where(tree.leaf, 0, tree.feature)
    return replace(tree, feature=np.searchsorted(columns, subset[own]))


def _spread(tree: Described, member: Node, classes: int) -> Described:
    """Return the tree with a value for every class of the bag, where it was fitted on some of them only."""
    known = checked_indices(checked(member.get("classes_"), "classes_", (None,), "i"), "classes_", 0, classes)
    if tree.values.shape[1] != len(known):
        raise member.fail("its leaves have not one value a class")
    if len(known) == classes:
        return tree
    values = np.zeros((len(tree.values), classes))
    values[:, known] = tree.values
    return replace(tree, values=values)


@estimator(_BAGGING + "BaggingClassifier", _BAGGING + "BaggingRegressor")
def _bagging(node: Node, _context: Context) -> Estimator:
    features = node.integer("n_features_in_", 1)
    members = _members(node)
    classifier = node.name == "BaggingClassifier"
    subsets = _subsets(node, len(members), features)
    columns = np.unique(np.concatenate(subsets))
    trees = []
    for member, subset in zip(members, subsets, strict=True):
        tree = fitted_tree(member, len(subset), *(_CLASSIFIERS if classifier else _REGRESSORS))
        if classifier:
            tree = _spread(tree, member, len(class_values(node)))
        trees.append(_over(tree, subset, columns))
    refuses = 0
    for member in members:
        refuses |= refusals(member)
    # The mean is over the number asked for, which is that of the members.
    divisor = float(node.integer("n_estimators", len(members), len(members)))
    if classifier:
        classes = class_values(node)
        flat = [flatten(tree, len(columns)) for tree in trees]
        start = np.zeros(len(classes))
        made = forest(flat, features=len(columns), start=start, divisor=divisor, refuses=refuses)
        inner: Forest = Probabilities(made, len(columns), classes)
    else:
        inner = Forest(_mean(trees, len(columns), divisor, refuses), len(columns), 1)
    return inner if len(columns) == features else Chosen(inner, features, columns)


class Isolation(Forest):
    """
    An isolation forest: 1 for what is alike, -1 for outliers.

    The sums of the leaves' depths, negated and over ``denominator``, are exponents of 2.
    """

    def __init__(self, trees: Any, features: int, denominator: float, offset: float) -> None:
        super().__init__(trees, features, 1)
        self._denominator = denominator
        self._offset = offset

    def score_samples(self, scores: Matrix) -> Matrix:
        """Return the opposite of the anomaly score, shape (rows,)."""
        depths = scores[:, 0]
        exponents = depths / self._denominator if self._denominator else np.ones_like(depths)
        result: Matrix = -(2.0**-exponents)
        return result

    def predict(self, scores: Matrix) -> NDArray[Any]:
        return np.where(self.score_samples(scores) - self._offset < 0, -1, 1)


@estimator("sklearn.ensemble._iforest.IsolationForest")
def _isolation(node: Node, _context: Context) -> Estimator:
    features = node.integer("n_features_in_", 1)
    members = _members(node)
    subsets = _subsets(node, len(members), features)
    lengths = node.listed("_decision_path_lengths", len(members))
    averages = node.listed("_average_path_length_per_tree", len(members))
    everything = np.arange(features)
    trees = []
    for member, subset, length, average in zip(members, subsets, lengths, averages, strict=True):
        tree = fitted_tree(member, len(subset), *_REGRESSORS)
        count = (len(tree.leaf),)
        depth = (
            checked(length, "_decision_path_lengths", count, "i") + checked(average, "averages", count) - 1.0
        )
        whole = node.integer("_max_features", 1) == features
        tree = replace(tree, values=depth[:, None])
        trees.append(tree if whole else _over(tree, subset, everything))
    samples = node.integer("_max_samples", 1)
    denominator = len(members) * _average_path_length(samples)
    made = _mean(trees, features, 1.0, 0)
    return Isolation(made, features, denominator, node.number("offset_"))


def _average_path_length(samples: int) -> float:
    """Return the expected depth of a tree that isolates each of ``samples`` rows."""
    if samples <= 2:
        return float(samples == 2)
    count = np.array([samples])
    result = 2.0 * (np.log(count - 1.0) + np.euler_gamma) - 2.0 * (count - 1.0) / count
    return float(result[0])
