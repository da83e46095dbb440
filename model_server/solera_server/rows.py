"""What V1 sends, rows by position or by name, or columns by name, made into a batch of checked values."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from solera_core.nearest import hint
from solera_server.batch import InputError
from solera_server.columns import make_column
from solera_server.json_input import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solera_core.schema import Feature
    from solera_server.batch import Batch, Layout
    from solera_server.request_size import RequestSize


def decode_rows(layout: Layout, instances: list[Any]) -> Batch:
    """
    Decode instances: lists of values in the order of the features, or objects by feature name.

    A single feature may also come as bare values. In an object a key that is absent is a missing value.
    Raises InputError.
    """
    features = layout.features
    if not instances:
        raise InputError("instances: expected at least one row, got an empty list")
    kinds = set(map(type, instances))
    if kinds == {list}:
        raw = _by_position(features, instances)
    elif kinds == {dict}:
        raw = _by_name(features, instances)
    elif len(features) == 1 and not kinds & {list, dict}:
        raw = [instances]
    else:
        raise _mixed(features, instances)

    columns = [
        make_column(feature, values, partial(_place, feature.name))
        for feature, values in zip(features, raw, strict=True)
    ]
    return layout.batch(columns, lambda row, column: _place(features[column].name, row))


def decode_columns(layout: Layout, inputs: dict[str, Any], size: RequestSize) -> Batch:
    """
    Decode ``inputs``: one list of values for each feature, by name, all of one length.

    A column that is absent is missing values. Raises InputError.
    """
    features = layout.features
    names = [feature.name for feature in features]
    known = frozenset(names)
    rows = None
    for name, values in inputs.items():
        if name not in known:
            raise InputError(f"inputs: unknown feature {shown(name)}.{hint(name[:100], names)}")
        if not isinstance(values, list):
            raise InputError(
                f"inputs.{name}: expected a list of values, one for each row, got {shown(values)}"
            )
        if rows is None:
            rows = len(values)
            size.check_rows(rows, f"inputs.{name}")
        elif len(values) != rows:
            raise InputError(
                f"inputs.{name}: has {len(values)} values, and inputs.{next(iter(inputs))} has {rows}"
            )
    if not rows:
        raise InputError("inputs: expected at least one row, as a list of values for each feature")
    columns = []
    for feature in features:
        if feature.name not in inputs and not feature.nullable:
            raise InputError(f"inputs.{feature.name}: is missing; expected {feature.type}")
        column = inputs.get(feature.name, [None] * rows)
        columns.append(make_column(feature, column, partial(_column_place, feature.name)))
    return layout.batch(columns, lambda row, column: _column_place(features[column].name, row))


def _place(name: str, row: int) -> str:
    return f"instances[{row}].{name}"


def _column_place(name: str, row: int) -> str:
    return f"inputs.{name}[{row}]"


def _by_position(features: Sequence[Feature], instances: list[list[Any]]) -> list[Sequence[Any]]:
    width = len(features)
    if set(map(len, instances)) != {width}:
        row = next(row for row, values in enumerate(instances) if len(values) != width)
        names = ", ".join(feature.name for feature in features[:20])
        more = ", …" if width > 20 else ""
        raise InputError(
            f"instances[{row}]: expected {width} values, got {len(instances[row])}; "
            f"the order is {names}{more}"
        )
    return list(zip(*instances, strict=True))


def _by_name(features: Sequence[Feature], instances: list[dict[str, Any]]) -> list[Sequence[Any]]:
    names = [feature.name for feature in features]
    known = frozenset(names)
    for row, values in enumerate(instances):
        if not values.keys() <= known:
            extra = next(key for key in values if key not in known)
            raise InputError(f"instances[{row}]: unknown feature {shown(extra)}.{hint(extra[:100], names)}")
        if len(values) < len(known):
            for feature in features:
                if feature.name not in values and not feature.nullable:
                    raise InputError(f"instances[{row}].{feature.name}: is missing; expected {feature.type}")
    return [[values.get(name) for values in instances] for name in names]


def _mixed(features: Sequence[Feature], instances: list[Any]) -> InputError:
    first = type(instances[0])
    if first in (list, dict):
        row = next(row for row, values in enumerate(instances) if type(values) is not first)
        return InputError(
            f"instances[{row}]: expected {'a list' if first is list else 'an object'} like instances[0], "
            f"got {shown(instances[row])}"
        )
    return InputError(
        f"instances[0]: expected a list of {len(features)} values or an object by feature name, "
        f"got {shown(instances[0])}"
    )
