"""
The kernels of texts and categories in numpy and plain Python; native/texts.c and categories.c have the same.

Sparse rows are three arrays: row i has ``data`` and ``indices`` from ends[i] up to ends[i + 1].
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Table = tuple[dict[Any, Any], Any, Any]

_MASK = 0xFFFFFFFF
_WORDS = re.compile(r"(?a)\b\w\w+\b").findall
_REMEMBERED_TERMS = 50_000
# Longer terms are hashed anew each time: clients choose them, and what is remembered must stay small.
_REMEMBERED_LENGTH = 100


def count_terms(  # noqa: PLR0917 - the extension takes no names
    items: list[Any],
    vocabulary: dict[str, int] | None,
    width: int,
    signed: bool,
    lower: bool,
    ends: Integers,
    indices: Integers,
    data: Floats,
) -> int:
    """
    Count the terms of texts, by ``vocabulary`` or, where that is None, by their hash; return how many values.

    An item is a list of terms, or an ASCII text whose terms are its words of two or more letters, digits or
    underscores, in lower case where ``lower``. Terms that are not in the vocabulary are left out. With
    ``signed`` the hash decides whether a term counts 1 or -1. ``ends`` (items + 1,) is set, and of
    ``indices`` and ``data`` (n,) as much as is returned; n is at least the number of terms.
    """
    used = ends[0] = 0
    for row, item in enumerate(items):
        terms = _WORDS(item.lower() if lower else item) if isinstance(item, str) else item
        counts: dict[int, float] = {}
        if vocabulary is None:
            for term in terms:
                place = _remembered if len(term) <= _REMEMBERED_LENGTH else _place
                hashed, sign = place(term, width, signed)
                counts[hashed] = counts.get(hashed, 0.0) + sign
        else:
            for term in terms:
                index = vocabulary.get(term)
                if index is not None:
                    counts[index] = counts.get(index, 0.0) + 1.0
        found = sorted(counts)
        end = used + len(found)
        indices[used:end] = found
        data[used:end] = [counts[index] for index in found]
        ends[row + 1] = used = end
    return used


def weigh_terms(ends: Integers, indices: Integers, data: Floats, factors: Floats | None, norm: int) -> None:
    """
    Multiply each of ``data`` by the factor of its index, then divide it by the norm of its row, in place.

    ``factors`` is (width,) or None; ``norm`` is 0 for none, 1 for absolute values, 2 for squares, which are
    summed in their order. A row whose norm is zero stays.
    """
    if factors is not None:
        data *= factors[indices]
    if norm and len(data):
        rows = row_numbers(ends)
        sums = np.bincount(rows, data * data if norm == 2 else np.absolute(data), len(ends) - 1)
        if norm == 2:
            sums = np.sqrt(sums)
        sums[sums == 0] = 1.0
        data /= sums[rows]


def scatter(ends: Integers, indices: Integers, data: Floats, out: Floats, start: int) -> None:
    """Write sparse rows into ``out`` (rows, columns), from the column ``start`` on."""
    out[row_numbers(ends), indices + start] = data


def row_numbers(ends: Integers) -> Integers:
    """Return the row of each value of sparse rows."""
    return np.repeat(np.arange(len(ends) - 1), np.diff(ends))


def one_hot(
    columns: list[list[Any]], tables: tuple[Table, ...], sources: Sequence[int], out: Floats, start: int
) -> bool:
    """
    Write a one for each value into the place that its table says, counted from column ``start`` of ``out``.

    A table (places by value, place of NaN, place of others) belongs to the column of the same position in
    ``sources``; -1 is no place, and None refuses. Return False where a value is refused.
    """
    for table, source in zip(tables, sources, strict=True):
        found = _looked_up(table, columns[source])
        if None in found:
            return False
        places = np.array(found, dtype=np.int64)
        rows = np.flatnonzero(places >= 0)
        out[rows, places[rows] + start] = 1.0
    return True


def category_codes(
    columns: list[list[Any]], tables: tuple[Table, ...], sources: Sequence[int], out: Floats, start: int
) -> bool:
    """Write what the k-th table says of each value into the column ``start`` + k, otherwise as one_hot."""
    for column, (table, source) in enumerate(zip(tables, sources, strict=True), start):
        found = _looked_up(table, columns[source])
        if None in found:
            return False
        out[:, column] = found
    return True


def _looked_up(table: Table, column: list[Any]) -> list[Any]:
    entries, missing, unknown = table
    if missing is unknown:
        return [entries.get(value, unknown) for value in column]
    return [
        entries.get(value, missing if isinstance(value, float) and math.isnan(value) else unknown)
        for value in column
    ]


def _place(term: str, width: int, signed: bool) -> tuple[int, float]:
    """Return the column and the sign of a term."""
    hashed = murmur3(term.encode("utf-8"))
    # The magnitude of the least number does not fit into 32 bits: scikit-learn's way around it.
    index = (2**31 - 1 - (width - 1)) % width if hashed == -(2**31) else abs(hashed) % width
    return index, -1.0 if signed and hashed < 0 else 1.0


_remembered = lru_cache(_REMEMBERED_TERMS)(_place)


def murmur3(data: bytes) -> int:
    """Return MurmurHash3 (x86, 32 bits, seed 0) of the bytes, as a signed number."""
    value = 0
    whole = len(data) & ~3
    for start in range(0, whole, 4):
        value ^= _mixed(int.from_bytes(data[start : start + 4], "little"))
        value = (value << 13 | value >> 19) & _MASK
        value = (value * 5 + 0xE6546B64) & _MASK
    if whole != len(data):
        value ^= _mixed(int.from_bytes(data[whole:], "little"))
    value ^= len(data)
    value = (value ^ value >> 16) * 0x85EBCA6B & _MASK
    value = (value ^ value >> 13) * 0xC2B2AE35 & _MASK
    value ^= value >> 16
    return value - 2**32 if value >= 2**31 else value


def _mixed(word: int) -> int:
    word = word * 0xCC9E2D51 & _MASK
    word = (word << 15 | word >> 17) & _MASK
    return word * 0x1B873593 & _MASK
