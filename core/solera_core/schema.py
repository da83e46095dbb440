"""The feature schema: what a model takes and what it answers, and how JSON values become its columns.

Trainer and server share this one definition of types and of missing. A model gets two kinds of column:
float64 (Float, Integer, Boolean as 0 and 1, DateTime as seconds since 1970 UTC; missing is NaN) and objects
(String; missing is NaN too, since that is what scikit-learn's imputers look for).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from solera_core.canonical import canonical_json, sha256_digest
from solera_core.failures import ArtifactCorrupt

FORMAT_VERSION = 1
FLOAT = "Float"
INTEGER = "Integer"
STRING = "String"
BOOLEAN = "Boolean"
DATETIME = "DateTime"
TYPES = (FLOAT, INTEGER, STRING, BOOLEAN, DATETIME)
TASKS = ("Classification", "Regression")
MAX_EXACT_INTEGER = 2**53
"""Integers are carried as float64, which is exact up to here."""

FIRST_SECOND = datetime(1, 1, 1, tzinfo=UTC).timestamp()
LAST_SECOND = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
"""The ends of the calendar, in seconds since 1970."""

TIME_FORMS = "2026-03-01 or 2026-03-01T12:30:00Z"
"""How a time may be written, for messages."""

MAX_CATEGORIES = 100
MAX_FEATURES = 10_000
_INFINITIES = {"Infinity": math.inf, "-Infinity": -math.inf}

Column = npt.NDArray[np.float64] | npt.NDArray[np.object_]


class InvalidValue(ValueError):  # noqa: N818 - names the value
    """A value that is not of its feature's type. The message says what to write."""


@dataclass(frozen=True)
class Feature:
    """One input column. `categories` are the values seen in training, when few; they restrict nothing."""

    name: str
    type: str
    nullable: bool = True
    categories: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form that `schema.json` has."""
        result: dict[str, Any] = {"name": self.name, "type": self.type, "nullable": self.nullable}
        if self.categories is not None:
            result["categories"] = list(self.categories)
        return result


@dataclass(frozen=True)
class Target:
    """The output. `classes` in the order of the model's probabilities; None for Regression."""

    name: str
    type: str
    classes: tuple[str | int | bool, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form that `schema.json` has."""
        result: dict[str, Any] = {"name": self.name, "type": self.type}
        if self.classes is not None:
            result["classes"] = list(self.classes)
        return result


@dataclass(frozen=True)
class Schema:
    """Features in the order in which the model gets them, and the target."""

    task: str
    target: Target
    features: tuple[Feature, ...]
    index: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {feature.name: i for i, feature in enumerate(self.features)})

    def to_json(self) -> dict[str, Any]:
        """Return the document `schema.json`."""
        return {
            "formatVersion": FORMAT_VERSION,
            "task": self.task,
            "target": self.target.to_json(),
            "features": [feature.to_json() for feature in self.features],
        }

    @property
    def digest(self) -> str:
        """Digest of the canonical document."""
        return sha256_digest(canonical_json(self.to_json()))

    @classmethod
    def from_json(cls, document: Any) -> Schema:
        """Read `schema.json`.

        Raises ArtifactCorrupt.
        """
        data = _object(document, "schema.json", {"formatVersion", "task", "target", "features"})
        if data["formatVersion"] != FORMAT_VERSION:
            raise ArtifactCorrupt(f"schema.json has not the format version {FORMAT_VERSION}.")
        if data["task"] not in TASKS:
            raise ArtifactCorrupt(
                f"schema.json names the task {data['task']!r}; there are {', '.join(TASKS)}."
            )
        features = data["features"]
        if not isinstance(features, list) or not 1 <= len(features) <= MAX_FEATURES:
            raise ArtifactCorrupt(f"schema.json lists no features, or more than {MAX_FEATURES}.")
        schema = cls(data["task"], _target(data["target"]), tuple(_feature(item) for item in features))
        if len(schema.index) != len(schema.features):
            raise ArtifactCorrupt("schema.json names a feature twice.")
        if (schema.task == "Classification") != (schema.target.classes is not None):
            raise ArtifactCorrupt("schema.json has classes for Regression, or none for Classification.")
        return schema


def is_missing(feature: Feature, value: Any) -> bool:
    """Whether a JSON value stands for a missing one."""
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (feature.type == FLOAT and isinstance(value, str) and value == "NaN")
    )


def decode_value(feature: Feature, value: Any) -> float | str:
    """Return what the model gets for one JSON value: a float (NaN when missing) or a string.

    null is missing everywhere, and "NaN" in Float columns; in String columns missing is NaN too. "Infinity"
    and "-Infinity" stand for themselves in Float columns, as JSON has no other way. Raises InvalidValue.
    """
    if is_missing(feature, value):
        if feature.nullable:
            return math.nan
        raise InvalidValue("must not be missing")
    return _DECODERS[feature.type](value)


def decode_column(feature: Feature, values: Sequence[Any]) -> Column:
    """Return the model's column for JSON values: float64, or objects for String; shape (rows,).

    Raises InvalidValue whose message begins with the number of the row when there are several.
    """
    column: Column = np.empty(len(values), dtype=object if feature.type == STRING else np.float64)
    for row, value in enumerate(values):
        try:
            column[row] = decode_value(feature, value)
        except InvalidValue as error:
            raise InvalidValue(f"row {row}: {error}" if len(values) > 1 else str(error)) from None
    return column


def decode_rows(schema: Schema, rows: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    """Return the model's columns, in the schema's order, for rows of JSON values by feature name.

    A feature that a row lacks counts as missing. Raises InvalidValue with the feature's name.
    """
    columns = {}
    for feature in schema.features:
        try:
            columns[feature.name] = decode_column(feature, [row.get(feature.name) for row in rows])
        except InvalidValue as error:
            raise InvalidValue(f'feature "{feature.name}": {error}') from None
    return columns


def encode_value(value: Any) -> float | str | None:
    """Return the JSON value from which `decode_value` makes this cell of a model's column again."""
    if isinstance(value, str):
        return value
    number = float(value)
    if math.isnan(number):
        return None
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


def encode_cell(feature: Feature, value: Any) -> Any:
    """Return the JSON value of a cell in its feature's own type, as `decode_value` takes it.

    A time outside the years 1 to 9999 becomes their end: JSON's ISO 8601 has no other.
    """
    encoded = encode_value(value)
    if encoded is None or isinstance(encoded, str) or feature.type == FLOAT:
        return encoded
    if feature.type == BOOLEAN:
        return bool(encoded)
    if feature.type == INTEGER:
        return int(encoded)
    # Zones and rounding may carry a time past the ends of the calendar.
    moment = datetime.fromtimestamp(min(max(encoded, FIRST_SECOND), LAST_SECOND), UTC)
    return moment.isoformat().replace("+00:00", "Z")


def frame(columns: Mapping[str, Column]) -> Any:
    """Return the pandas DataFrame that a pipeline is fitted on and predicts from.

    Imports pandas. The columns keep their types: pandas would turn objects into its own strings.
    """
    import pandas as pd

    return pd.DataFrame({name: pd.Series(column, dtype=column.dtype) for name, column in columns.items()})


def seconds(text: str) -> float:
    """Return the seconds since 1970 UTC of an ISO 8601 date or time; without a zone it is UTC.

    Raises InvalidValue.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidValue(f'"{text}" is not a time: write it as {TIME_FORMS}') from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def _decode_float(value: Any) -> float:
    if isinstance(value, str) and value in _INFINITIES:
        return _INFINITIES[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValue(f"takes a number, not {_shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise InvalidValue("takes a number that fits a 64-bit float") from None


def _decode_integer(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValue(f"takes an integer, not {_shown(value)}")
    if isinstance(value, float) and not value.is_integer():
        raise InvalidValue(f"takes an integer, not {value!r}")
    if abs(value) > MAX_EXACT_INTEGER:
        raise InvalidValue(f"takes integers from -{MAX_EXACT_INTEGER} to {MAX_EXACT_INTEGER}")
    return float(value)


def _decode_string(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidValue(f"takes a string, not {_shown(value)}")
    return value


def _decode_boolean(value: Any) -> float:
    if isinstance(value, bool):
        return float(value)
    raise InvalidValue(f"takes true or false, not {_shown(value)}")


def _decode_datetime(value: Any) -> float:
    if not isinstance(value, str):
        raise InvalidValue(f"takes a time such as 2026-03-01T12:30:00Z, not {_shown(value)}")
    return seconds(value)


_DECODERS: dict[str, Callable[[Any], float | str]] = {
    FLOAT: _decode_float,
    INTEGER: _decode_integer,
    STRING: _decode_string,
    BOOLEAN: _decode_boolean,
    DATETIME: _decode_datetime,
}


def _shown(value: Any) -> str:
    """Return the value for a message, cut short: it came from outside."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _object(
    value: Any, where: str, required: set[str], optional: frozenset[str] = frozenset()
) -> dict[str, Any]:
    if not isinstance(value, dict) or not required <= set(value) <= required | optional:
        raise ArtifactCorrupt(f"{where} is not an object with the fields {', '.join(sorted(required))}.")
    return value


def _feature(item: Any) -> Feature:
    data = _object(item, "a feature in schema.json", {"name", "type", "nullable"}, frozenset({"categories"}))
    if (
        not isinstance(data["name"], str)
        or data["type"] not in TYPES
        or not isinstance(data["nullable"], bool)
    ):
        raise ArtifactCorrupt(f"schema.json describes the feature {data['name']!r} wrongly.")
    categories = data.get("categories")
    if categories is not None and not (
        isinstance(categories, list) and all(isinstance(c, str) for c in categories)
    ):
        raise ArtifactCorrupt(
            f"schema.json gives the feature {data['name']!r} categories that are not strings."
        )
    return Feature(
        data["name"], data["type"], data["nullable"], None if categories is None else tuple(categories)
    )


def _target(item: Any) -> Target:
    data = _object(item, "the target in schema.json", {"name", "type"}, frozenset({"classes"}))
    classes = data.get("classes")
    if not isinstance(data["name"], str) or data["type"] not in TYPES:
        raise ArtifactCorrupt("schema.json describes the target wrongly.")
    if classes is not None and not (
        isinstance(classes, list)
        and len(classes) > 1
        and all(isinstance(c, str | int | bool) for c in classes)
    ):
        raise ArtifactCorrupt(
            "schema.json gives the target classes that are not strings, integers or booleans."
        )
    return Target(data["name"], data["type"], None if classes is None else tuple(classes))
