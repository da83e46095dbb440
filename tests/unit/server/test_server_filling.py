"""The quick way from JSON to a batch: it takes nothing that the careful way refuses, and makes the same of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from request_bodies import MIXED, NUMBERS, ONE, TEXTS, tensor, v1, v2, values

from solera_core.schema import Feature, Schema, Target
from solera_server import filling, rows, tensors
from solera_server.batch import InputError

if TYPE_CHECKING:
    from solera_server.codec import Codec

# Without a DateTime, which is never plain.
PLAIN = replace(MIXED, features=MIXED.features[:4])
WHOLE = Schema(
    "Regression", Target("z", "Float"), (Feature("n", "Integer", nullable=False), Feature("m", "Integer"))
)
SCHEMAS = {"plain": PLAIN, "numbers": NUMBERS, "one": ONE, "texts": TEXTS, "whole": WHOLE, "mixed": MIXED}

numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-5, 5),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63, 1e39, -3.4028236e38, 1e-46, 2.0, 2.5, -0.0]),
)
values_ = st.one_of(
    numbers,
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "2026-03-01", [], [1], {}]),
)


def outcome(codec: Codec, schema: Schema, body: Any) -> Any:
    try:
        call = codec.decode(orjson.dumps(body), {})
    except InputError as error:
        return error.status, error.message
    last = call.batch.rows - 1, len(schema.features) - 1
    return values(schema, call.batch), call.outputs, call.batch.where(*last), call.batch.numbers.shape


def agree(make: Any, schema: Schema, body: Any) -> None:
    quick, careful = make(schema), make(schema)
    careful._filling._kinds = b""
    careful._filling.matrix = False
    np.testing.assert_equal(outcome(quick, schema, body), outcome(careful, schema, body))


def right_value(feature: Feature) -> st.SearchStrategy[Any]:
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "Float": numbers,
        "Integer": st.integers(-(2**53), 2**53) | st.integers(-9, 9).map(float),
        "String": st.text(max_size=3),
        "Boolean": st.booleans(),
        "DateTime": st.just("2026-03-01"),
    }
    return kinds[feature.type] | st.none() if feature.nullable else kinds[feature.type]


@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_v1_rows(name: str, data: st.DataObject) -> None:
    schema = SCHEMAS[name]
    lists = [
        [data.draw(right_value(feature)) for feature in schema.features]
        for _ in range(data.draw(st.integers(1, 4)))
    ]
    names = [feature.name for feature in schema.features]
    instances: list[Any] = lists
    if data.draw(st.booleans()):
        instances = [dict(zip(names, row, strict=True)) for row in lists]
    if data.draw(st.booleans()):
        row = data.draw(st.sampled_from(instances))
        keys = [*names, "odd"] if type(row) is dict else range(len(row))
        row[data.draw(st.sampled_from(list(keys)))] = data.draw(values_)
    if data.draw(st.integers(0, 4)) == 0:
        place = data.draw(st.integers(0, len(instances) - 1))
        instances[place] = data.draw(st.lists(values_, max_size=3) | values_ | st.just({}))
    agree(v1, schema, {"instances": instances})


@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_v2_tensors(name: str, data: st.DataObject) -> None:
    schema = SCHEMAS[name]
    width = len(schema.features)
    size = data.draw(st.integers(1, 4))
    flat = [data.draw(right_value(schema.features[index % width])) for index in range(size * width)]
    if data.draw(st.booleans()):
        flat[data.draw(st.integers(0, len(flat) - 1))] = data.draw(values_)
    nested: Any = [flat[start : start + width] for start in range(0, len(flat), width)]
    given_ = data.draw(st.sampled_from([flat, nested, flat[1:], [*nested, nested[0]], [*flat[:1], *nested]]))
    shape = data.draw(
        st.sampled_from([[size, width], [size, width], [size, width], [size], [size + 1, width]])
    )
    datatype = data.draw(st.sampled_from(["FP64", "FP64", "FP32", "FP16", "INT64", "BOOL", "BYTES"]))
    item = tensor(data.draw(st.sampled_from(["t", schema.features[0].name])), shape, datatype, given_)
    if data.draw(st.integers(0, 9)) == 0:
        item[data.draw(st.sampled_from(["name", "shape", "data", "datatype", "odd"]))] = data.draw(values_)
    agree(v2, schema, {"inputs": [item]})


def test_without_the_extension_many_rows_go_by_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "_MOST_ROWS", 8)
    for size in (8, 9):
        agree(v1, NUMBERS, {"instances": [[1.5, 2]] * size})


def test_plain_values_do_not_go_the_careful_way(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rows, tensors):
        monkeypatch.setattr(module, "make_column", lambda *_: pytest.fail("the careful way"))
    plain = {"age": 1.5, "visits": 2, "city": "Porto", "member": True}
    for schema, body in (
        (NUMBERS, {"instances": [[1.5, None], [2, 3]]}),
        (PLAIN, {"instances": [plain]}),
        (PLAIN, {"instances": [list(plain.values())]}),
    ):
        v1(schema).decode(orjson.dumps(body), {})
    for datatype, shape, data in (("FP64", [1, 2], [1.5, None]), ("FP32", [2, 2], [[1, 2], [3, 4.5]])):
        v2(NUMBERS).decode(orjson.dumps({"inputs": [tensor("t", shape, datatype, data)]}), {})
