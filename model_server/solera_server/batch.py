"""What is predicted together: rows, their numbers as one matrix and their texts as columns."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, chain
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from solera_core.schema import STRING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from solera_core.schema import Column, Feature

    Where = Callable[[int, int], str]

Texts: TypeAlias = "list[str | float]"
"""The values of a String feature; NaN is missing."""


class InputError(Exception):
    """A request that cannot be answered as it is; the message says where and what to send instead."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class Batch:
    """
    Rows for a predictor.

    ``numbers`` is float64 in C order, of shape (rows, m): the features whose type is not String, in the
    schema's order, as solera_core.schema defines their values; missing is NaN. ``texts`` has a list of
    ``rows`` values for each String feature, in the schema's order: str, or NaN where missing.
    ``where`` names the place of a value (row, index of the feature in the schema) in the request, for
    messages. Nobody changes a batch, but for ``where``, which is let go when its request is answered or
    nobody waits for the answer any more.
    """

    __slots__ = ("numbers", "rows", "texts", "where")

    def __init__(
        self,
        rows: int,
        numbers: NDArray[np.float64],
        texts: tuple[Texts, ...],
        where: Where,
    ) -> None:
        self.rows = rows
        self.numbers = numbers
        self.texts = texts
        self.where = where

    def forget_places(self) -> None:
        """Let go of ``where``, which may hold on to all of the request's body."""
        self.where = nowhere

    def slice(self, start: int, stop: int) -> Batch:
        """Return the rows from ``start`` up to ``stop``; those of the matrix are a view."""
        where = self.where
        return Batch(
            stop - start,
            self.numbers[start:stop],
            tuple(column[start:stop] for column in self.texts),
            lambda row, feature: where(start + row, feature),
        )


def nowhere(_row: int, _feature: int) -> str:
    """Name no place; for batches whose requests are not asked for it."""
    return ""


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Return one batch with the rows of all, in order; at least one is needed."""
    if len(batches) == 1:
        return batches[0]

    def where(row: int, feature: int) -> str:
        starts = [0, *accumulate(batch.rows for batch in batches)]
        index = bisect_right(starts, row) - 1
        return batches[index].where(row - starts[index], feature)

    numbers = np.concatenate([batch.numbers for batch in batches])
    texts: tuple[Texts, ...] = ()
    if batches[0].texts:
        columns = zip(*(batch.texts for batch in batches), strict=True)
        texts = tuple(list(chain.from_iterable(parts)) for parts in columns)
    return Batch(len(numbers), numbers, texts, where)


class Layout:
    """Which features stand where in a batch."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.texts = [index for index, feature in enumerate(features) if feature.type == STRING]
        """Indexes of the String features, in the order of ``Batch.texts``."""
        self.numbers = [index for index, feature in enumerate(features) if feature.type != STRING]
        """Indexes of all others, in the order of the columns of ``Batch.numbers``."""
        self.features = tuple(features)

    def batch(self, columns: Sequence[Column | Texts], where: Where) -> Batch:
        """Return a batch made of one column for each feature, in the schema's order; lists are kept."""
        rows = len(columns[0])
        numbers = np.empty((rows, len(self.numbers)))
        for position, index in enumerate(self.numbers):
            numbers[:, position] = columns[index]
        given = [columns[index] for index in self.texts]
        texts = tuple(column if isinstance(column, list) else column.tolist() for column in given)
        return Batch(rows, numbers, texts, where)

    def columns(self, batch: Batch) -> list[Column]:
        """
        Return one column for each feature, in the schema's order, as scikit-learn takes them.

        Those of numbers are views, those of texts arrays of objects.
        """
        found: dict[int, Column] = {}
        for index, texts in zip(self.texts, batch.texts, strict=True):
            found[index] = column = np.empty(batch.rows, dtype=object)
            column[:] = texts
        for position, index in enumerate(self.numbers):
            found[index] = batch.numbers[:, position]
        return [found[index] for index in range(len(self.features))]
