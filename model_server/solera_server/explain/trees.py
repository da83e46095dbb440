"""Trees as TreeSHAP needs them: the shares of the training rows on each branch, and who goes where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled import kernels
from solera_server.compiled.kernels_shap import tree_shap
from solera_server.explain.method import NotExplainable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from solera_server.compiled.trees import Described
    from solera_server.explain.method import Matrix, Origins

MAX_DEPTH = 1000
_CODES = 256
_NO_SETS = np.zeros((0, 16), dtype=np.uint32)
# One number at one point of one node; measured, the larger of several models.
_SECONDS_PER_STEP = 4e-9 if kernels.NATIVE else 3e-8
# Entries of the table of who goes where, for the rows that are computed at a time.
_ROWS_TIMES_NODES = 20_000_000


@dataclass(frozen=True, slots=True)
class Member:
    """A tree of an ensemble; ``cover`` (nodes,) are the (weighted) training rows that came to each node."""

    tree: Described
    cover: Matrix
    column: int
    """The first score that its leaves' values are added to."""
    factor: float
    """What its leaves' values are multiplied by."""


@dataclass(frozen=True, slots=True)
class _Arranged:
    """A tree breadth first; children by place in it."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: Matrix
    missing_left: NDArray[np.bool_]
    set_of: NDArray[np.int64]
    sets: NDArray[np.uint32]
    ratio: Matrix
    values: Matrix
    expected: Matrix
    depth: int
    order: int


class TreeShap:
    """
    Shapley values of sums of trees, path dependent (native/treeshap.c has the algorithm).

    ``start`` is what the sums begin with, shape (scores,); ``single`` says that rows are compared as float32.
    ``recode`` makes of the estimator's columns those that the trees ask for, which are the columns of ``of``.
    """

    combine: Matrix | None = None

    def __init__(
        self,
        members: Iterable[Member],
        start: Matrix,
        of: Origins,
        *,
        single: bool,
        recode: Callable[[Matrix], Matrix] | None = None,
    ) -> None:
        self._recode = recode
        self._single = single
        self._of = of
        columns, arranged = [], []
        for member in members:
            columns.append(member.column)
            arranged.append(_arrange(member, len(of.of_column)))
        sizes = np.array([len(tree.left) for tree in arranged])
        leaves = np.array([len(tree.values) for tree in arranged])
        roots, first_leaves = np.cumsum(sizes) - sizes, np.cumsum(leaves) - leaves
        pairs = list(zip(arranged, roots.tolist(), first_leaves.tolist(), strict=True))
        self._left = _joined(np.where(t.left < 0, -1, t.left + root) for t, root, _ in pairs)
        self._right = _joined(np.where(t.left < 0, t.right + leaf, t.right + root) for t, root, leaf in pairs)
        self._feature = _joined(tree.feature for tree in arranged)
        self._threshold = np.concatenate([tree.threshold for tree in arranged])
        self._missing_left = np.concatenate([tree.missing_left for tree in arranged])
        sets = np.array([len(tree.sets) for tree in arranged])
        first_sets = (np.cumsum(sets) - sets).tolist()
        self._sets = np.concatenate([tree.sets for tree in arranged])
        self._set_of = _joined(
            np.where(t.set_of < 0, -1, t.set_of + first)
            for t, first in zip(arranged, first_sets, strict=True)
        )
        self._categorical = np.flatnonzero(self._set_of >= 0)
        self._ratio = np.concatenate([tree.ratio for tree in arranged])
        self._values = np.ascontiguousarray(np.concatenate([tree.values for tree in arranged]))
        orders = [tree.order for tree in arranged]
        self._points, offsets = _rules(orders)
        places = [offsets[order] for order in orders]
        self._trees = np.array(list(zip(roots, columns, places, orders, strict=True)), dtype=np.int32)
        self._depth = max(tree.depth for tree in arranged)
        self.base = start.copy()
        for tree, column in zip(arranged, columns, strict=True):
            self.base[column : column + len(tree.expected)] += tree.expected
        steps = int((sizes * np.array(orders)).sum()) * (2 + self._values.shape[1])
        self.cost = steps * _SECONDS_PER_STEP

    def contributions(self, X: Matrix) -> Matrix:
        scores = len(self.base)
        out = np.zeros((len(X), self._of.features * scores))
        direct = np.zeros((len(X), scores))
        chunk = max(1, _ROWS_TIMES_NODES // len(self._left))
        for start in range(0, len(X), chunk):
            rows = slice(start, start + chunk)
            tree_shap(
                self._goes_left(X[rows]),
                self._left,
                self._right,
                self._feature,
                self._ratio,
                self._values,
                self._trees,
                self._points,
                self._of.of_column,
                out[rows],
                direct[rows],
                self._depth,
            )
        return out.reshape(len(X), self._of.features, scores)

    def _goes_left(self, X: Matrix) -> NDArray[np.uint8]:
        """Say for each row and node whether the row, were it there, would go left."""
        if self._recode is not None:
            X = self._recode(X)
        if self._single:
            X = X.astype(np.float32).astype(np.float64)
        asked = X.take(self._feature, axis=1)
        result: NDArray[np.bool_] = asked <= self._threshold
        missing = np.isnan(asked)
        if missing.any():
            result = np.where(missing, self._missing_left, result)
        if len(self._categorical):
            chosen = self._categorical
            left, right = self._in_sets(asked[:, chosen])
            result[:, chosen] = left | (~right & self._missing_left[chosen])
        return result.view(np.uint8)

    def _in_sets(self, codes: Matrix) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Say which codes are in the set that goes left, and which in the other; others count as missing."""
        known = (codes >= 0) & (codes < _CODES)
        whole = np.where(known, codes, 0).astype(np.int64)
        words, bits = whole // 32, (whole % 32).astype(np.uint32)
        rows = self._set_of[self._categorical]
        left, right = ((self._sets[rows, words + half] >> bits) & 1 == 1 for half in (0, _CODES // 32))
        return known & left, known & right


def _joined(parts: Iterable[NDArray[np.int64]]) -> NDArray[np.int32]:
    return np.concatenate(list(parts)).astype(np.int32)


def _rules(orders: Sequence[int]) -> tuple[Matrix, dict[int, int]]:
    """Return points and weights on [0, 1] for all orders, shape (2, P), and where each order's begin."""
    points, offsets, start = [], {}, 0
    for order in sorted(set(orders)):
        x, w = np.polynomial.legendre.leggauss(order)
        points.append(np.array([(x + 1.0) / 2.0, w / 2.0]))
        offsets[order] = start
        start += order
    return np.ascontiguousarray(np.concatenate(points, axis=1)), offsets


def _arrange(member: Member, columns: int) -> _Arranged:
    tree, cover = member.tree, member.cover
    order, levels = _breadth_first(tree)
    leaf = tree.leaf[order]
    feature = np.where(leaf, 0, tree.feature[order])
    if not ((feature >= 0) & (feature < columns)).all():
        raise NotExplainable("a tree splits by a column that does not exist")
    if not (np.isfinite(cover) & (cover >= 0)).all():
        raise NotExplainable("a tree does not say how many training rows came to its nodes")
    place = np.empty(len(tree.leaf), dtype=np.int64)
    place[order] = np.arange(len(order))
    inner, outer = np.flatnonzero(~leaf), np.flatnonzero(leaf)
    left, right = np.full(len(order), -1), np.zeros(len(order), dtype=np.int64)
    left[inner], right[inner] = place[tree.left[order[inner]]], place[tree.right[order[inner]]]
    right[outer] = np.arange(len(outer))
    count = cover[order].astype(np.float64)
    ratio, share = np.ones(len(order)), np.ones(len(order))
    for nodes in levels:
        parents = nodes[left[nodes] >= 0]
        for children in (left[parents], right[parents]):
            ratio[children] = np.divide(
                count[children], count[parents], out=np.zeros(len(parents)), where=count[parents] > 0
            )
            share[children] = share[parents] * ratio[children]
    values = tree.values[order][leaf] * member.factor
    depth = len(levels) - 1
    distinct = min(depth, len(np.unique(feature[inner])))
    return _Arranged(
        left=left,
        right=right,
        feature=feature,
        threshold=np.where(leaf, np.inf, tree.threshold[order]),
        missing_left=tree.missing_left[order],
        set_of=np.full(len(order), -1) if tree.set_of is None else np.where(leaf, -1, tree.set_of[order]),
        sets=_NO_SETS if tree.sets is None else tree.sets,
        ratio=ratio,
        values=values,
        expected=share[outer] @ values,
        depth=depth,
        order=max(1, (distinct + 1) // 2),
    )


def _breadth_first(tree: Described) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Return the nodes' numbers level by level, and for each level the places that they get."""
    count = len(tree.leaf)
    level: Any = np.zeros(1, dtype=np.int64)
    found: list[Any] = []
    levels: list[NDArray[np.int64]] = []
    total = 0
    while len(level):
        if len(levels) > MAX_DEPTH:
            raise NotExplainable(f"a tree is deeper than {MAX_DEPTH}")
        found.append(level)
        levels.append(np.arange(total, total + len(level)))
        total += len(level)
        inner = level[~tree.leaf[level]]
        level = np.concatenate([tree.left[inner], tree.right[inner]])
        if not ((level >= 0) & (level < count)).all() or total + len(level) > count:
            raise NotExplainable("a tree's nodes are no tree")
    order = np.concatenate(found)
    if len(np.unique(order)) != len(order):
        raise NotExplainable("a tree's nodes are no tree")
    return order, levels
