"""Filling in and marking missing values: SimpleImputer, MissingIndicator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from solera_server.compiled.blocks import NUMBERS, STRINGS, Matrix
from solera_server.compiled.node import Node, checked_indices
from solera_server.compiled.refusals import NotCompilable, Refused
from solera_server.compiled.registry import Shape, Step, Transformer, transformer

_STRATEGIES = ("mean", "median", "most_frequent", "constant")
_NEW_MISSING = "a value is missing in a column that had none missing in training"


class NumberImputer(Step):
    """Numbers for NaN; columns that were empty in training left out; marks of what was missing added."""

    def __init__(self, fills: Matrix, kept: np.ndarray[Any, Any] | None, marked: Any | None) -> None:
        columns = range(len(fills)) if kept is None else kept.tolist()
        origins = [*columns, *(() if marked is None else marked.tolist())]
        super().__init__(len(origins), origins)
        self._kept = kept
        self._marked = marked
        self._fills = fills if kept is None else fills[kept]
        self.makes_missing = bool(np.isnan(self._fills).any())

    def __call__(self, block: Matrix, calm: bool) -> Matrix:
        filled = block if self._kept is None else block[:, self._kept]
        if not calm:
            filled = np.where(np.isnan(filled), self._fills, filled)
        if self._marked is None:
            return filled
        return np.concatenate((filled, np.isnan(block[:, self._marked])), axis=1, dtype=np.float64)


class StringImputer(Step):
    """Strings for what is missing."""

    kind = STRINGS

    def __init__(self, fills: list[Any], kept: list[int]) -> None:
        super().__init__(len(kept), kept)
        self.kept = kept
        self.fills = [fills[column] for column in kept]

    def __call__(self, block: list[Any], calm: bool) -> list[Any]:
        return [
            [value if type(value) is str else fill for value in block[column]]
            for column, fill in zip(self.kept, self.fills, strict=True)
        ]


class Indicator(Step):
    """One where a value is missing, otherwise zero."""

    def __init__(self, width: int, features: np.ndarray[Any, Any], *, strict: bool) -> None:
        super().__init__(len(features), features.tolist())
        self._features = features
        others = np.setdiff1d(np.arange(width), features)
        self._others = others if strict and len(others) else None

    def __call__(self, block: Any, calm: bool) -> Matrix:
        if isinstance(block, list):
            mask = np.array([[type(value) is not str for value in column] for column in block]).T
        else:
            mask = np.isnan(block)
        if self._others is not None and mask[:, self._others].any():
            raise Refused(_NEW_MISSING)
        return mask[:, self._features].astype(np.float64)


def expect_nan(node: Node) -> None:
    """Check that what is missing is NaN. Raises NotCompilable."""
    value = node.get("missing_values")
    if not (isinstance(value, float) and math.isnan(value)):
        raise node.fail("missing_values is not NaN")


def indicator_features(node: Node, width: int) -> np.ndarray[Any, Any]:
    """Return the columns that a fitted MissingIndicator marks. Raises NotCompilable."""
    features = checked_indices(node.get("features_"), f"{node.name}: features_", 0, width)
    if features.ndim != 1:
        raise node.fail("features_ is no row of indices")
    return features


@transformer("sklearn.impute._base.SimpleImputer")
def simple_imputer(node: Node, shape: Shape) -> Transformer:
    expect_nan(node)
    node.text("strategy", _STRATEGIES)
    keeps_empty = node.flag("keep_empty_features")
    indicator = node.get("indicator_")
    if shape.kind == STRINGS and not any(shape.numeric):
        shape.expect(node, STRINGS)
        if indicator is not None:
            raise node.fail("it adds marks to strings")
        fills = node.array("statistics_", (shape.width,), "O").tolist()
        absent = [isinstance(fill, float) and math.isnan(fill) for fill in fills]
        if not all(isinstance(fill, str) or gone for fill, gone in zip(fills, absent, strict=True)):
            raise node.fail("it fills strings with something else")
        return StringImputer(fills, [i for i, gone in enumerate(absent) if keeps_empty or not gone])
    shape.expect(node, NUMBERS)
    values = _statistics(node, shape.width)
    kept = None if keeps_empty or not np.isnan(values).any() else np.flatnonzero(~np.isnan(values))
    marked = None
    if indicator is not None:
        marked = indicator_features(node.node("indicator_", "MissingIndicator"), shape.width)
    return NumberImputer(values, kept, marked)


def _statistics(node: Node, width: int) -> Matrix:
    if node.get("_fit_dtype") != np.float64 or node.get("_fill_dtype") not in (np.float64, np.int64):
        raise node.fail("it was not fitted on float64")
    values = node.get("statistics_")
    if isinstance(values, np.ndarray) and values.dtype.kind == "i":
        return node.array("statistics_", (width,), "i").astype(np.float64)
    if isinstance(values, np.ndarray) and values.dtype == object:
        try:
            return values.astype(np.float64).reshape(width)
        except (TypeError, ValueError) as error:
            raise NotCompilable("SimpleImputer: statistics_ are no numbers") from error
    return node.array("statistics_", (width,), finite=False)


@transformer("sklearn.impute._base.MissingIndicator")
def missing_indicator(node: Node, shape: Shape) -> Transformer:
    expect_nan(node)
    if shape.kind not in (NUMBERS, STRINGS) or any(shape.numeric):
        raise node.fail(f"it gets {shape.kind}")
    if node.integer("_n_features") != shape.width:
        raise node.fail("it was fitted on another number of columns")
    features = indicator_features(node, shape.width)
    strict = node.text("features", ("missing-only", "all")) == "missing-only" and node.flag("error_on_new")
    return Indicator(shape.width, features, strict=strict)
