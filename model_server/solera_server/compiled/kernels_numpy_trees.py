"""Walking through trees in numpy: the same class as ``solera_native.Trees``, the same bits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

MISSING_LEFT = 1
CATEGORICAL = 2
REFUSES_MISSING = 1
REFUSES_INFINITE = 2

_ROWS = 256


class Parts(NamedTuple):
    """
    Trees in flat form.

    A leaf is its own left child, with the threshold infinity and the flag MISSING_LEFT.
    """

    feature: NDArray[np.int32]
    """(nodes,): the column of x that a node looks at; 0 for leaves"""

    threshold: Matrix
    """(nodes,): values up to it go left"""

    left: NDArray[np.int32]
    """(nodes,): the left child; the right one is the next, and both come after their parent"""

    flags: NDArray[np.uint8]
    """(nodes,): MISSING_LEFT where NaN goes left; CATEGORICAL where ``categories`` decide instead"""

    place: NDArray[np.int32]
    """(nodes,): a leaf's row of ``values``, a categorical node's row of ``categories``"""

    values: Matrix
    """(leaves, width)"""

    roots: NDArray[np.int32]
    """(trees,)"""

    offsets: NDArray[np.int32]
    """(trees,): the first output that a tree's values are added to"""

    start: Matrix
    """(outputs,): what the sums begin with"""

    categories: NDArray[np.uint32]
    """
    (categorical nodes, 16): a bit for each of 256 categories that go left, then for those that go right.

    Every other value goes where NaN goes.
    """


class Trees:
    """
    Trees whose leaves' values are added up and divided by ``divisor``.

    ``single`` rounds the ``features`` columns of x to float32 first. ``refuses`` is REFUSES_MISSING,
    REFUSES_INFINITE (after the rounding), both or 0. Raises ValueError for indices out of range.
    """

    def __init__(self, parts: Parts, divisor: float, features: int, single: bool, refuses: int, /) -> None:
        _check(parts, features)
        self._parts = parts
        self._divisor = divisor
        self._missing_right = (parts.flags & MISSING_LEFT) == 0
        self._categorical = (parts.flags & CATEGORICAL) != 0
        self._any_categorical = bool(self._categorical.any())
        self._single, self._refuses = single, refuses

    def score(self, x: Matrix, out: Matrix) -> int:
        """
        Set ``out`` (rows, outputs) for ``x`` (rows, features): each row's sums, made tree by tree.

        Return -1, or the index into x, row after row, of the first value that is refused.
        """
        prepared, refused = self._prepare(x)
        if refused >= 0:
            return refused
        for begin in range(0, len(x), _ROWS):
            rows = slice(begin, begin + _ROWS)
            self._add(self._leaves(prepared[rows]), out[rows])
        if self._divisor != 1.0:
            out /= self._divisor
        return -1

    def each(self, x: Matrix, out: Matrix) -> int:
        """Set ``out`` (rows, trees) to the leaves' values, where a leaf has one; return as score does."""
        prepared, refused = self._prepare(x)
        if refused < 0:
            out[:] = self._parts.values[self._leaves(prepared), 0]
        return refused

    def _prepare(self, x: Matrix) -> tuple[Matrix, int]:
        if self._single:
            with np.errstate(over="ignore", invalid="ignore"):
                x = x.astype(np.float32).astype(np.float64)
        refused = np.zeros(x.shape, dtype=bool)
        if self._refuses & REFUSES_MISSING:
            refused |= np.isnan(x)
        if self._refuses & REFUSES_INFINITE:
            refused |= np.isinf(x)
        return x, int(refused.argmax()) if refused.any() else -1

    def _leaves(self, x: Matrix) -> NDArray[np.int32]:
        """Return the leaves' rows of values, shape (rows, trees)."""
        at = np.broadcast_to(self._parts.roots, (len(x), len(self._parts.roots)))
        rows = np.arange(len(x))[:, None]
        while True:
            value = x[rows, self._parts.feature[at]]
            right = value > self._parts.threshold[at]
            right |= np.isnan(value) & self._missing_right[at]
            if self._any_categorical:
                right = np.where(self._categorical[at], self._category_right(value, at), right)
            following = self._parts.left[at] + right
            if (following == at).all():
                leaves: NDArray[np.int32] = self._parts.place[at]
                return leaves
            at = following

    def _category_right(self, value: Matrix, at: NDArray[np.int32]) -> NDArray[np.bool_]:
        with np.errstate(invalid="ignore"):
            inside = (value >= 0) & (value < 256)
        category = np.where(inside, value, 0).astype(np.int64)
        sets = self._parts.categories[np.where(self._categorical[at], self._parts.place[at], 0)]
        word = (category // 32)[..., None]
        bit = np.uint32(1) << (category % 32).astype(np.uint32)
        left = np.take_along_axis(sets, word, -1)[..., 0] & bit
        right = np.take_along_axis(sets, word + 8, -1)[..., 0] & bit
        known = inside & ((left | right) != 0)
        result: NDArray[np.bool_] = np.where(known, right != 0, self._missing_right[at])
        return result

    def _add(self, leaves: NDArray[np.int32], out: Matrix) -> None:
        out[:] = self._parts.start
        width = self._parts.values.shape[1]
        for offset in np.unique(self._parts.offsets):
            values = self._parts.values[leaves[:, self._parts.offsets == offset]].transpose(1, 0, 2)
            sums = out[:, offset : offset + width]
            # Accumulating, and not numpy's sum, which adds in pairs.
            sums[:] = np.add.accumulate(np.concatenate([sums[None], values]), axis=0)[-1]


def _check(parts: Parts, features: int) -> None:
    """Check what the extension checks for safety, so that both take the same trees."""
    feature, left, flags, place = parts.feature, parts.left, parts.flags, parts.place
    index = np.arange(len(feature))
    leaf = left == index
    categorical = (flags & CATEGORICAL) != 0
    if not ((feature >= 0) & (feature < features)).all():
        raise ValueError("a node's feature is out of range")
    if not ((parts.threshold[leaf] == np.inf) & (flags[leaf] == MISSING_LEFT)).all() or not _within(
        place[leaf], len(parts.values)
    ):
        raise ValueError("a leaf is not as leaves are, or has no values")
    if not (leaf | ((left > index) & (left < len(index) - 1))).all():
        raise ValueError("a node's children do not come after it, or do not exist")
    if not _within(place[categorical], len(parts.categories)):
        raise ValueError("a node's categories are out of range")
    if np.isnan(parts.threshold[~categorical]).any():
        raise ValueError("a threshold is not a number")
    if not _within(parts.roots, len(index)):
        raise ValueError("a tree's root is out of range")
    if not _within(parts.offsets, len(parts.start) - parts.values.shape[1] + 1):
        raise ValueError("a tree adds to an output that does not exist")


def _within(indices: NDArray[np.int32], count: int) -> bool:
    return bool(((indices >= 0) & (indices < count)).all())
