"""
The kernels in numpy and plain Python: the same functions as the extension ``solera_native``, the same bits.

They serve where the extension is not built, and say what it has to do: tests compare the two.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

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
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    """(rows, columns), C order"""

    Texts = tuple[list[str | float], ...]

__all__ = [
    "Trees",
    "category_codes",
    "count_terms",
    "distances",
    "fill_column",
    "fill_records",
    "fill_rows",
    "fill_values",
    "linear",
    "one_hot",
    "scatter",
    "two_shares",
    "weigh_terms",
]

INTERFACE = 1
"""Of the extension that fits; raised, here and in native/kernels.h, when a function means something else."""

LARGEST_INTEGER = 2**53
FEW_NUMBERS = 4096
_SLOW = object()


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


def fill_rows(rows: list[Any], kinds: bytes, numbers: Matrix, texts: Texts) -> int:
    """
    Take rows of JSON values, each a list of one value a feature, into a matrix and lists of texts.

    ``kinds`` is one byte a feature: f Float, i Integer, b Boolean, t DateTime, s String, in upper case where
    null is allowed. ``numbers`` has a row for each row and a column for each feature that is not String, in
    order; missing is NaN. The values of the k-th String feature are appended to ``texts[k]``, NaN where
    missing.

    Return -1; or, at the first value that is not plainly right, row x features + feature: the caller then
    goes the slow way for all, since only that can tell what is wrong, if anything is (integers that float64
    rounds, "Infinity" and every DateTime are slow, and right).
    """
    width = len(kinds)
    for number, row in enumerate(rows):
        if type(row) is not list or len(row) != width:
            return number * width
        taken = _take_row(row, kinds, numbers, number, texts)
        if taken != width:
            return number * width + taken
    return -1


def fill_records(rows: list[Any], names: tuple[str, ...], kinds: bytes, numbers: Matrix, texts: Texts) -> int:
    """
    Do what fill_rows does for rows as dicts by feature name.

    A name that a row lacks is missing. A row with a name that no feature has is slow.
    """
    width = len(kinds)
    for number, row in enumerate(rows):
        if type(row) is not dict:
            return number * width
        taken = _take_row(map(row.get, names), kinds, numbers, number, texts)
        if taken != width:
            return number * width + taken
        if not row.keys() <= set(names):
            return number * width
    return -1


def fill_values(values: list[Any], kinds: bytes, numbers: Matrix, texts: Texts) -> int:
    """Do what fill_rows does for the values of all rows in one list, row after row; return -1 or an index."""
    width = len(kinds)
    for number in range(len(values) // width):
        row = values[number * width : number * width + width]
        taken = _take_row(row, kinds, numbers, number, texts)
        if taken != width:
            return number * width + taken
    return -1


def fill_column(values: list[Any], kind: bytes, numbers: Matrix, column: int) -> int:
    """Take the values of one feature that is not String into a column; return -1 or the first slow row."""
    take = _TAKERS[chr(kind[0]).lower()]
    nullable = kind.isupper()
    for row, value in enumerate(values):
        number = _number(take, value, nullable=nullable)
        if number is _SLOW:
            return row
        numbers[row, column] = number
    return -1


def _take_row(row: Iterable[Any], kinds: bytes, numbers: Matrix, at: int, texts: Texts) -> int:
    """Return how many features of the row were taken before the first slow one."""
    column = text = 0
    for feature, (value, code) in enumerate(zip(row, kinds, strict=True)):
        kind = chr(code)
        nullable = kind.isupper()
        if kind in "sS":
            if type(value) is not str and not (value is None and nullable):
                return feature
            texts[text].append(math.nan if value is None else value)
            text += 1
            continue
        number = _number(_TAKERS[kind.lower()], value, nullable=nullable)
        if number is _SLOW:
            return feature
        numbers[at, column] = number
        column += 1
    return len(kinds)


def _number(take: Callable[[Any], Any], value: Any, *, nullable: bool) -> Any:
    if value is None or (type(value) is float and math.isnan(value)):
        return math.nan if nullable else _SLOW
    return take(value)


def _float(value: Any) -> Any:
    if type(value) is int:
        return float(value) if abs(value) <= LARGEST_INTEGER else _SLOW
    return value if type(value) is float else _SLOW


def _integer(value: Any) -> Any:
    if type(value) is int or (type(value) is float and value.is_integer()):
        return float(value) if abs(value) <= LARGEST_INTEGER else _SLOW
    return _SLOW


def _boolean(value: Any) -> Any:
    return float(value) if type(value) is bool else _SLOW


def _slow(_value: Any) -> Any:
    return _SLOW


_TAKERS: dict[str, Callable[[Any], Any]] = {"f": _float, "i": _integer, "b": _boolean, "t": _slow}
