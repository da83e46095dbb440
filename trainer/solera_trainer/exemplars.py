"""Stored inputs with expected outputs: by them a server checks at start that it answers as the trainer
did.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from solera_core.canonical import canonical_json
from solera_core.schema import (
    BOOLEAN,
    DATETIME,
    FLOAT,
    INTEGER,
    LAST_SECOND,
    MAX_EXACT_INTEGER,
    STRING,
    Column,
    Feature,
    InvalidValue,
    Schema,
    decode_rows,
    encode_cell,
    encode_value,
    frame,
)
from solera_trainer.thresholds import threshold_rows

MAX_ROWS = 64
MAX_TRIED = 4 * MAX_ROWS
_TYPICAL = 12
_MAX_CATEGORIES = 100
_UNSEEN = "never seen in training"


def describe(schema: Schema, model: Any, columns: Mapping[str, Column]) -> Schema:
    """Return the schema with the categories of the training rows and with what the model says to missing
    values.
    """
    features = []
    base = _row(schema, columns, 0)
    all_missing = _answers(schema, model, [dict.fromkeys(base)]) is not None
    for feature in schema.features:
        nullable = all_missing or _answers(schema, model, [{**base, feature.name: None}]) is not None
        categories = None
        if feature.type == STRING:
            values = sorted({value for value in columns[feature.name].tolist() if isinstance(value, str)})
            categories = tuple(values) if len(values) <= _MAX_CATEGORIES else None
        features.append(dataclasses.replace(feature, nullable=nullable, categories=categories))
    return dataclasses.replace(schema, features=tuple(features))


def examples(schema: Schema, model: Any, columns: Mapping[str, Column]) -> dict[str, Any]:
    """Return the document `examples.json`: at most 64 rows that the model answers, typical and at the edges.

    Rows of the training data; both sides of splits of the model's own trees, neighbours in floating point;
    smallest and largest values; the middle of two neighbouring values and its two neighbours; infinities;
    missing values; categories that were never seen. What the model refuses is left out.
    """
    tried = itertools.chain(
        _typical(schema, columns), threshold_rows(schema, model, columns), _edges(schema, columns)
    )
    distinct = {canonical_json(row): row for row in itertools.islice(tried, MAX_TRIED)}
    rows: list[dict[str, Any]] = []
    pending = list(distinct.values())
    while pending and len(rows) < MAX_ROWS:
        rows += _accepted(schema, model, pending[:MAX_ROWS])
        pending = pending[MAX_ROWS:]
    rows = rows[:MAX_ROWS]
    outputs = _answers(schema, model, rows)
    if outputs is None:
        raise ValueError("the model answers rows one by one but not together")
    return {"inputs": rows, "outputs": outputs}


def _accepted(schema: Schema, model: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that the model answers, by halving what it refuses: far fewer calls than one a row."""
    if _answers(schema, model, rows) is not None:
        return rows
    if len(rows) == 1:
        return []
    middle = len(rows) // 2
    return _accepted(schema, model, rows[:middle]) + _accepted(schema, model, rows[middle:])


def _answers(schema: Schema, model: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the model's outputs for rows of JSON values, or None when it refuses one of them."""
    permissive = dataclasses.replace(
        schema, features=tuple(dataclasses.replace(feature, nullable=True) for feature in schema.features)
    )
    try:
        table = frame(decode_rows(permissive, rows))
    except InvalidValue:
        return None
    try:
        with warnings.catch_warnings():
            # Infinities and unknown categories are meant to be there.
            warnings.simplefilter("ignore")
            outputs: dict[str, Any] = {"predict": _values(schema, model.predict(table))}
            if hasattr(model, "predict_proba"):
                outputs["predict_proba"] = [
                    [encode_value(number) for number in row] for row in model.predict_proba(table).tolist()
                ]
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - how an estimator refuses a value is its own choice
        return None
    return outputs


def _values(schema: Schema, answers: Any) -> list[Any]:
    values = np.asarray(answers).reshape(-1).tolist()
    return values if schema.target.classes is not None else [encode_value(value) for value in values]


def _row(schema: Schema, columns: Mapping[str, Column], row: int) -> dict[str, Any]:
    return {feature.name: encode_cell(feature, columns[feature.name][row]) for feature in schema.features}


def _typical(schema: Schema, columns: Mapping[str, Column]) -> Iterator[dict[str, Any]]:
    count = len(next(iter(columns.values())))
    for row in np.unique(np.linspace(0, count - 1, min(_TYPICAL, count)).astype(int)).tolist():
        yield _row(schema, columns, row)


def _edges(schema: Schema, columns: Mapping[str, Column]) -> Iterator[dict[str, Any]]:
    """Change one feature of a typical row at a time, going round the features so that each gets its share."""
    count = len(next(iter(columns.values())))
    yield {feature.name: None for feature in schema.features}
    pending = [(feature, list(_edge_values(feature, columns[feature.name]))) for feature in schema.features]
    number = 0
    while any(values for _, values in pending):
        for feature, values in pending:
            if values:
                base = _row(schema, columns, (number * 7) % count)
                yield {**base, feature.name: values.pop(0)}
                number += 1


def _edge_values(feature: Feature, column: Column) -> Iterator[Any]:
    yield None
    if feature.type == STRING:
        yield _UNSEEN
        yield ""
        yield from sorted({value for value in column.tolist() if isinstance(value, str)})[:3]
        return
    if feature.type == BOOLEAN:
        yield True
        yield False
        return
    numbers = np.unique(np.asarray(column, dtype=np.float64))
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return
    for number in _edge_numbers(feature, numbers):
        yield encode_cell(feature, number)


def _edge_numbers(feature: Feature, numbers: Any) -> Iterator[float]:
    low, high = float(numbers[0]), float(numbers[-1])
    middle = len(numbers) // 2
    if feature.type == FLOAT and len(numbers) > 1:
        cut = float(numbers[middle - 1] / 2 + numbers[middle] / 2)
        yield cut
        yield math.nextafter(cut, math.inf)
        yield math.nextafter(cut, -math.inf)
    yield low
    yield high
    spread = (high - low) or 1.0
    if feature.type == FLOAT:
        yield low - spread
        yield high + spread
        yield math.inf
        yield -math.inf
    elif feature.type == INTEGER:
        yield float(max(math.floor(low - spread), -MAX_EXACT_INTEGER))
        yield float(min(math.ceil(high + spread), MAX_EXACT_INTEGER))
    elif feature.type == DATETIME:
        yield min(math.floor(high) + 86400.0, LAST_SECOND)
