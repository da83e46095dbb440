"""Histograms of integers over bins that are frozen at training: they add up across rows, servers and time.

The bins are defined here and nowhere else. Every value falls into exactly one:

- numbers (floats, integers, booleans as 0 and 1, times as seconds): edges e0 < e1 < ... cut the line into
  [-inf, e0), [e0, e1), ..., [ek, +inf]. An edge belongs to the bin above it; infinities belong to the outer
  bins; -0.0 is 0.0. The last bin is for missing values (NaN).
- categories: a bin for each listed category, then one for all others (rare in training, or never seen), then
  one for missing values (None, NaN).
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from solera_core.failures import ArtifactCorrupt

Category = str | int | bool
Codes = npt.NDArray[np.intp]
Counts = npt.NDArray[np.int64]

INTERVALS = 10
"""Intervals of numbers that have many values: each holds about a tenth of the training rows."""
MAX_VALUES = 20
"""Numbers with up to so many distinct values get a bin for each value; categories beyond are others."""
MAX_BINS = 202
"""The most bins that one histogram may have; what an artifact asks for beyond is refused."""
_ROWS_FOR_EDGES = 200_000
_PIECE = 1_000_000


@dataclass(frozen=True)
class NumericBins:
    """Intervals between ascending finite edges, and a last bin for missing values."""

    edges: tuple[float, ...]
    _array: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_array", np.array(self.edges, dtype=np.float64))

    @property
    def size(self) -> int:
        """Number of bins."""
        return len(self.edges) + 2

    def code(self, value: float) -> int:
        """Return the bin of one value."""
        return self.size - 1 if math.isnan(value) else bisect_right(self.edges, value)

    def codes(self, values: npt.NDArray[np.float64]) -> Codes:
        """Return the bin of each value; shape (rows,)."""
        # NaN sorts behind everything, so it comes out as the last interval.
        found = self._array.searchsorted(values, side="right")
        missing = np.isnan(values)
        if missing.any():
            found[missing] = self.size - 1
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the document's form."""
        return {"edges": list(self.edges)}


@dataclass(frozen=True)
class CategoricalBins:
    """A bin for each category, one for all others, and a last bin for missing values.

    The categories are of one type.
    """

    categories: tuple[Category, ...]
    _index: Mapping[Any, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", {value: code for code, value in enumerate(self.categories)})

    @property
    def size(self) -> int:
        """Number of bins."""
        return len(self.categories) + 2

    def code(self, value: Any) -> int:
        """Return the bin of one value."""
        if value is None or value != value:  # noqa: PLR0124 - NaN differs from itself
            return self.size - 1
        return self._index.get(value, self.size - 2)

    def codes(self, values: npt.NDArray[Any] | list[Any]) -> Codes:
        """Return the bin of each value; shape (rows,)."""
        get, other = self._index.get, self.size - 2
        listed = values if isinstance(values, list) else values.tolist()
        found = np.array([get(value, other) for value in listed], dtype=np.intp)
        if isinstance(values, list) or values.dtype.kind in "fO":
            # Only what is in no category can be missing.
            for row in np.flatnonzero(found == other).tolist():
                found[row] = self.code(listed[row])
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the document's form."""
        return {"categories": list(self.categories)}


Bins = NumericBins | CategoricalBins


def count(bins: Bins, values: npt.NDArray[Any]) -> Counts:
    """Return how many values fall into each bin; shape (bins.size,)."""
    total = np.zeros(bins.size, dtype=np.int64)
    for start in range(0, len(values), _PIECE):
        total += np.bincount(bins.codes(values[start : start + _PIECE]), minlength=bins.size)
    return total


def numeric_bins(values: npt.NDArray[np.float64]) -> NumericBins:
    """Return bins for numbers such as these: one a value when they are few, otherwise tenths of the rows.

    Of more than 200,000 rows the first 200,000 place the edges: the caller's order must have no meaning.
    """
    seen = np.asarray(values[:_ROWS_FOR_EDGES], dtype=np.float64)
    seen = np.sort(seen[np.isfinite(seen)]) + 0.0  # -0.0 becomes 0.0
    if not len(seen):
        return NumericBins(())
    distinct = seen[np.r_[True, seen[1:] != seen[:-1]]]
    if len(distinct) <= MAX_VALUES:
        return NumericBins(tuple(distinct[1:].tolist()))
    places = np.arange(1, INTERVALS) * len(seen) // INTERVALS
    return NumericBins(tuple(np.unique(seen[places]).tolist()))


def categorical_bins(values: Iterable[Any]) -> CategoricalBins:
    """Return bins for the texts among the values: the most frequent ones, ties in the order of the text.

    Where there are more texts than bins, those of less than a hundredth of the values are left out: they
    would be poor bins, and names or numbers of single persons.
    """
    counts = Counter(value for value in values if isinstance(value, str))
    frequent = sorted(counts, key=lambda text: (-counts[text], text))[:MAX_VALUES]
    if len(counts) > MAX_VALUES:
        least = counts.total() / 100
        frequent = [text for text in frequent if counts[text] >= least]
    return CategoricalBins(tuple(frequent))


def read_bins(document: Any, where: str) -> Bins:
    """Read bins from an artifact.

    Raises ArtifactCorrupt with the place.
    """
    if isinstance(document, dict) and set(document) == {"edges"}:
        edges = document["edges"]
        if (
            isinstance(edges, list)
            and len(edges) <= MAX_BINS - 2
            and all(isinstance(edge, int | float) and not isinstance(edge, bool) for edge in edges)
            and all(math.isfinite(edge) for edge in edges)
            and all(low < high for low, high in itertools.pairwise(edges))
        ):
            return NumericBins(tuple(map(float, edges)))
        raise ArtifactCorrupt(f"{where}: edges are not at most {MAX_BINS - 2} ascending finite numbers.")
    if isinstance(document, dict) and set(document) == {"categories"}:
        categories = document["categories"]
        if (
            isinstance(categories, list)
            and len(categories) <= MAX_BINS - 2
            and all(isinstance(category, str | int) for category in categories)
            and len(set(categories)) == len(categories)
        ):
            return CategoricalBins(tuple(categories))
        raise ArtifactCorrupt(f"{where}: categories are not at most {MAX_BINS - 2} different values.")
    raise ArtifactCorrupt(f"{where}: bins have either edges or categories.")
