"""Which value of a request a compiled model refuses: infinite ones are tried before missing ones."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.predictor import LARGEST, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from solera_core.schema import Column
    from solera_server.batch import Where

_SEARCH_SECONDS = 0.005
"""As long as the predictions of a turn: the event loop may wait for this."""


def refused_value(
    columns: Sequence[Column], where: Where, refuses: Callable[[Sequence[Column]], bool]
) -> str | None:
    """
    Name a value of which a refusal of the model can come, if there is one.

    That is the first that ``refuses`` (given columns of one row) shows to be enough for it; where none is
    shown to be, the first that models refuse more often than others.
    """
    odd = list(_odd_values(columns))
    if not odd:
        return None
    row, column = odd[0] if len(odd) == 1 else _shown_to_be(columns, odd, refuses) or odd[0]
    return f"{where(row, column)}: {refusal(columns[column][row])}"


def _odd_values(columns: Sequence[Column]) -> Iterator[tuple[int, int]]:
    """
    Yield row and column of what models may refuse, the first of each kind in a column.

    Infinite and very large values come first: most models impute what is missing, and few what is infinite.
    """
    missing = []
    for column, values in enumerate(columns):
        if values.dtype == np.float64:
            beyond = np.abs(values) > LARGEST
            firsts = {_first(beyond), _first(beyond & np.isinf(values))}
            yield from ((row, column) for row in sorted(firsts) if row >= 0)
            row = _first(np.isnan(values))
        else:
            row = next((row for row, value in enumerate(values) if not isinstance(value, str)), -1)
        if row >= 0:
            missing.append((row, column))
    yield from missing


def _first(found: Any) -> int:
    """Return where the first one is, or -1."""
    at = int(found.argmax())
    return at if found[at] else -1


def _shown_to_be(
    columns: Sequence[Column], odd: Sequence[tuple[int, int]], refuses: Callable[[Sequence[Column]], bool]
) -> tuple[int, int] | None:
    """Return the first value that is refused in a row without other odd ones, which then is not."""
    end = perf_counter() + _SEARCH_SECONDS
    for row, column in odd:
        ordinary = [_ordinary(values, row) for values in columns]
        alone = [*ordinary]
        alone[column] = columns[column][row : row + 1]
        if refuses(alone) and not refuses(ordinary):
            return row, column
        if perf_counter() > end:
            break
    return None


def _ordinary(values: Column, row: int) -> Column:
    """Return a row's value, or another one where that is odd."""
    own = values[row : row + 1]
    if values.dtype == np.float64:
        return own if abs(own[0]) <= LARGEST else np.zeros(1)
    if isinstance(own[0], str):
        return own
    place = next((place for place, value in enumerate(values) if isinstance(value, str)), row)
    return values[place : place + 1]
