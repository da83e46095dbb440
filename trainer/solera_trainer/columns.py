"""Types of raw columns: inferred when the spec declares none, and conversion to what a model gets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from solera_core.failures import Failure, Reason
from solera_core.schema import (
    BOOLEAN,
    DATETIME,
    FLOAT,
    INTEGER,
    MAX_EXACT_INTEGER,
    STRING,
    Column,
    InvalidValue,
    seconds,
)
from solera_core.split import canonical_text

_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,15})")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?|[+-]?(inf|Inf|Infinity)")
_LEADING_ZERO = re.compile(r"[+-]?0\d")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")
_BOOLEANS = {"true": 1.0, "false": 0.0}


def infer_type(name: str, array: Any) -> str:
    """Return the feature type of a raw column (a pyarrow ChunkedArray).

    Text is looked at value by value: Integer, Float, Boolean (true, false), DateTime (ISO 8601), otherwise
    String; numbers with leading zeros and integers that a float64 cannot hold are String. A column without
    any value is Float. Raises Failure (DataUnreadable) for columns of lists, structures or bytes.
    """
    import pyarrow.types as pt

    kind = _value_type(array)
    if pt.is_boolean(kind):
        return BOOLEAN
    if pt.is_integer(kind):
        return INTEGER if _exact(array) else STRING
    if pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_null(kind):
        return FLOAT
    if pt.is_timestamp(kind) or pt.is_date(kind):
        return DATETIME
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        return _infer_text(_distinct(array))
    message = (
        f'column "{name}" has values of the type {kind}, which no model takes: list the features in '
        "data.columns and leave it out."
    )
    raise Failure(Reason.DATA_UNREADABLE, message)


def convert(
    name: str,
    array: Any,
    wanted: str,
    rows: npt.NDArray[np.int64] | None = None,
    *,
    origin: str = "is declared {}",
) -> Column:
    """Return the model's column: float64 with NaN for missing, or objects for String; shape (rows,).

    `rows` are the numbers of the rows that are wanted, None: all. `origin` says where the type comes from.
    Raises Failure (DataUnreadable) that names the column, a value and its row.
    """
    import pyarrow.types as pt

    kind = _value_type(array)
    if rows is not None:
        array = array.take(rows)
    if pt.is_floating(kind) and wanted == FLOAT:
        numbers: Column = array.cast("float64").to_numpy().astype(np.float64)
        return numbers
    try:
        return _mapped(array, wanted, _CONVERTERS[wanted])
    except _WrongValue as error:
        row = error.position if rows is None else int(rows[error.position])
        message = (
            f'column "{name}" {origin.format(wanted)}, and row {row + 1} holds {error.value!r}: '
            "declare another type, or correct the data."
        )
        raise Failure(Reason.DATA_UNREADABLE, message) from None


def texts(array: Any) -> list[str]:
    """Return the canonical text of each value, for keys of rows; shape (rows,)."""
    try:
        encoded = array.combine_chunks().dictionary_encode()
    except NotImplementedError:
        return [canonical_text(value) for value in array.to_pylist()]
    known = [canonical_text(value) for value in encoded.dictionary.to_pylist()]
    missing = canonical_text(None)
    return [missing if code is None else known[code] for code in encoded.indices.to_pylist()]


def storage_kind(array: Any) -> str:
    """Return what decides how the values of a raw column are written in keys.

    Integers and 64-bit floats are one kind, `number`: a missing value turns the one into the other. Text has
    no other kinds. The rest are Arrow's own types: a 32-bit float is another number than the 64-bit one.
    """
    import pyarrow.types as pt

    kind = _value_type(array)
    if pt.is_integer(kind) or pt.is_float64(kind):
        return "number"
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        return "text"
    return str(kind)


class _WrongValue(Exception):  # noqa: N818 - names the value
    """A value that does not convert, and its position in the column."""

    def __init__(self, position: int, value: str) -> None:
        super().__init__(value)
        self.position, self.value = position, value


def _mapped(array: Any, wanted: str, converter: Callable[[Any], float | str]) -> Column:
    """Convert each distinct value once."""
    encoded = array.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    dtype: Any = object if wanted == STRING else np.float64
    table = np.empty(len(values) + 1, dtype=dtype)
    table[-1] = np.nan
    for code, value in enumerate(values):
        if value is None or value != value:  # noqa: PLR0124 - NaN differs from itself
            table[code] = np.nan
            continue
        try:
            table[code] = converter(value)
        except (InvalidValue, ValueError, OverflowError):
            raise _WrongValue(encoded.indices.to_pylist().index(code), str(value)[:60]) from None
    codes = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.int64)
    result: Column = table[codes]
    return result


def _distinct(array: Any) -> list[str]:
    return [value for value in array.combine_chunks().unique().to_pylist() if value is not None]


def _value_type(array: Any) -> Any:
    import pyarrow.types as pt

    return array.type.value_type if pt.is_dictionary(array.type) else array.type


def _exact(array: Any) -> bool:
    import pyarrow.compute as pc

    bounds = pc.min_max(array).as_py()
    return bounds["min"] is None or max(abs(bounds["min"]), abs(bounds["max"])) <= MAX_EXACT_INTEGER


def _infer_text(values: list[str]) -> str:
    if not values:
        return FLOAT
    if all(_INTEGER.fullmatch(value) and abs(int(value)) <= MAX_EXACT_INTEGER for value in values):
        return INTEGER
    if all(_NUMBER.fullmatch(value) and not _LEADING_ZERO.match(value) for value in values):
        whole = all(re.fullmatch(r"[+-]?\d+", value) for value in values)
        return STRING if whole else FLOAT
    if all(value.casefold() in _BOOLEANS for value in values):
        return BOOLEAN
    return DATETIME if all(map(_is_time, values)) else STRING


def _is_time(value: str) -> bool:
    if not _TIME.fullmatch(value):
        return False
    try:
        seconds(value)
    except InvalidValue:
        return False
    return True


def _to_float(value: Any) -> float:
    if isinstance(value, bool):
        raise InvalidValue("a boolean")
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise InvalidValue("not a number")
    return float(value)


def _to_integer(value: Any) -> float:
    number = _to_float(value)
    if not number.is_integer() or abs(number) > MAX_EXACT_INTEGER:
        raise InvalidValue("not an integer")
    return number


def _to_boolean(value: Any) -> float:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value.casefold() in _BOOLEANS:
        return _BOOLEANS[value.casefold()]
    if isinstance(value, int | float | str) and str(value) in {"0", "1", "0.0", "1.0"}:
        return float(value)
    raise InvalidValue("not a boolean")


def _to_seconds(value: Any) -> float:
    if isinstance(value, bool | int | float):
        raise InvalidValue("a number")
    return seconds(value if isinstance(value, str) else value.isoformat())


def _to_string(value: Any) -> str:
    return value if isinstance(value, str) else canonical_text(value)


_CONVERTERS: dict[str, Callable[[Any], float | str]] = {
    FLOAT: _to_float,
    INTEGER: _to_integer,
    BOOLEAN: _to_boolean,
    DATETIME: _to_seconds,
    STRING: _to_string,
}
