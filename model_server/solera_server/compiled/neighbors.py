"""
Nearest neighbours and nearest centres: exact distances to every point, feature by feature.

Which of several points at the very distance of the k-th neighbour count depends on the order in which
scikit-learn's tree comes by them. Where that changes an answer the tree is walked as scikit-learn does, with
the same heap.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled import kernels
from solera_server.compiled.blocks import Matrix
from solera_server.compiled.links import column_sums
from solera_server.compiled.node import STATE, Node, checked, checked_indices
from solera_server.compiled.refusals import Refused
from solera_server.compiled.registry import BITS, SUMS, Context, Estimator, Numbers, estimator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

METRICS = ("euclidean", "manhattan", "chebyshev")
"""In the order of the numbers by which kernels.distances knows them."""

_SAMPLE = 1024
_MANY = 4 * _SAMPLE
_REFUSED = "a number is missing or infinite"


class Heap:
    """The ``size`` smallest of what is pushed. Of equal ones those stay that scikit-learn's heap keeps."""

    def __init__(self, size: int) -> None:
        self.values = [math.inf] * size
        self.indices = [0] * size

    def push(self, value: float, index: int) -> None:
        values, indices = self.values, self.indices
        if value >= values[0]:
            return
        size, place = len(values), 0
        while True:
            child = 2 * place + 1
            if child >= size:
                break
            if child + 1 < size and values[child + 1] > values[child]:
                child += 1
            if values[child] <= value:
                break
            values[place], indices[place] = values[child], indices[child]
            place = child
        values[place], indices[place] = value, index


class Tree:
    """The k-d tree or ball tree of a fitted model."""

    def __init__(self, points: NDArray[Any], nodes: NDArray[Any], bounds: NDArray[Any], metric: str) -> None:
        self._points = points.tolist()
        self._nodes: list[tuple[int, int, int, float]] = nodes.tolist()
        self._bounds: list[list[list[float]]] = bounds.tolist()
        self._metric = metric

    def nearest(self, row: list[float], distances: Matrix, count: int) -> list[int]:
        """Return the indices of the nearest points, as the tree finds them."""
        heap = Heap(count)
        known = distances.tolist()
        # Nodes still to visit with their bounds, the next one last: depth first, the closer child first.
        waiting = [(0, self._bound(0, row))]
        while waiting:
            number, bound = waiting.pop()
            if bound > heap.values[0]:
                continue
            start, end, leaf, _ = self._nodes[number]
            if leaf:
                for index in self._points[start:end]:
                    heap.push(known[index], index)
                continue
            left, right = 2 * number + 1, 2 * number + 2
            pair = [(right, self._bound(right, row)), (left, self._bound(left, row))]
            waiting += pair if pair[1][1] <= pair[0][1] else pair[::-1]
        return heap.indices

    def _bound(self, number: int, row: list[float]) -> float:
        """Return the least distance of the row from any point of a node; euclidean ones squared."""
        if len(self._bounds) == 1:
            return self._ball_bound(number, row)
        gaps = [
            0.5 * ((low - value + abs(low - value)) + (value - high + abs(value - high)))
            for low, high, value in zip(self._bounds[0][number], self._bounds[1][number], row, strict=True)
        ]
        if self._metric == "chebyshev":
            return max(gaps)
        total = 0.0
        for gap in gaps:
            total += gap * gap if self._metric == "euclidean" else gap
        return total

    def _ball_bound(self, number: int, row: list[float]) -> float:
        total = 0.0
        for centre, value in zip(self._bounds[0][number], row, strict=True):
            gap = abs(value - centre)
            if self._metric == "chebyshev":
                total = max(total, gap)
            else:
                total += gap * gap if self._metric == "euclidean" else gap
        if self._metric == "euclidean":
            least = max(0.0, math.sqrt(total) - self._nodes[number][3])
            return least * least
        return max(0.0, total - self._nodes[number][3])


class Neighbors:
    """Finds the neighbours of each row, one row after the other."""

    exponentials = False
    native = kernels.NATIVE
    takes_sparse = False
    finite_scores = False

    def __init__(self, points: Matrix, metric: str, count: int, tree: Tree | None, targets: Any) -> None:
        self.n_features = points.shape[1]
        self._columns = np.ascontiguousarray(points.T)
        self._metric = metric
        self._metric_number = METRICS.index(metric)
        self._count = count
        self._tree = tree
        self._targets = targets

    def found(self, X: Matrix) -> Iterator[tuple[Any, Matrix]]:
        """Yield for each row the indices of its neighbours, nearest first, and their distances."""
        if not np.isfinite(X).all():
            raise Refused(_REFUSED)
        distances = np.empty(self._columns.shape[1])
        for row in np.ascontiguousarray(X):
            kernels.distances(self._columns, row, self._metric_number, distances)
            chosen = self._chosen(row, distances)
            near: Matrix = distances[chosen]
            order = np.lexsort((chosen, near))
            near = near[order]
            yield chosen[order], np.sqrt(near) if self._metric == "euclidean" else near

    def _chosen(self, row: Matrix, distances: Matrix) -> Any:
        count = self._count
        if count == len(distances):
            return np.arange(count)
        if len(distances) > _MANY and count <= _SAMPLE:
            # No more than so many are nearer than the count-th of a sample: a partition of all takes longer.
            sample = distances[:: len(distances) // _SAMPLE]
            near = np.flatnonzero(distances <= np.partition(sample, count - 1)[count - 1])
            last = np.partition(distances[near], count - 1)[count - 1]
            inside = near[distances[near] <= last]
        else:
            last = np.partition(distances, count - 1)[count - 1]
            inside = np.flatnonzero(distances <= last)
        if len(inside) == count:
            return inside
        tied = self._targets[distances == last]
        if (tied == tied[0]).all():
            return inside[np.argsort(distances[inside], kind="stable")[:count]]
        if self._tree is not None:
            return np.array(self._tree.nearest(row.tolist(), distances, count))
        heap = Heap(count)
        for index in range(len(distances)):
            heap.push(float(distances[index]), index)
        return np.array(heap.indices)


def _weights(distances: Matrix) -> Matrix:
    """Return the inverse distances; where some are zero, ones for them and zeros for the others."""
    if distances[0] == 0.0:
        here: NDArray[Any] = distances == 0.0
        return here.astype(np.float64)
    with np.errstate(all="ignore"):
        weights: Matrix = 1.0 / distances
    infinite = np.isinf(weights)
    if infinite.any():
        weights = infinite.astype(np.float64)
    return weights


class NeighborClassifier(Neighbors):
    """Votes of the neighbours, equal or by inverse distance."""

    has_probabilities = True

    def __init__(self, classes: NDArray[Any], *, weighted: bool, **places: Any) -> None:
        super().__init__(**places)
        self.classes = classes
        self.exactness = SUMS if weighted or self._tree is None else BITS
        self._weighted = weighted

    def scores(self, X: Matrix) -> Matrix:
        votes = np.zeros((len(X), len(self.classes)))
        for number, (indices, distances) in enumerate(self.found(X)):
            weights = _weights(distances) if self._weighted else None
            votes[number] = np.bincount(self._targets[indices], weights, len(self.classes))
        return votes

    def predict(self, scores: Matrix) -> NDArray[Any]:
        classes: NDArray[Any] = self.classes[scores.argmax(axis=1)]
        return classes

    def predict_proba(self, scores: Matrix) -> NDArray[Any]:
        total = column_sums(scores)
        total[total == 0] = 1.0
        result: NDArray[Any] = scores / total[:, None]
        return result


class NeighborRegressor(Numbers, Neighbors):
    """The mean of the neighbours' values, equal or by inverse distance."""

    exactness = SUMS

    def __init__(self, *, weighted: bool, **places: Any) -> None:
        super().__init__(**places)
        self._weighted = weighted

    def scores(self, X: Matrix) -> Matrix:
        out = np.empty(len(X))
        for number, (indices, distances) in enumerate(self.found(X)):
            values = self._targets[indices]
            if self._weighted:
                weights = _weights(distances)
                out[number] = np.sum(values * weights) / np.sum(weights)
            else:
                out[number] = np.mean(values)
        return out

    def predict(self, scores: Matrix) -> NDArray[Any]:
        return scores


def _places(node: Node, targets: Any) -> dict[str, Any]:
    features = node.integer("n_features_in_")
    points = node.array("_fit_X", (len(targets), features))
    metric = node.text("effective_metric_", METRICS)
    count = node.integer("n_neighbors", 1, len(targets))
    method = node.text("_fit_method", ("kd_tree", "ball_tree", "brute"))
    if not features:
        raise node.fail("it has no features")
    tree = None
    if method == "brute":
        if node.get("weights") == "distance":
            # scikit-learn's own distances are inexact here, and their inverses more so.
            raise node.fail("it weighs inexact distances")
    else:
        tree = _tree(node.node("_tree", "KDTree", "BallTree"), len(targets), features, metric)
    return {"points": points, "metric": metric, "count": count, "tree": tree, "targets": targets}


def _tree(node: Node, rows: int, features: int, metric: str) -> Tree:
    state = node.get(STATE)
    if not isinstance(state, tuple) or len(state) != 13 or state[12] is not None:
        raise node.fail("its state is odd, or it has weights")
    where = f"{node.name}: its state"
    points = checked_indices(state[1], where, 0, rows)
    if points.shape != (rows,):
        raise node.fail("it has other points")
    nodes = state[2]
    if not isinstance(nodes, np.ndarray) or nodes.ndim != 1 or nodes.dtype.names is None:
        raise node.fail("it has no nodes")
    if nodes.dtype.names != ("idx_start", "idx_end", "is_leaf", "radius") or not len(nodes):
        raise node.fail("its nodes are odd")
    starts = checked_indices(nodes["idx_start"], where, 0, rows + 1)
    ends = checked_indices(nodes["idx_end"], where, 0, rows + 1)
    leaves = checked_indices(nodes["is_leaf"], where, 0, 2)
    checked(nodes["radius"], where, (len(nodes),))
    inner = np.flatnonzero(leaves == 0)
    if (len(inner) and 2 * int(inner.max()) + 2 >= len(nodes)) or (starts > ends).any():
        raise node.fail("its nodes point outside it")
    sides = 2 if node.name == "KDTree" else 1
    bounds = checked(state[3], where, (sides, len(nodes), features), finite=False)
    return Tree(points, nodes, bounds, metric)


def _is_weighted(node: Node) -> bool:
    return node.get("weights") is not None and node.text("weights", ("uniform", "distance")) == "distance"


@estimator("sklearn.neighbors._classification.KNeighborsClassifier")
def k_neighbors_classifier(node: Node, _context: Context) -> Estimator:
    classes = node.array_like("classes_")
    if node.flag("outputs_2d_"):
        raise node.fail("it has several targets")
    votes = checked_indices(node.array("_y", (None,), "i"), "KNeighborsClassifier: _y", 0, len(classes))
    return NeighborClassifier(classes, weighted=_is_weighted(node), **_places(node, votes))


@estimator("sklearn.neighbors._regression.KNeighborsRegressor")
def k_neighbors_regressor(node: Node, _context: Context) -> Estimator:
    values = node.get("_y")
    if isinstance(values, np.ndarray) and values.dtype.kind == "i":
        targets = node.array("_y", (None,), "i").astype(np.float64)
    else:
        targets = node.array("_y", (None,))
    return NeighborRegressor(weighted=_is_weighted(node), **_places(node, targets))


class Centres(Numbers):
    """The number of the nearest centre."""

    exactness = SUMS
    exponentials = False
    native = False
    takes_sparse = False
    finite_scores = True

    def __init__(self, centres: Matrix) -> None:
        self.n_features = centres.shape[1]
        self._centres = centres

    def scores(self, X: Matrix) -> Matrix:
        """Return the squared distances from the centres."""
        columns = []
        with np.errstate(all="ignore"):
            for centre in self._centres:
                gaps = X - centre
                columns.append(column_sums(gaps * gaps))
        return np.stack(columns, axis=1)

    def predict(self, scores: Matrix) -> NDArray[Any]:
        nearest: NDArray[Any] = scores.argmin(axis=1)
        return nearest.astype(np.int32)


@estimator("sklearn.cluster._kmeans.KMeans", "sklearn.cluster._kmeans.MiniBatchKMeans")
def k_means(node: Node, _context: Context) -> Estimator:
    return Centres(node.array("cluster_centers_", (None, node.integer("n_features_in_"))))
