"""
Trees in flat form, and single trees.

scikit-learn's node is 64 bytes and its children are anywhere. Here a node is 16 bytes, nodes follow breadth
first, and siblings are neighbours: kernels_numpy_trees.py describes the form. What leads from a root is
checked to be a tree, whatever the file says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled import kernels
from solera_server.compiled.kernels_numpy_trees import (
    CATEGORICAL,
    MISSING_LEFT,
    REFUSES_INFINITE,
    REFUSES_MISSING,
    Parts,
)
from solera_server.compiled.node import checked
from solera_server.compiled.refusals import NotCompilable, Refused
from solera_server.compiled.registry import BITS, Context, Estimator, estimator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from solera_server.compiled.node import Node

    Matrix = NDArray[np.float64]

MAX_NODES = 2**31 - 1
_TREE_LEAF = -1
_NO_CATEGORIES = np.zeros((0, 16), dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class Flat:
    """One tree; its arrays are those of kernels_numpy_trees.Trees, the indices counted from its root."""

    feature: NDArray[np.int32]
    threshold: Matrix
    left: NDArray[np.int32]
    flags: NDArray[np.uint8]
    place: NDArray[np.int32]
    values: Matrix
    categories: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Described:
    """
    One tree as a file has it, nodes in any order, the root first; each an array of shape (nodes,).

    ``values`` is (nodes, width). ``sets`` has a row of 16 words for each categorical node, which ``set_of``
    gives; -1 elsewhere.
    """

    leaf: NDArray[np.bool_]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: Matrix
    missing_left: NDArray[np.bool_]
    values: Matrix
    set_of: NDArray[np.int64] | None = None
    sets: NDArray[np.uint32] | None = None


def flatten(tree: Described, features: int) -> Flat:
    """
    Return the tree breadth first, siblings side by side.

    Raises NotCompilable when the nodes are no tree or a feature does not exist.
    """
    order = _breadth_first(tree)
    leaf = tree.leaf[order]
    feature = np.where(leaf, 0, tree.feature[order])
    threshold = np.where(leaf, np.inf, tree.threshold[order])
    if not ((feature >= 0) & (feature < features)).all():
        raise NotCompilable("a tree splits by a feature that does not exist")
    inner = np.flatnonzero(~leaf)
    left = np.arange(len(order))
    left[inner] = 1 + 2 * np.arange(len(inner))
    flags = np.where(leaf | tree.missing_left[order], MISSING_LEFT, 0)
    place = np.zeros(len(order), dtype=np.int64)
    place[leaf] = np.arange(int(leaf.sum()))
    categories = _NO_CATEGORIES
    if tree.set_of is not None and tree.sets is not None:
        categorical = ~leaf & (tree.set_of[order] >= 0)
        flags[categorical] |= CATEGORICAL
        place[categorical] = tree.set_of[order][categorical]
        threshold[categorical] = 0.0
        categories = np.ascontiguousarray(tree.sets)
    if np.isnan(threshold).any():
        raise NotCompilable("a tree has a threshold that is not a number")
    return Flat(
        feature.astype(np.int32),
        threshold,
        left.astype(np.int32),
        flags.astype(np.uint8),
        place.astype(np.int32),
        np.ascontiguousarray(tree.values[order][leaf]),
        categories,
    )


def _breadth_first(tree: Described) -> NDArray[np.int64]:
    """Return the nodes' numbers level by level, the children of a level's nodes in their order."""
    count = len(tree.leaf)
    level = np.zeros(1, dtype=np.int64)
    levels = [level]
    total = 1
    while True:
        inner = level[~tree.leaf[level]]
        if not len(inner):
            return np.concatenate(levels)
        level = np.column_stack([tree.left[inner], tree.right[inner]]).reshape(-1)
        total += len(level)
        if not ((level >= 0) & (level < count)).all() or total > count:
            raise NotCompilable("a tree's nodes are no tree")
        levels.append(level)


def forest(
    trees: Sequence[Flat],
    *,
    features: int,
    start: Matrix,
    offsets: Sequence[int] | None = None,
    divisor: float = 1.0,
    single: bool = True,
    refuses: int = REFUSES_INFINITE,
) -> Any:
    """
    Return kernels.Trees of the trees, in their order.

    ``offsets`` are the first outputs that they add to; 0 by default. Raises NotCompilable.
    """
    if not trees:
        raise NotCompilable("the model has no trees")
    sizes = np.array([len(tree.feature) for tree in trees])
    if int(sizes.sum()) > MAX_NODES:
        raise NotCompilable("the model has more nodes than 31 bits count")
    roots = np.cumsum(sizes) - sizes
    leaves = np.array([len(tree.values) for tree in trees])
    sets = np.array([len(tree.categories) for tree in trees])
    first_leaf, first_set = np.cumsum(leaves) - leaves, np.cumsum(sets) - sets
    place = [
        tree.place + np.where(tree.flags & CATEGORICAL, by_set, by_leaf).astype(np.int32)
        for tree, by_leaf, by_set in zip(trees, first_leaf, first_set, strict=True)
    ]
    parts = Parts(
        np.concatenate([tree.feature for tree in trees]),
        np.concatenate([tree.threshold for tree in trees]),
        np.concatenate([tree.left + np.int32(root) for tree, root in zip(trees, roots, strict=True)]),
        np.concatenate([tree.flags for tree in trees]),
        np.concatenate(place),
        np.ascontiguousarray(np.concatenate([tree.values for tree in trees])),
        roots.astype(np.int32),
        np.zeros(len(trees), dtype=np.int32) if offsets is None else np.array(offsets, dtype=np.int32),
        np.ascontiguousarray(start, dtype=np.float64),
        np.concatenate([tree.categories for tree in trees]),
    )
    try:
        return kernels.Trees(parts, divisor, features, single, refuses)
    except ValueError as error:
        raise NotCompilable(f"the trees cannot be compiled: {error}") from error


def node_columns(tree: Node) -> tuple[NDArray[Any], Callable[..., Any]]:
    """Return a fitted tree's array of nodes, and what checks and returns one of its columns."""
    nodes = tree.get("nodes")
    if not isinstance(nodes, np.ndarray) or nodes.ndim != 1 or nodes.dtype.names is None or not len(nodes):
        raise tree.fail("nodes is no array of nodes")

    def column(name: str, kind: str, *, finite: bool = False) -> Any:
        if name not in (nodes.dtype.names or ()):
            raise tree.fail(f"the nodes have no {name}")
        return checked(nodes[name], f"{tree.name}: {name}", (len(nodes),), kind, finite=finite)

    return nodes, column


def described(tree: Node) -> Described:
    """Return a sklearn.tree._tree.Tree's nodes; of its values those of the one output, (nodes, classes)."""
    nodes, column = node_columns(tree)
    left = column("left_child", "i")
    return Described(
        leaf=left == _TREE_LEAF,
        left=left,
        right=column("right_child", "i"),
        feature=column("feature", "i"),
        threshold=column("threshold", "f"),
        missing_left=column("missing_go_to_left", "i") != 0,
        values=tree.array("values", (len(nodes), 1, None))[:, 0, :],
    )


def fitted_tree(node: Any, features: int, *names: str) -> Described:
    """Return the tree of a fitted decision tree (of one of the class ``names``) of so many features."""
    if node.name not in names or not node.type.startswith("sklearn.tree."):
        raise NotCompilable(f"{node.type} is not one of {', '.join(names)}")
    if node.integer("n_features_in_") != features or node.integer("n_outputs_") != 1:
        raise node.fail("it has another number of features or outputs")
    return described(node.node("tree_", "sklearn.tree._tree.Tree"))


def refusals(node: Node) -> int:
    """Return what a decision tree refuses: infinities, and NaN where its splitter does not know it."""
    missing = not node.name.startswith("Extra") or node.text("splitter", ("best", "random")) == "random"
    return REFUSES_INFINITE if missing else REFUSES_INFINITE | REFUSES_MISSING


def class_values(node: Node) -> NDArray[Any]:
    """Return `classes_`, an array of one dimension with at least one class."""
    classes = node.get("classes_")
    if not isinstance(classes, np.ndarray) or classes.ndim != 1 or not len(classes):
        raise node.fail("classes_ is no list of classes")
    return classes


class Forest:
    """Trees whose leaves' values are added up: the scores are the sums, shape (rows, outputs)."""

    exactness = BITS
    exponentials = False
    native = kernels.NATIVE
    takes_sparse = False
    finite_scores = False
    has_probabilities = False
    classes: NDArray[Any] | None = None

    def __init__(self, trees: Any, features: int, outputs: int) -> None:
        self.trees = trees
        self.n_features = features
        self._outputs = outputs

    def scores(self, X: Any) -> Matrix:
        out = np.empty((len(X), self._outputs))
        refused = self.trees.score(X, out)
        if refused >= 0:
            raise refusal(X, refused)
        return out

    def predict(self, scores: Matrix) -> NDArray[Any]:
        return scores[:, 0]

    def predict_proba(self, scores: Matrix) -> Matrix:
        raise NotImplementedError("this model has no probabilities")


class OutputForEachClass(Forest):
    """Trees whose sums are one for each class."""

    has_probabilities = True
    classes: NDArray[Any]

    def __init__(self, trees: Any, features: int, classes: NDArray[Any]) -> None:
        super().__init__(trees, features, len(classes))
        self.classes = classes

    def predict(self, scores: Matrix) -> NDArray[Any]:
        return best(self.classes, scores)


class Probabilities(OutputForEachClass):
    """Trees whose leaves hold the classes' shares: the scores are the probabilities."""

    def predict_proba(self, scores: Matrix) -> Matrix:
        return scores


def best(classes: NDArray[Any], scores: Matrix) -> NDArray[Any]:
    """Return the class of the largest score of each row, the first of equals."""
    if len(scores) == 1:
        # A view of one class takes a third of the time of a choice.
        number = int(scores.argmax())
        return classes[number : number + 1]
    chosen: NDArray[Any] = classes[scores.argmax(axis=1)]
    return chosen


def refusal(x: Matrix, index: int) -> Refused:
    """Return the error for the value with this index, counted row after row."""
    row, column = divmod(index, x.shape[1])
    what = "missing" if np.isnan(x[row, column]) else "infinite or too large for 32 bits"
    return Refused(f"the value of row {row} in column {column} is {what}")


@estimator("sklearn.tree._classes.DecisionTreeClassifier", "sklearn.tree._classes.ExtraTreeClassifier")
def _classifier(node: Node, _context: Context) -> Estimator:
    features = node.integer("n_features_in_", 1)
    classes = class_values(node)
    tree = fitted_tree(node, features, node.name)
    return Probabilities(_alone(tree, features, len(classes), refusals(node)), features, classes)


@estimator("sklearn.tree._classes.DecisionTreeRegressor", "sklearn.tree._classes.ExtraTreeRegressor")
def _regressor(node: Node, _context: Context) -> Estimator:
    features = node.integer("n_features_in_", 1)
    tree = fitted_tree(node, features, node.name)
    return Forest(_alone(tree, features, 1, refusals(node)), features, 1)


def _alone(tree: Described, features: int, outputs: int, refuses: int) -> Any:
    if tree.values.shape[1] != outputs:
        raise NotCompilable("a tree's leaves have not one value a class")
    # A sum that begins with -0.0 leaves the one value as it is, -0.0 too.
    start = np.full(outputs, -0.0)
    return forest([flatten(tree, features)], features=features, start=start, refuses=refuses)
