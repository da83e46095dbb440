"""
Numbers that came as arrays (binary tensors, gRPC), checked against features and made into columns.

The counterpart of columns.py, with the same rules and the same words: what an array holds is judged as a
whole, and a value that does not pass is given to ``make_column``, which says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_core.schema import FLOAT, INTEGER, MAX_EXACT_INTEGER, Column, Feature
from solera_server.columns import make_column

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


def array_column(feature: Feature, values: NDArray[Any], where: Callable[[int], str]) -> Column:
    """
    Return the model's column, float64 of shape (rows,), for an array of numbers or booleans.

    NaN is a missing value. Raises InputError with the place (``where(row)``).
    """
    floating = values.dtype.kind == "f"
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        column = values.astype(np.float64)
    if floating:
        values = column
    if feature.type == INTEGER:
        wrong = (values > MAX_EXACT_INTEGER) | (values < -MAX_EXACT_INTEGER)
        if floating:
            wrong |= (values != np.floor(values)) & ~np.isnan(values)
    else:
        wrong = np.zeros(len(values), dtype=np.bool_)
    if floating and not feature.nullable:
        wrong |= np.isnan(values)
    found = np.flatnonzero(wrong)
    if len(found):
        row = int(found[0])
        value = values[row].item()
        make_column(feature, [None if value != value else value], lambda _: where(row))  # noqa: PLR0124 - NaN
    return column


def float_matrix(
    features: Sequence[Feature], values: NDArray[Any], shape: tuple[int, ...]
) -> NDArray[np.float64] | None:
    """
    Return numbers as the matrix (rows, features) in one piece where every one of them passes.

    None where the features are not all Float, or where a missing value may not be.
    """
    if values.dtype.kind not in "fiu" or any(feature.type != FLOAT for feature in features):
        return None
    with np.errstate(invalid="ignore"):
        # Aligned, as a body's bytes need not be; of FP64 that are, no copy is made.
        matrix = np.require(values.astype(np.float64, copy=False), requirements=("C", "A")).reshape(shape)
    strict = [index for index, feature in enumerate(features) if not feature.nullable]
    if strict and bool(np.isnan(matrix if len(strict) == len(features) else matrix[:, strict]).any()):
        return None
    return matrix
