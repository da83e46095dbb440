"""Schemas, the codecs for them, and request bodies that fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from solera_core.schema import Feature, Schema, Target
from solera_server.batch import Batch, InputError, Layout
from solera_server.limits import Limits
from solera_server.v1 import V1Codec
from solera_server.v2 import V2Codec

if TYPE_CHECKING:
    from solera_server.codec import Call, Codec

LIMITS = Limits()
MIXED = Schema(
    "Classification",
    Target("buys", "Boolean", (False, True)),
    (
        Feature("age", "Float"),
        Feature("visits", "Integer", nullable=False),
        Feature("city", "String"),
        Feature("member", "Boolean", nullable=False),
        Feature("since", "DateTime", nullable=False),
    ),
)
NUMBERS = Schema(
    "Classification",
    Target("kind", "String", ("a", "b")),
    (Feature("x", "Float", nullable=False), Feature("y", "Float")),
)
TEXTS = Schema("Regression", Target("z", "Float"), (Feature("word", "String"), Feature("other", "String")))
ONE = Schema("Regression", Target("z", "Float"), (Feature("x", "Float"),))

ROW: dict[str, Any] = {
    "age": 39.5,
    "visits": 3,
    "city": "Porto",
    "member": True,
    "since": "2026-03-01T12:00:00Z",
}
SINCE = 1772366400.0


def v1(schema: Schema, limits: Limits = LIMITS) -> V1Codec:
    return V1Codec(schema, limits, outputs_of(schema))


def v2(schema: Schema, limits: Limits = LIMITS) -> V2Codec:
    return V2Codec("m", "m-v1", schema, outputs_of(schema), limits)


def outputs_of(schema: Schema) -> tuple[str, ...]:
    return ("predict", "predict_proba") if schema.target.classes else ("predict",)


def decode(codec: Codec, value: Any) -> Call:
    return codec.decode(orjson.dumps(value), {})


def values(schema: Schema, batch: Batch) -> list[list[Any]]:
    """The batch's values, one list for each feature."""
    return [column.tolist() for column in Layout(schema.features).columns(batch)]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def refusal(codec: Codec, value: Any, status: int = 400) -> str:
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    with pytest.raises(InputError) as caught:
        codec.decode(body, {})
    assert caught.value.status == status
    return caught.value.message


def tensor(name: str, shape: list[int], datatype: str, data: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def columns_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    types = {"age": "FP64", "visits": "INT64", "city": "BYTES", "member": "BOOL", "since": "BYTES"}
    return [tensor(name, [len(rows)], kind, [row[name] for row in rows]) for name, kind in types.items()]
