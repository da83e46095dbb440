"""Rows of V1, by position or by name, made into checked columns."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from solera_core.nearest import did_you_mean
from solera_server.batch import InputError
from solera_server.columns import make_column
from solera_server.json_input import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solera_core.schema import Feature
    from solera_server.batch import Batch, Layout
    from solera_server.filling import Filling


def decode_rows(layout: Layout, filling: Filling, instances: list[Any]) -> Batch:
    """
    Decode instances: lists of values in the order of the features, or objects by feature name.

    A single feature may also come as bare values. In an object a key that is absent is a missing value.
    Raises InputError.
    """
    features = layout.features
    quick = filling.rows(instances, lambda row, column: _place(features[column].name, row))
    if quick is not None:
        return quick
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


def _place(name: str, row: int) -> str:
    return f"instances[{row}].{name}"


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
            raise InputError(
                f"instances[{row}]: unknown feature {shown(extra)}.{did_you_mean(extra[:100], names)}"
            )
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
