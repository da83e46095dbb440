"""
Rows at the thresholds of a model's own trees: where two computations of one model differ first.

A threshold is one of a column that the preprocessing made. In the raw feature the split falls between two
neighbouring 64-bit numbers, which are found by bisection: whatever the preprocessing does, and whether the
trees round to 32 bits first.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from solera_core.schema import (
    FLOAT,
    INTEGER,
    MAX_EXACT_INTEGER,
    Column,
    Feature,
    Schema,
    encode_cell,
    frame,
)

SPLITS = 6
"""Splits that get rows: of trees spread over the model, one for each."""

_POINTS = 63


@dataclass(frozen=True)
class Split:
    """A split that a training row meets: left where the matrix's ``column`` is at most ``threshold``."""

    row: int
    column: int
    threshold: float
    single: bool
    """Whether the tree rounds to 32 bits first."""


@dataclass(frozen=True)
class Source:
    """A split and the feature that its column is made of, which was from ``low`` to ``high`` in training."""

    split: Split
    feature: Feature
    low: float
    high: float


@dataclass(frozen=True)
class _Tree:
    left: Any
    right: Any
    feature: Any
    threshold: Any
    leaf: Any
    columns: Any
    """(features of the tree,): the columns of the matrix that they are"""

    single: bool


def threshold_rows(schema: Schema, model: Any, columns: Mapping[str, Column]) -> list[dict[str, Any]]:
    """
    Return rows of JSON values at thresholds: the last value that goes left, the first that goes right.

    For a few splits, each met by the training row that is changed, and the threshold itself with the next
    number above. Nothing for models without trees.
    """
    steps = getattr(model, "steps", None)
    trees = _trees(steps[-1][1]) if steps and len(steps) > 1 else []
    rows: list[dict[str, Any]] = []
    if not trees:
        return rows
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        search = _Search(schema, model[:-1], columns)
        for source, below, above in search.neighbours(search.sources(_splits(trees, search.matrix))):
            feature, split = source.feature, source.split
            base = {
                other.name: encode_cell(other, columns[other.name][split.row]) for other in schema.features
            }
            values = _values(feature, split, below, above)
            rows += [{**base, feature.name: encode_cell(feature, value)} for value in values]
    return rows


def _values(feature: Feature, split: Split, below: float, above: float) -> list[float]:
    if feature.type == INTEGER:
        low = float(np.floor(below))
        return [value for value in (low, low + 1) if abs(value) <= MAX_EXACT_INTEGER]
    values = [below, above]
    if below <= split.threshold <= above or np.float32(below) == np.float32(split.threshold):
        # The column is the feature itself: where 32 bits decide, 64 bits must not.
        values += [split.threshold, float(np.nextafter(split.threshold, np.inf))]
    return list(dict.fromkeys(values))


class _Search:
    """The training rows that splits are looked for among, as the model's trees see them."""

    def __init__(self, schema: Schema, preprocess: Any, columns: Mapping[str, Column]) -> None:
        count = len(next(iter(columns.values())))
        self._rows = np.unique(np.linspace(0, count - 1, min(count, 4 * SPLITS)).astype(int))
        self._preprocess = preprocess
        self._columns = columns
        self._features = [feature for feature in schema.features if feature.type in (FLOAT, INTEGER)]
        self.matrix = self._transformed(self._rows, {})

    def sources(self, splits: list[Split]) -> list[Source]:
        """Find the feature that each split's column is made of, by changing one at a time."""
        found: dict[int, tuple[Feature, float, float]] = {}
        for feature in self._features:
            values = self._columns[feature.name].astype(np.float64)
            finite = values[np.isfinite(values)]
            if len(finite) and finite.min() < finite.max():
                ends = np.array([finite.min(), finite.max()])
                both = self._transformed(np.repeat(self._rows[:1], 2), {feature.name: ends})
                for column in np.flatnonzero(both[0] != both[1]).tolist():
                    found.setdefault(column, (feature, *ends.tolist()))
        return [
            Source(replace(split, row=int(self._rows[split.row])), *found[split.column])
            for split in splits
            if split.column in found
        ]

    def neighbours(self, sources: list[Source]) -> Iterator[tuple[Source, float, float]]:
        """Yield for each split the two neighbouring values of its feature that go different ways."""
        low = [int(_ordered(source.low)) for source in sources]
        high = [int(_ordered(source.high)) for source in sources]
        ends = self._go_left(sources, [[first, last] for first, last in zip(low, high, strict=True)])
        searched = [number for number, sides in enumerate(ends) if sides[0] != sides[1]]
        while pending := [number for number in searched if high[number] - low[number] > 1]:
            points = []
            for number in pending:
                step = max((high[number] - low[number]) // (_POINTS + 1), 1)
                points.append(list(range(low[number] + step, high[number], step)))
            sides = self._go_left([sources[number] for number in pending], points)
            for number, tried, left in zip(pending, points, sides, strict=True):
                other = [point for point, side in zip(tried, left, strict=True) if side != ends[number][0]]
                high[number] = min(other, default=high[number])
                low[number] = max((point for point in tried if point < high[number]), default=low[number])
        for number in searched:
            yield sources[number], _number(low[number]), _number(high[number])

    def _go_left(self, sources: list[Source], points: list[list[int]]) -> list[list[bool]]:
        """Say for each source which of its points go left, by one transformation of them all."""
        counts = [len(own) for own in points]
        rows = np.repeat([source.split.row for source in sources], counts).astype(int)
        changed = {
            feature.name: self._columns[feature.name][rows].astype(np.float64) for feature in self._features
        }
        starts = np.cumsum(counts) - counts
        for source, own, start in zip(sources, points, starts.tolist(), strict=True):
            changed[source.feature.name][start : start + len(own)] = [_number(point) for point in own]
        matrix = self._transformed(rows, changed)
        sides = []
        for source, count, start in zip(sources, counts, starts.tolist(), strict=True):
            values = matrix[start : start + count, source.split.column]
            values = _rounded(values) if source.split.single else values
            sides.append((values <= source.split.threshold).tolist())
        return sides

    def _transformed(self, rows: Any, changed: Mapping[str, Any]) -> Any:
        table = {name: changed.get(name, column[rows]) for name, column in self._columns.items()}
        result = self._preprocess.transform(frame(table))
        return np.asarray(result.toarray() if hasattr(result, "toarray") else result, dtype=np.float64)


def _ordered(value: float) -> int:
    """Return an integer in the order of the numbers, one step for each next number."""
    bits = int(np.float64(value).view(np.int64))
    return bits if bits >= 0 else -(2**63) - bits


def _rounded(values: Any) -> Any:
    """Return what 32 bits leave, in 64: a comparison in 32 would round the threshold too."""
    return values.astype(np.float32).astype(np.float64)


def _number(ordered: int) -> float:
    bits = ordered if ordered >= 0 else -(2**63) - ordered
    return float(np.int64(bits).view(np.float64))


def _splits(trees: list[_Tree], matrix: Any) -> list[Split]:
    """Choose a split on the way of a row through each of a few trees, at growing depths."""
    splits = []
    for number in range(SPLITS):
        tree = trees[number * len(trees) // SPLITS]
        row = (number * 5) % len(matrix)
        way = _way(tree, matrix[row])
        if way:
            node = way[number % len(way)]
            column = int(tree.columns[tree.feature[node]])
            splits.append(Split(row, column, float(tree.threshold[node]), tree.single))
    return [split for split in splits if np.isfinite(split.threshold)]


def _way(tree: _Tree, row: Any) -> list[int]:
    """Return the inner nodes that a row comes through."""
    node, way = 0, []
    while not tree.leaf[node]:
        way.append(node)
        value = row[tree.columns[tree.feature[node]]]
        value = _rounded(value) if tree.single else value
        # Where a missing value goes does not matter: the way is one of the tree's own in either case.
        node = int(tree.left[node] if value <= tree.threshold[node] else tree.right[node])
    return way


def _trees(model: Any) -> list[_Tree]:
    """Return the trees of a fitted estimator, in order; those of ensembles of them too."""
    if hasattr(model, "tree_"):
        tree = model.tree_
        return [
            _Tree(
                tree.children_left,
                tree.children_right,
                tree.feature,
                tree.threshold,
                tree.children_left < 0,
                np.arange(tree.n_features),
                single=True,
            )
        ]
    if hasattr(model, "_predictors"):
        if getattr(model, "_preprocessor", None) is not None:
            return []
        everything = np.arange(model.n_features_in_)
        found = []
        for nodes in (tree.nodes for iteration in model._predictors for tree in iteration):  # noqa: SLF001 - scikit-learn shows these trees nowhere else
            left, right, feature = nodes["left"], nodes["right"], nodes["feature_idx"]
            found.append(
                _Tree(
                    left, right, feature, nodes["num_threshold"], nodes["is_leaf"], everything, single=False
                )
            )
        return found
    return _members(model)


def _members(model: Any) -> list[_Tree]:
    members = getattr(model, "estimators_", None)
    if members is None:
        return []
    flat = members.reshape(-1).tolist() if isinstance(members, np.ndarray) else list(members)
    subsets = getattr(model, "estimators_features_", None)
    found = []
    for number, member in enumerate(flat):
        if not hasattr(member, "tree_"):
            return []
        [tree] = _trees(member)
        found.append(tree if subsets is None else replace(tree, columns=np.asarray(subsets[number])))
    return found
