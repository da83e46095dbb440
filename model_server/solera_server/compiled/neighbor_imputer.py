"""KNNImputer: for a missing value the mean of the rows of training that are nearest in what both have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled import kernels
from solera_server.compiled.blocks import NUMBERS, Matrix
from solera_server.compiled.imputers import expect_nan, indicator_features
from solera_server.compiled.links import column_sums
from solera_server.compiled.registry import SUMS, Shape, Step, Transformer, transformer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from solera_server.compiled.node import Node

DISTANCES_AT_ONCE = 2**20


class NeighborImputer(Step):
    """
    Means of the ``count`` nearest donors, of equally near ones those that numpy's argpartition puts first.

    Squared distances are made as scikit-learn makes them, from products and norms, with what is missing as
    zeros, and are then scaled by the number of columns that both rows have.
    """

    exactness = SUMS

    def __init__(self, points: Matrix, count: int, kept: NDArray[Any], marked: NDArray[Any] | None) -> None:
        missing = np.isnan(points)
        super().__init__(len(kept) + (0 if marked is None else len(marked)), None)
        self._empty = missing.all(axis=0)
        self._kept = None if len(kept) == points.shape[1] else kept
        self._marked = marked
        self._count = count
        self._points = points
        filled = np.where(missing, 0.0, points)
        squares = filled * filled
        self._products = np.ascontiguousarray(filled.T)
        self._norms = column_sums(squares)
        self._squares = np.ascontiguousarray(squares.T)
        self._missing = np.ascontiguousarray(missing.T.astype(np.float64))
        self._present = 1.0 - self._missing
        self._zeros = np.zeros(len(points))
        self._donors = [np.flatnonzero(~column) for column in missing.T]
        self._means = [
            float(points[donors, column].mean()) if len(donors) else 0.0
            for column, donors in enumerate(self._donors)
        ]

    def __call__(self, block: Matrix, calm: bool) -> Matrix:
        filled = block
        missing = None if calm and not self._empty.any() else np.isnan(block)
        if missing is not None:
            filled = np.where(self._empty, 0.0, block)
            rows = np.flatnonzero((missing & ~self._empty).any(axis=1))
            step = max(1, DISTANCES_AT_ONCE // len(self._points))
            with np.errstate(all="ignore"):
                for start in range(0, len(rows), step):
                    some = rows[start : start + step]
                    filled[some] = self._filled(block[some], missing[some])
        if self._kept is not None:
            filled = filled[:, self._kept]
        if self._marked is None:
            return filled
        return np.concatenate((filled, np.isnan(block[:, self._marked])), axis=1, dtype=np.float64)

    def _filled(self, rows: Matrix, missing: NDArray[np.bool_]) -> Matrix:
        distances = self._distances(rows, missing)
        filled = np.where(self._empty, 0.0, rows)
        for column, donors in enumerate(self._donors):
            receivers = np.flatnonzero(missing[:, column])
            if not len(receivers) or not len(donors):
                continue
            away = distances[receivers].take(donors, axis=1)
            lost = np.isnan(away).all(axis=1)
            filled[receivers, column] = self._means[column]
            if not lost.all():
                filled[receivers[~lost], column] = self._mean_of_nearest(away[~lost], column, donors)
        return filled

    def _mean_of_nearest(self, away: Matrix, column: int, donors: NDArray[Any]) -> Matrix:
        count = min(self._count, len(donors))
        chosen = np.argpartition(away, count - 1, axis=1)[:, :count]
        weights = (~np.isnan(np.take_along_axis(away, chosen, axis=1))).astype(np.float64)
        values = self._points[donors[chosen], column]
        return column_sums(values * weights) / column_sums(weights)

    def _distances(self, rows: Matrix, missing: NDArray[np.bool_]) -> Matrix:
        """Return the distances from all points, NaN where two rows have no column in common."""
        filled = np.where(missing, 0.0, rows)
        absent = missing.astype(np.float64)
        squares = filled * filled
        distances = self._times(filled, self._products)
        distances *= -2.0
        distances += column_sums(squares)[:, None]
        distances += self._norms
        np.maximum(distances, 0.0, out=distances)
        distances -= self._times(squares, self._missing)
        distances -= self._times(absent, self._squares)
        np.maximum(distances, 0.0, out=distances)
        common = self._times(1.0 - absent, self._present)
        distances[common == 0.0] = np.nan
        distances /= np.maximum(1.0, common)
        distances *= float(rows.shape[1])
        return np.sqrt(distances, out=distances)

    def _times(self, rows: Matrix, columns: Matrix) -> Matrix:
        out = np.empty((len(rows), columns.shape[1]))
        kernels.linear(np.ascontiguousarray(rows), columns, self._zeros, out)
        return out


@transformer("sklearn.impute._knn.KNNImputer")
def knn_imputer(node: Node, shape: Shape) -> Transformer:
    shape.expect(node, NUMBERS)
    expect_nan(node)
    node.text("metric", ("nan_euclidean",))
    if node.text("weights", ("uniform", "distance")) == "distance":
        # scikit-learn's own distances are inexact here, and their inverses more so.
        raise node.fail("it weighs inexact distances")
    points = node.array("_fit_X", (None, shape.width), finite=False)
    if not len(points) or np.isinf(points * points).any():
        raise node.fail("it has no rows, or numbers whose squares are infinite")
    empty = np.isnan(points).all(axis=0)
    kept = np.arange(shape.width) if node.flag("keep_empty_features") else np.flatnonzero(~empty)
    marked = None
    if node.get("indicator_") is not None:
        marked = indicator_features(node.node("indicator_", "MissingIndicator"), shape.width)
    return NeighborImputer(points, node.integer("n_neighbors", 1), kept, marked)
