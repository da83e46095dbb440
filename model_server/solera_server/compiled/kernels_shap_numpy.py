"""
Path-dependent TreeSHAP in numpy: the same function as in the extension ``solera_native``, to rounding.

native/treeshap.c says how the Shapley values become an integral. Here all nodes of a level of many trees go
at once, for one row at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int32]

# Numbers in one array of a chunk of trees (nodes x points x values): 16 MB.
_CHUNK = 2_000_000


def tree_shap(  # noqa: PLR0917 - as the extension takes them
    goes_left: NDArray[np.uint8],
    left: Indices,
    right: Indices,
    feature: Indices,
    ratio: Floats,
    values: Floats,
    trees: Indices,
    points: Floats,
    groups: Indices,
    out: Floats,
    direct: Floats,
    depth: int,  # noqa: ARG001 - how much memory the native kernel needs
) -> None:
    """
    Add the Shapley values of n rows in the sum of T trees to ``out``, and the trees' sums to ``direct``.

    The N nodes of all trees stand tree by tree, each parent before its children. ``goes_left`` (n, N) says 1
    where a row, were it at the node, would go left. ``left`` and ``right`` (N,) are the children; at a leaf
    ``left`` is -1 and ``right`` a row of ``values`` (L, w). ``feature`` (N,) is what a node asks for,
    ``ratio`` (N,) the share of the parent's training rows that came to the node. ``trees`` (T, 4): the
    root, the first of the c outputs that its w values are added to, and the quadrature rule (first
    column of ``points``, number of columns). ``points`` (2, P): positions and weights on [0, 1]. ``groups``
    (k,) gives each feature one of the g groups whose contributions are added up. ``out`` (n, g * c) has
    the outputs of a group side by side, ``direct`` is (n, c). ``depth`` is the largest of any node.
    """
    ends = np.append(trees[1:, 0], len(left))
    order = int(trees[:, 3].max(initial=1))
    # A rule of more points than a tree needs is exact too.
    begin = int(trees[np.argmax(trees[:, 3]), 2]) if len(trees) else 0
    rule = points[:, begin : begin + order]
    outputs = direct.shape[1]
    for first, last in _chunks(trees[:, 0], ends, order * values.shape[1]):
        start, stop = int(trees[first, 0]), int(ends[last - 1])
        part = _Part(
            np.where(left[start:stop] < 0, -1, left[start:stop] - start),
            np.where(left[start:stop] < 0, right[start:stop], right[start:stop] - start),
            feature[start:stop],
            ratio[start:stop],
            groups[np.maximum(feature[start:stop], 0)].astype(np.int64) * outputs
            + np.repeat(trees[first:last, 1], ends[first:last] - trees[first:last, 0]),
        )
        for row in range(len(goes_left)):
            part.add(goes_left[row, start:stop], values, rule, out[row], direct[row])


def _chunks(starts: Indices, ends: NDArray[np.int64], width: int) -> Iterator[tuple[int, int]]:
    first, size = 0, 0
    for index in range(len(starts)):
        nodes = (int(ends[index]) - int(starts[index])) * width
        if size and size + nodes > _CHUNK:
            yield first, index
            first, size = index, 0
        size += nodes
    if size:
        yield first, len(starts)


class _Part:
    """
    Some trees, with each node's branch (the edge from its parent) by the node's own index.

    ``places`` says where in a row of the results a node's feature has its first output.
    """

    def __init__(
        self, left: Indices, right: Indices, feature: Indices, ratio: Floats, places: NDArray[np.int64]
    ) -> None:
        self._left, self._right, self._places = left, right, places
        inner = np.flatnonzero(left >= 0)
        parent = np.full(len(left), -1)
        parent[left[inner]] = inner
        parent[right[inner]] = inner
        self._parent = parent
        self._leaves = np.flatnonzero(left < 0)
        self._edges = np.flatnonzero(parent >= 0)
        self._is_left = np.zeros(len(left), dtype=np.uint8)
        self._is_left[left[inner]] = 1
        self._split = np.where(parent >= 0, feature[parent], -1)
        self._levels = self._by_level(np.flatnonzero(parent < 0))
        self._previous = self._same_feature_above()
        share = np.ones(len(left))
        for nodes in self._levels[1:]:
            above = self._previous[nodes]
            share[nodes] = np.where(above >= 0, share[above], 1.0) * ratio[nodes]
        self._share = share

    def _by_level(self, nodes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        levels = []
        while len(nodes):
            levels.append(nodes)
            inner = nodes[self._left[nodes] >= 0]
            nodes = np.concatenate([self._left[inner], self._right[inner]]).astype(np.int64)
        return levels

    def _same_feature_above(self) -> NDArray[np.int64]:
        """Return for each branch the nearest one above it on the same feature, or -1."""
        above = self._parent.copy()
        while True:
            # A root has no branch; -1 stands for itself.
            above[(above >= 0) & (self._parent[above] < 0)] = -1
            odd = np.flatnonzero((above >= 0) & (self._split[above] != self._split))
            if not len(odd):
                return above
            above[odd] = self._parent[above[odd]]

    def add(
        self, goes_left: NDArray[np.uint8], values: Floats, rule: Floats, out: Floats, direct: Floats
    ) -> None:
        """Add one row's results to a row of each array."""
        t, weights = rule
        parent, previous, share = self._parent, self._previous, self._share
        here = np.ones(len(parent), dtype=bool)
        taken = np.ones(len(parent))
        products = np.ones((len(parent), len(t)))
        factors = np.ones((len(parent), len(t)))
        for nodes in self._levels[1:]:
            goes = goes_left[parent[nodes]] == self._is_left[nodes]
            here[nodes] = here[parent[nodes]] & goes
            above = previous[nodes]
            taken[nodes] = np.where(above >= 0, taken[above], 1.0) * goes
            factors[nodes] = share[nodes, None] * (1.0 - t) + taken[nodes, None] * t
            old = np.where(above[:, None] >= 0, factors[above], 1.0)
            ratio = np.divide(factors[nodes], old, out=np.zeros_like(old), where=old > 0.0)
            products[nodes] = products[parent[nodes]] * ratio
        sums = np.zeros((len(parent), values.shape[1], len(t)))
        leaves = self._leaves
        found = values[self._right[leaves]]
        sums[leaves] = found[:, :, None] * products[leaves, None, :]
        for nodes in self._levels[-2::-1]:
            inner = nodes[self._left[nodes] >= 0]
            sums[inner] = sums[self._left[inner]] + sums[self._right[inner]]
        reached = here[leaves]
        _scatter(direct, self._places[leaves[reached]] % len(direct), found[reached])
        edges = self._edges
        again = edges[previous[edges] >= 0]
        # The leaves below a branch count for it, and no longer for the one above on the same feature.
        for below, stands, sign in ((edges, edges, 1.0), (again, previous[again], -1.0)):
            scale = sign * (taken[stands] - share[stands])
            factor = factors[stands]
            weighted = np.divide(weights, factor, out=np.zeros_like(factor), where=factor > 0.0)
            parts = np.einsum("e,eq,ecq->ec", scale, weighted, sums[below])
            _scatter(out, self._places[parent[below]], parts)


def _scatter(out: Floats, places: NDArray[np.int64], parts: Floats) -> None:
    """Add row i of ``parts`` to ``out`` from place i on."""
    for offset in range(parts.shape[1]):
        out += np.bincount(places + offset, parts[:, offset], len(out))[: len(out)]
