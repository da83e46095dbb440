"""
JSON values of one feature, checked against its type and made into the model's column.

solera_core.schema defines what is taken and what becomes of it. Here a column is judged as a whole by
the set of Python types in it; only one that is not clean is looked at value by value.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_core.schema import (
    BOOLEAN,
    DATETIME,
    FLOAT,
    INTEGER,
    MAX_EXACT_INTEGER,
    STRING,
    TIME_FORMS,
    Feature,
    InvalidValue,
    decode_value,
    is_missing,
)
from solera_server.batch import InputError
from solera_server.json_input import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from solera_server.batch import Texts

    Values = NDArray[np.float64] | Texts

_NONE = type(None)


def make_column(feature: Feature, values: Sequence[Any], where: Callable[[int], str]) -> Values:
    """
    Return the model's column for JSON values: float64 of shape (rows,), or a list for a String feature.

    Raises InputError with the place (``where(row)``), the type expected and the value found.
    """
    kinds = set(map(type, values))
    if kinds == {_NONE} and feature.nullable:  # the whole column may be absent, and cost nothing to send
        return [math.nan] * len(values) if feature.type == STRING else np.full(len(values), math.nan)
    if feature.type == STRING:
        if kinds == {str}:
            return list(values)
    elif _clean(feature, kinds, values):
        return np.array(values, dtype=np.float64)
    decoded = []
    for row, value in enumerate(values):
        try:
            decoded.append(decode_value(feature, value))
        except InvalidValue as error:
            raise InputError(f"{where(row)}: {_explain(feature, value, error)}") from None
    return decoded if feature.type == STRING else np.array(decoded, dtype=np.float64)


def _clean(feature: Feature, kinds: set[type], values: Sequence[Any]) -> bool:
    """Whether numpy's own conversion does what decode_value would do for each of the values."""
    if feature.type == FLOAT:
        return kinds <= {float, int} or (feature.nullable and kinds <= {float, int, _NONE})
    if feature.type == INTEGER:
        return kinds == {int} and min(values) >= -MAX_EXACT_INTEGER and max(values) <= MAX_EXACT_INTEGER
    return feature.type == BOOLEAN and kinds == {bool}


def _explain(feature: Feature, value: Any, error: InvalidValue) -> str:
    text = f"expected {feature.type}, got {shown(value)}"
    if is_missing(feature, value):
        return f"{text}; this feature had no missing values in training"
    if feature.type == DATETIME:
        return f"{text}; write it as {TIME_FORMS}"
    # Of other kinds of value, and of fractions, the error would say no more.
    number = type(value) is int or (type(value) is float and (math.isinf(value) or value.is_integer()))
    return f"{text} ({error})" if number and feature.type in (FLOAT, INTEGER) else text
