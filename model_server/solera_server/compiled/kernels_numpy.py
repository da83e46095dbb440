"""
The kernels in numpy and plain Python: the same functions as the extension ``solera_native``, the same bits.

They serve where the extension is not built, and say what it has to do: tests compare the two.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from solera_server.compiled.kernels_numpy_texts import (
    category_codes,
    count_terms,
    one_hot,
    scatter,
    weigh_terms,
)
from solera_server.compiled.kernels_numpy_trees import Trees

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    """(rows, columns), C order"""

__all__ = [
    "Trees",
    "calm",
    "category_codes",
    "count_terms",
    "distances",
    "linear",
    "one_hot",
    "scaled_linear",
    "scatter",
    "two_shares",
    "weigh_terms",
]

INTERFACE = 4
"""Of the extension that fits; raised, here and in native/kernels.h, when a function means something else."""

FEW_NUMBERS = 4096


def linear(x: Matrix, weights: Matrix, intercept: NDArray[np.float64], out: Matrix) -> None:
    """
    Set ``out`` (n, c) to ``x`` (n, k) times ``weights`` (k, c) plus ``intercept`` (c,).

    Each sum begins at 0.0, takes the features in their order and the intercept last: a row's result does not
    depend on the rows around it.
    """
    if 0 < x.shape[0] * x.shape[1] <= FEW_NUMBERS:
        # Running sums take the same order, in one call; the zero added is the one that sums begin with.
        products = x[:, :, None] * weights
        np.add.accumulate(products, axis=1, out=products)
        np.add(products[:, -1], 0.0, out)
        out += intercept
        return
    out[:] = 0.0
    for column in range(x.shape[1]):
        out += x[:, column, None] * weights[column]
    out += intercept


def scaled_linear(  # noqa: PLR0917 - as the extension, whose functions take no names
    x: Matrix,
    shift: NDArray[np.float64],
    divisor: NDArray[np.float64],
    weights: Matrix,
    intercept: NDArray[np.float64],
    bound: float,
    out: Matrix,
) -> bool:
    """
    Set ``out`` (n, c) to what ``linear`` makes of (x - shift) / divisor.

    ``x`` is (n, k), ``shift`` and ``divisor`` are (k,). Returns whether all of ``x`` and of ``out`` are
    smaller than ``bound``, in size.
    """
    if not calm(x.reshape(-1), bound):
        return False
    linear((x - shift) / divisor, weights, intercept, out)
    return calm(out.reshape(-1), bound)


def calm(values: NDArray[np.float64], bound: float) -> bool:
    """Say whether all of ``values`` (n,) are smaller than ``bound``, in size; NaN is not."""
    return bool((np.absolute(values) < bound).all())


EUCLIDEAN, MANHATTAN, CHEBYSHEV = range(3)


def distances(columns: Matrix, row: NDArray[np.float64], metric: int, out: NDArray[np.float64]) -> None:
    """
    Set ``out`` (points,) to the distances of ``row`` (features,) from points, ``columns`` (features, points).

    ``metric`` is EUCLIDEAN (squared), MANHATTAN or CHEBYSHEV. Each sum begins at 0.0 and takes the features
    in their order.
    """
    out[:] = 0.0
    with np.errstate(over="ignore"):
        for column, value in zip(columns, row.tolist(), strict=True):
            part = column - value
            if metric == EUCLIDEAN:
                part *= part
                out += part
            elif metric == MANHATTAN:
                out += np.absolute(part, part)
            else:
                np.maximum(out, np.absolute(part, part), out=out)


def two_shares(sums: Matrix, factor: float, out: Matrix) -> None:
    """
    Set ``out`` (n, 2) to the shares of two classes whose log odds are ``factor`` times ``sums`` (n, 1).

    The second is 1 / (1 + exp(-odds)) with the C library's exponential, as scipy's expit has it.
    """
    out[:, 1] = [1.0 / (1.0 + _exp(-(factor * value))) for value in sums[:, 0].tolist()]
    np.subtract(1.0, out[:, 1], out[:, 0])


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
