"""
What stands between two steps of preprocessing: some columns of a batch, in one of four forms.

NUMBERS is a float64 array (rows, width) whose NaN is missing. STRINGS is a list of columns, each a list of
str or NaN. TEXTS is one list of str. SPARSE is a Sparse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from solera_server.compiled import kernels
from solera_server.compiled.kernels_numpy_texts import row_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

Matrix = NDArray[np.float64]
Block: TypeAlias = "Matrix | list[Any] | Sparse"

NUMBERS = "numbers"
STRINGS = "strings"
TEXTS = "texts"
SPARSE = "sparse"


class Sparse:
    """
    A matrix in compressed rows: row i has ``data`` and ``indices`` from indptr[i] to indptr[i + 1].

    Indices may be in any order, and none stands twice in a row.
    """

    __slots__ = ("data", "indices", "indptr", "rows", "width")

    def __init__(
        self,
        width: int,
        indptr: NDArray[np.int64],
        indices: NDArray[np.int64],
        data: Matrix,
    ) -> None:
        self.rows = len(indptr) - 1
        self.width = width
        self.indptr = indptr
        self.indices = indices
        self.data = data

    def row_numbers(self) -> NDArray[np.int64]:
        """Return the row of each value."""
        if self.rows == 1:
            return np.zeros(len(self.data), dtype=np.int64)
        return row_numbers(self.indptr)

    def times(self, weights: Matrix) -> Matrix:
        """Return the product with ``weights`` (width, outputs), each sum in the order of the values."""
        outputs = weights.shape[1]
        if not len(self.data):
            # bincount would make integers of nothing.
            return np.zeros((self.rows, outputs))
        rows = self.row_numbers()
        if outputs == 1:
            sums: Any = np.bincount(rows, self.data * weights[self.indices, 0], self.rows)
            return cast("Matrix", sums.reshape(self.rows, 1))
        products = self.data[:, None] * weights[self.indices]
        places = rows[:, None] * outputs + np.arange(outputs)
        sums = np.bincount(places.ravel(), products.ravel(), self.rows * outputs)
        return cast("Matrix", sums.reshape(self.rows, outputs))

    def write(self, out: Matrix, start: int) -> None:
        """Write the values into zeros of shape (rows, columns), from the column ``start`` on."""
        kernels.scatter(self.indptr, self.indices, self.data, out, start)


class Split:
    """
    Columns side by side, some dense and some sparse: what a model of many columns gets.

    ``dense`` and ``sparse`` have pairs of (first column, block).
    """

    __slots__ = ("dense", "rows", "sparse", "width")

    def __init__(
        self,
        rows: int,
        width: int,
        dense: Sequence[tuple[int, Matrix]],
        sparse: Sequence[tuple[int, Sparse]],
    ) -> None:
        self.rows = rows
        self.width = width
        self.dense = dense
        self.sparse = sparse

    def filled(self) -> Matrix:
        """Return all columns as one array (rows, width)."""
        out = np.zeros((self.rows, self.width))
        for start, matrix in self.dense:
            out[:, start : start + matrix.shape[1]] = matrix
        for start, block in self.sparse:
            block.write(out, start)
        return out
