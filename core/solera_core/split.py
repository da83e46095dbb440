"""Which side of the split a row is on: a salted hash decides, so a row never changes sides.

The hash of a row's key is a 64-bit number, uniform for a salt; the row is held out when it lies below
`test_percent` hundredths of 2**64. Rows added to the data, their order and their number change nothing for
the others, and rows that are held out at 20 percent are held out at 30 percent too.

The key is a declared column's value, a group's, or the whole raw row. A value's text does not depend on the
type that a column happens to have: one missing value turns a column of integers into floats, and 1.0 is then
the same key as 1.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

_MISSING = "\x00"
_SEPARATOR = "\x1f"
_ESCAPE = "\x1e"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_MAX_NUMBER_TEXT = 40


def held_out(keys: Sequence[str], salt: str, test_percent: int) -> npt.NDArray[np.bool_]:
    """Return for each key whether its row is held out; shape (rows,).

    Raises ValueError when the salt is not 64 hexadecimal digits or the percentage not from 1 to 99.
    """
    return below(key_numbers(keys, salt), test_percent)


def below(numbers: npt.NDArray[np.uint64], test_percent: int) -> npt.NDArray[np.bool_]:
    """Return for each of the keys' numbers whether its row is held out; as `held_out`."""
    if not 1 <= test_percent <= 99:
        raise ValueError(f"test_percent is {test_percent}, not from 1 to 99")
    return numbers < np.uint64(test_percent * 2**64 // 100)


def key_numbers(keys: Sequence[str], salt: str) -> npt.NDArray[np.uint64]:
    """Return each key's 64-bit number; shape (rows,).

    Raises ValueError when the salt is not 64 hexadecimal digits.
    """
    secret = bytes.fromhex(salt)
    if len(secret) != 32:
        raise ValueError("the salt is not 64 hexadecimal digits")
    digests = b"".join(
        hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=secret).digest()
        for key in keys
    )
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def row_keys(columns: Iterable[tuple[str, Sequence[Any]]]) -> list[str]:
    """Return a key for each row made from all its values; the order of the columns does not matter."""
    return join_keys((name, column_keys(values)) for name, values in columns)


def join_keys(columns: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Return a key for each row from the canonical texts of its values."""
    ordered = sorted(columns, key=lambda item: item[0])
    texts = [[_escaped(text) for text in column] for _, column in ordered]
    return [_SEPARATOR.join(row) for row in zip(*texts, strict=True)]


def column_keys(values: Sequence[Any]) -> list[str]:
    """Return the canonical text of each value of a column."""
    known: dict[Any, str] = {}
    result = []
    for value in values:
        # 1, 1.0 and True are equal and so share an entry of a dict: the type belongs to the key.
        token = (type(value), value) if value.__hash__ is not None else None
        text = known.get(token)
        if text is None:
            text = canonical_text(value)
            if token is not None and len(known) < 100_000:
                known[token] = text
        result.append(text)
    return result


def canonical_text(value: Any) -> str:
    """Return a value's text, the same whatever type its column has.

    Missing (None, NaN, empty text) is one text; numbers are the same as number or text, whole ones without
    a point; booleans are `true` and `false`; times are ISO 8601 in UTC.
    """
    if value is None or value != value:  # noqa: PLR0124 - NaN and NaT differ from themselves
        return _MISSING
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return _float_text(float(value))
    text = _time_text(value) if isinstance(value, date) else str(value)
    if not text:
        return _MISSING
    if len(text) <= _MAX_NUMBER_TEXT and _NUMBER.fullmatch(text):
        return _number_text(text)
    folded = text.casefold()
    return folded if folded in {"true", "false"} else text


def _escaped(text: str) -> str:
    """Keep the values ("a", "b") and the single value "a<separator>b" apart."""
    if _SEPARATOR not in text and _ESCAPE not in text:
        return text
    return text.replace(_ESCAPE, _ESCAPE + _ESCAPE).replace(_SEPARATOR, _ESCAPE + "s")


def _number_text(text: str) -> str:
    digits = text.removeprefix("+")
    return str(int(digits)) if digits.lstrip("-").isdigit() else _float_text(float(text))


def _time_text(moment: date) -> str:
    """Write a time in UTC without its zone, and midnight as the date alone: one instant is one text."""
    if not isinstance(moment, datetime):
        return moment.isoformat()
    if moment.tzinfo is not None:
        # At the ends of the calendar there may be no such time in UTC.
        with contextlib.suppress(OverflowError, ValueError):
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    text = moment.isoformat()
    return text.removesuffix("T00:00:00")


def _float_text(number: float) -> str:
    if math.isfinite(number) and number.is_integer():
        return str(int(number))
    return repr(number)
