"""Request bodies: what is taken, and the message of everything that is not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solera_core.schema import Feature, Schema, Target, decode_rows
from solera_server.batch import Batch, InputError
from solera_server.codec import Call, Codec
from solera_server.json_input import parse
from solera_server.v1 import V1Codec
from solera_server.v2 import V2Codec

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


def v1(schema: Schema) -> V1Codec:
    return V1Codec(schema, json_depth=32)


def v2(schema: Schema) -> V2Codec:
    outputs = ("predict", "predict_proba") if schema.target.classes else ("predict",)
    return V2Codec("m", "m-v1", schema, outputs, json_depth=32)


def decode(codec: Codec, value: Any) -> Call:
    return codec.decode(orjson.dumps(value))


def values(batch: Batch) -> list[list[Any]]:
    return [column.tolist() for column in batch.columns]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def refusal(codec: Codec, value: Any) -> str:
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    with pytest.raises(InputError) as caught:
        codec.decode(body)
    assert caught.value.status == 400
    return caught.value.message


def tensor(name: str, shape: list[int], datatype: str, data: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def columns_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    types = {"age": "FP64", "visits": "INT64", "city": "BYTES", "member": "BOOL", "since": "BYTES"}
    return [tensor(name, [len(rows)], kind, [row[name] for row in rows]) for name, kind in types.items()]


# -- V1: what is taken -----------------------------------------------------------------------------


def test_v1_rows_by_name_and_by_position_are_the_same() -> None:
    second = {**ROW, "age": None, "city": None, "visits": 4.0, "since": "2026-03-01"}
    by_name = decode(v1(MIXED), {"instances": [ROW, second]})
    by_position = decode(v1(MIXED), {"instances": [list(ROW.values()), list(second.values())]})
    assert by_name.outputs == ("predict",)
    assert by_name.batch.rows == 2
    for batch in (by_name.batch, by_position.batch):
        age, visits, city, member, since = values(batch)
        assert age[0] == 39.5
        assert math.isnan(age[1])
        assert visits == [3.0, 4.0]
        assert city[0] == "Porto"
        assert math.isnan(city[1])
        assert member == [1.0, 1.0]
        assert since == [SINCE, SINCE - 12 * 3600]


def test_v1_absent_key_is_missing_where_that_is_allowed() -> None:
    row = {key: value for key, value in ROW.items() if key != "age"}
    assert math.isnan(values(decode(v1(MIXED), {"instances": [row]}).batch)[0][0])


def test_v1_single_feature_takes_bare_values() -> None:
    assert values(decode(v1(ONE), {"instances": [1, 2.5, "Infinity"]}).batch) == [[1.0, 2.5, math.inf]]


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "age": st.none()
                | st.floats(allow_nan=False, allow_infinity=False)
                | st.integers(-(2**60), 2**60),
                "visits": st.integers(-(2**53), 2**53),
                "city": st.none() | st.text(),
                "member": st.booleans(),
                "since": st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
            }
        ),
        min_size=1,
        max_size=5,
    )
)
def test_columns_are_those_of_the_schema_module(rows: list[dict[str, Any]]) -> None:
    """The quick way by columns gives what core's definition gives value by value, in both protocols."""
    expected = [column.tolist() for column in decode_rows(MIXED, rows).values()]
    for call in (
        decode(v1(MIXED), {"instances": rows}),
        decode(v1(MIXED), {"instances": [[row[name] for name in ROW] for row in rows]}),
        decode(v2(MIXED), {"inputs": columns_of(rows)}),
    ):
        for found, wanted in zip(values(call.batch), expected, strict=True):
            np.testing.assert_equal(found, wanted)


# -- V1: what is refused ---------------------------------------------------------------------------


def with_value(**changes: Any) -> dict[str, Any]:
    return {"instances": [ROW, {**ROW, **changes}]}


V1_REFUSED = {
    "empty body": (b"", "the body is empty; it must be a JSON object"),
    "not JSON": (b"{instances}", "the body is not valid JSON"),
    "not UTF-8": (b'{"instances": ["\xff"]}', "the body is not valid JSON"),
    "NaN": (b'{"instances": [[NaN]]}', "the body is not valid JSON"),
    "Infinity": (b'{"instances": [[Infinity]]}', "the body is not valid JSON"),
    "number too large": (b'{"instances": [[1e999]]}', "the body is not valid JSON"),
    "lone surrogate": (b'{"instances": [["\\ud800"]]}', "the body is not valid JSON"),
    "trailing text": (b'{"instances": [[1]]} x', "the body is not valid JSON"),
    "a list": ([1], "body: expected an object, got a list of 1"),
    "a string": ("x", 'body: expected an object, got "x"'),
    "no instances": ({}, 'body: the field "instances" is missing'),
    "other field": ({"instances": [ROW], "inputs": []}, 'body: unknown field "inputs"; known are instances'),
    "instances an object": ({"instances": ROW}, "instances: expected a list of rows, got an object"),
    "instances null": ({"instances": None}, "instances: expected a list of rows, got null"),
    "no rows": ({"instances": []}, "instances: expected at least one row"),
    "row a number": ({"instances": [1]}, "instances[0]: expected a list of 5 values or an object"),
    "rows of two kinds": (
        {"instances": [ROW, [1, 2, 3, 4, 5]]},
        "instances[1]: expected an object like instances[0], got a list of 5",
    ),
    "row too short": (
        {"instances": [list(ROW.values()), [1, 2]]},
        "instances[1]: expected 5 values, got 2; the order is age, visits, city, member, since",
    ),
    "row too long": ({"instances": [[1, 2, 3, 4, 5, 6]]}, "instances[0]: expected 5 values, got 6"),
    "unknown feature": (
        with_value(agee=1),
        'instances[1]: unknown feature "agee". Did you mean "age"?',
    ),
    "feature left out": (
        {"instances": [{"age": 1}]},
        "instances[0].visits: is missing; expected Integer",
    ),
    "string for Float": (with_value(age="abc"), 'instances[1].age: expected Float, got "abc"'),
    "boolean for Float": (with_value(age=True), "instances[1].age: expected Float, got true"),
    "list for Float": (with_value(age=[1, 2]), "instances[1].age: expected Float, got a list of 2"),
    "object for Float": (with_value(age={"a": 1}), "instances[1].age: expected Float, got an object"),
    "long string": (with_value(age="x" * 500), f'instances[1].age: expected Float, got "{"x" * 40}…"'),
    "fraction for Integer": (with_value(visits=2.5), "instances[1].visits: expected Integer, got 2.5"),
    "string for Integer": (with_value(visits="3"), 'instances[1].visits: expected Integer, got "3"'),
    "boolean for Integer": (with_value(visits=False), "instances[1].visits: expected Integer, got false"),
    "Integer too large": (with_value(visits=2**53 + 1), "instances[1].visits: expected Integer"),
    "null for Integer": (
        with_value(visits=None),
        "instances[1].visits: expected Integer, got null; this feature had no missing values in training",
    ),
    "number for String": (with_value(city=5), "instances[1].city: expected String, got 5"),
    "boolean for String": (with_value(city=True), "instances[1].city: expected String, got true"),
    "number for Boolean": (with_value(member=1), "instances[1].member: expected Boolean, got 1"),
    "string for Boolean": (with_value(member="true"), 'instances[1].member: expected Boolean, got "true"'),
    "number for DateTime": (
        with_value(since=1.5e9),
        "instances[1].since: expected DateTime, got 1500000000.0",
    ),
    "no date": (with_value(since="yesterday"), 'instances[1].since: expected DateTime, got "yesterday" ('),
    "impossible date": (
        with_value(since="2026-02-30"),
        'instances[1].since: expected DateTime, got "2026-02-30" (',
    ),
    "value too deep": (with_value(age=nested(40)), "the JSON nests deeper than 32 levels"),
}


@pytest.mark.parametrize("case", V1_REFUSED)
def test_v1_refusals(case: str) -> None:
    value, message = V1_REFUSED[case]
    assert message in refusal(v1(MIXED), value)


# -- V2: what is taken -----------------------------------------------------------------------------


def test_v2_matrix_flat_and_nested() -> None:
    for data in ([1, 2.5, 3, None], [[1, 2.5], [3, None]]):
        batch = decode(v2(NUMBERS), {"inputs": [tensor("input-0", [2, 2], "FP64", data)]}).batch
        x, y = values(batch)
        assert x == [1.0, 3.0]
        assert y[0] == 2.5
        assert math.isnan(y[1])


def test_v2_matrix_of_strings() -> None:
    batch = decode(v2(TEXTS), {"inputs": [tensor("t", [2, 2], "BYTES", ["a", "b", "c", "d"])]}).batch
    assert values(batch) == [["a", "c"], ["b", "d"]]


def test_v2_columns_in_any_order_and_of_two_shapes() -> None:
    inputs = columns_of([ROW, ROW])[::-1]
    inputs[0]["shape"] = [2, 1]
    batch = decode(v2(MIXED), {"inputs": inputs}).batch
    assert values(batch) == [[39.5, 39.5], [3.0, 3.0], ["Porto", "Porto"], [1.0, 1.0], [SINCE, SINCE]]


def test_v2_single_feature() -> None:
    for name, shape in (("x", [2]), ("x", [2, 1]), ("anything", [2]), ("anything", [2, 1])):
        assert values(decode(v2(ONE), {"inputs": [tensor(name, shape, "FP64", [1, 2])]}).batch) == [
            [1.0, 2.0]
        ]


@pytest.mark.parametrize(
    "datatype", ["INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64"]
)
def test_v2_integers_for_floats(datatype: str) -> None:
    batch = decode(v2(NUMBERS), {"inputs": [tensor("t", [1, 2], datatype, [1, 100])]}).batch
    assert values(batch) == [[1.0], [100.0]]


def test_v2_narrow_floats_are_rounded_as_their_datatype_says() -> None:
    batch = decode(v2(NUMBERS), {"inputs": [tensor("t", [1, 2], "FP32", [0.1, 1 / 3])]}).batch
    assert values(batch) == [[float(np.float32(0.1))], [float(np.float32(1 / 3))]]
    batch = decode(v2(NUMBERS), {"inputs": [tensor("t", [1, 2], "FP16", [0.1, "Infinity"])]}).batch
    assert values(batch) == [[float(np.float16(0.1))], [math.inf]]


def test_v2_outputs_are_chosen_and_all_come_by_default() -> None:
    inputs = [tensor("t", [1, 2], "FP64", [1, 2])]
    assert decode(v2(NUMBERS), {"inputs": inputs}).outputs == ("predict", "predict_proba")
    assert decode(v2(NUMBERS), {"inputs": inputs, "outputs": []}).outputs == ("predict", "predict_proba")
    wanted = [{"name": "predict_proba", "parameters": {"binary_data": False}}]
    assert decode(v2(NUMBERS), {"inputs": inputs, "outputs": wanted}).outputs == ("predict_proba",)


def test_v2_response() -> None:
    call = decode(v2(NUMBERS), {"id": "7", "inputs": [tensor("t", [2, 2], "FP64", [1, 2, 3, 4])]})
    outputs = {
        "predict": np.array(["a", "b"], dtype=object),
        "predict_proba": np.array([[0.25, 0.75], [1.0, 0.0]]),
    }
    assert orjson.loads(call.render(outputs)) == {
        "model_name": "m",
        "model_version": "m-v1",
        "id": "7",
        "outputs": [
            {"name": "predict", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]},
            {"name": "predict_proba", "shape": [2, 2], "datatype": "FP64", "data": [0.25, 0.75, 1.0, 0.0]},
        ],
    }


def test_v2_datatypes_and_odd_numbers_of_outputs() -> None:
    call = decode(v2(ONE), {"inputs": [tensor("x", [3], "FP64", [1, 2, 3])]})
    found = orjson.loads(call.render({"predict": np.array([math.nan, math.inf, -math.inf])}))
    assert found["outputs"][0]["data"] == [None, "Infinity", "-Infinity"]
    assert "id" not in found
    for array, datatype in (
        (np.array([1, 2]), "INT64"),
        (np.array([True]), "BOOL"),
        (np.array(["x"]), "BYTES"),
        (np.array([1.5]), "FP64"),
    ):
        assert orjson.loads(call.render({"predict": array}))["outputs"][0]["datatype"] == datatype


# -- V2: what is refused ---------------------------------------------------------------------------


def with_tensor(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{**tensor("t", [1, 2], "FP64", [1, 2]), **changes}]}


def without(field: str) -> dict[str, Any]:
    item = tensor("t", [1, 2], "FP64", [1, 2])
    del item[field]
    return {"inputs": [item]}


V2_REFUSED = {
    "not JSON": (b"x", "the body is not valid JSON"),
    "a list": ([], "body: expected an object, got a list of 0"),
    "no inputs": ({}, "inputs: expected a list of at least one tensor, got null"),
    "empty inputs": ({"inputs": []}, "inputs: expected a list of at least one tensor, got a list of 0"),
    "inputs an object": ({"inputs": {}}, "inputs: expected a list of at least one tensor, got an object"),
    "tensor a number": ({"inputs": [1]}, "inputs[0]: expected an object, got 1"),
    "unknown field": ({"inputs": [], "instances": []}, 'body: unknown field "instances"'),
    "unknown tensor field": (with_tensor(dtype="x"), 'inputs[0]: unknown field "dtype"'),
    "id a number": ({**with_tensor(), "id": 5}, "id: expected a string, got 5"),
    "parameters a list": (
        {**with_tensor(), "parameters": []},
        "parameters: expected an object, got a list of 0",
    ),
    "parameter an object": (
        {**with_tensor(), "parameters": {"a": {}}},
        'parameters: "a" must be a string, a number or a boolean, got an object',
    ),
    "binary output": (
        {**with_tensor(), "parameters": {"binary_data_output": True}},
        "parameters: binary_data_output asks for binary tensors",
    ),
    "binary input": (
        with_tensor(parameters={"binary_data_size": 16}),
        "inputs[0].parameters: binary_data_size asks for binary tensors",
    ),
    "name missing": (without("name"), 'inputs[0]: the field "name" is missing'),
    "shape missing": (without("shape"), 'inputs[0]: the field "shape" is missing'),
    "datatype missing": (without("datatype"), 'inputs[0]: the field "datatype" is missing'),
    "data missing": (without("data"), 'inputs[0]: the field "data" is missing'),
    "name a number": (with_tensor(name=1), "inputs[0].name: expected a string, got 1"),
    "datatype unknown": (with_tensor(datatype="FLOAT"), "inputs[0](t).datatype: expected one of BOOL, INT8"),
    "datatype a list": (with_tensor(datatype=["FP64"]), "inputs[0](t).datatype: expected one of"),
    "shape a number": (with_tensor(shape=2), "inputs[0](t).shape: expected a list of one or two sizes"),
    "shape of strings": (
        with_tensor(shape=["1", 2]),
        "inputs[0](t).shape: expected a list of one or two sizes",
    ),
    "shape of booleans": (
        with_tensor(shape=[True, 2]),
        "inputs[0](t).shape: expected a list of one or two sizes",
    ),
    "shape negative": (with_tensor(shape=[-1, 2]), "inputs[0](t).shape: expected a list of one or two sizes"),
    "shape of three": (
        with_tensor(shape=[1, 2, 1]),
        "inputs[0](t).shape: expected a list of one or two sizes",
    ),
    "shape empty": (with_tensor(shape=[]), "inputs[0](t).shape: expected a list of one or two sizes"),
    "shape huge": (with_tensor(shape=[10**18, 10**18]), "inputs[0](t).data: the shape"),
    "data a string": (with_tensor(data="1,2"), 'inputs[0](t).data: expected a list, got "1,2"'),
    "data too short": (with_tensor(data=[1]), "inputs[0](t).data: the shape [1, 2] means 2 values, got 1"),
    "data too long": (
        with_tensor(data=[1, 2, 3]),
        "inputs[0](t).data: the shape [1, 2] means 2 values, got 3",
    ),
    "nested rows": (
        with_tensor(data=[[1, 2], [3, 4]]),
        "inputs[0](t).data: the shape [1, 2] means 1 rows, got 2",
    ),
    "nested columns": (with_tensor(data=[[1, 2, 3]]), "inputs[0](t).data[0]: expected a list of 2 values"),
    "nested mixture": (
        with_tensor(shape=[2, 2], data=[[1, 2], 3]),
        "inputs[0](t).data[1]: expected a list of 2 values, got 3",
    ),
    "nested too deep": (
        with_tensor(data=[[[1], [2]]]),
        "inputs[0](t).data[0]: expected FP64, got a list of 1",
    ),
    "string in FP64": (with_tensor(data=[1, "2"]), 'inputs[0](t).data[1]: expected FP64, got "2"'),
    "boolean in FP64": (with_tensor(data=[1, True]), "inputs[0](t).data[1]: expected FP64, got true"),
    "fraction in INT32": (
        with_tensor(datatype="INT32", data=[1, 2.5]),
        "inputs[0](t).data[1]: expected INT32, got 2.5",
    ),
    "overflow of UINT8": (
        with_tensor(datatype="UINT8", data=[1, 256]),
        "inputs[0](t).data[1]: expected UINT8, got 256",
    ),
    "negative in UINT64": (
        with_tensor(datatype="UINT64", data=[1, -1]),
        "inputs[0](t).data[1]: expected UINT64, got -1",
    ),
    "overflow of FP32": (
        with_tensor(datatype="FP32", data=[1, 1e39]),
        "inputs[0](t).data[1]: 1e+39 is too large for FP32",
    ),
    "number in BYTES": (
        with_tensor(datatype="BYTES", data=["a", 1]),
        "inputs[0](t).data[1]: expected BYTES, got 1",
    ),
    "number in BOOL": (
        with_tensor(datatype="BOOL", data=[True, 1]),
        "inputs[0](t).data[1]: expected BOOL, got 1",
    ),
    "BYTES for Float": (
        with_tensor(datatype="BYTES", data=["1", "2"]),
        'inputs[0](t).datatype: BYTES does not fit the feature "x" of type Float; use FP64',
    ),
    "rows of the wrong width": (
        with_tensor(shape=[1, 3], data=[1, 2, 3]),
        "inputs[0](t).shape: expected [n, 2] with n of at least 1, got [1, 3]",
    ),
    "a single list": (
        with_tensor(shape=[2]),
        "inputs[0](t).shape: expected [n, 2] with n of at least 1, got [2]",
    ),
    "no rows": (
        with_tensor(shape=[0, 2], data=[]),
        "inputs[0](t).shape: expected [n, 2] with n of at least 1",
    ),
    "missing value": (
        with_tensor(data=[None, 1]),
        "inputs[0](t).data[0][0] (x): expected Float, got null; this feature had no missing values in training",
    ),
    "only one column": (
        {"inputs": [tensor("x", [1], "FP64", [1])]},
        'inputs: the tensor for the feature "y" (Float) is missing',
    ),
    "a column twice": (
        {"inputs": [tensor("x", [1], "FP64", [1]), tensor("x", [1], "FP64", [1])]},
        'inputs[1](x): a second tensor with the name "x"',
    ),
    "an unknown column": (
        {"inputs": [tensor("x", [1], "FP64", [1]), tensor("why", [1], "FP64", [1])]},
        'inputs[1](why): no feature has the name "why".',
    ),
    "columns of two lengths": (
        {"inputs": [tensor("x", [1], "FP64", [1]), tensor("y", [2], "FP64", [1, 2])]},
        "inputs[1](y).shape: expected [1] or [1, 1], got [2]",
    ),
    "columns without rows": (
        {"inputs": [tensor("x", [0], "FP64", []), tensor("y", [0], "FP64", [])]},
        "inputs[0](x).shape: expected [n] or [n, 1], got [0]",
    ),
    "outputs an object": ({**with_tensor(), "outputs": {}}, "outputs: expected a list, got an object"),
    "output a string": (
        {**with_tensor(), "outputs": ["predict"]},
        'outputs[0]: expected an object, got "predict"',
    ),
    "output unknown": (
        {**with_tensor(), "outputs": [{"name": "proba"}]},
        'outputs[0].name: expected one of predict, predict_proba, got "proba"',
    ),
    "output a list": (
        {**with_tensor(), "outputs": [{"name": []}]},
        "outputs[0].name: expected one of predict",
    ),
    "output twice": (
        {**with_tensor(), "outputs": [{"name": "predict"}, {"name": "predict"}]},
        "outputs[1].name: predict is asked for twice",
    ),
    "output in binary": (
        {**with_tensor(), "outputs": [{"name": "predict", "parameters": {"binary_data": True}}]},
        "outputs[0].parameters: binary_data asks for binary tensors",
    ),
}


@pytest.mark.parametrize("case", V2_REFUSED)
def test_v2_refusals(case: str) -> None:
    value, message = V2_REFUSED[case]
    assert message in refusal(v2(NUMBERS), value)


def test_v2_matrix_of_numbers_does_not_fit_a_model_with_texts() -> None:
    message = refusal(v2(MIXED), {"inputs": [tensor("t", [1, 5], "FP64", [1, 2, 3, 4, 5])]})
    assert message == (
        'inputs[0](t).datatype: FP64 does not fit the feature "city" of type String; use BYTES, '
        "in a tensor of its own named after it"
    )


# -- depth and arbitrary input ---------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 31, 32, 33, 100])
def test_depth_limit(depth: int) -> None:
    for value in (nested(depth), [nested(depth - 1), "[[[[" * 50, '\\"[[[[' * 50, {"a]": ["}"] * 40}]):
        body = orjson.dumps(value)
        if depth <= 32:
            assert parse(body, 32) == value
        else:
            with pytest.raises(InputError, match="nests deeper than 32 levels"):
                parse(body, 32)


def test_hostile_depth_is_refused_by_the_parser() -> None:
    with pytest.raises(InputError, match="not valid JSON"):
        parse(b"[" * 500_000, 32)
    with pytest.raises(InputError, match="not valid JSON"):
        parse(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 32)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
likely = st.sampled_from(
    ["x", "y", "t", "age", "FP64", "INT8", "BYTES", "BOOL", "predict", 0, 1, 2, [1, 2], [2], None]
)
tensors = st.dictionaries(
    st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), likely | json_values, max_size=5
)
v2_bodies = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=3) | json_values},
    optional={"id": json_values, "parameters": json_values, "outputs": json_values},
)
v1_bodies = st.fixed_dictionaries(
    {"instances": json_values | st.lists(st.lists(likely | json_values, max_size=5))}
)


@given(json_values | v1_bodies | v2_bodies)
def test_arbitrary_json_is_decoded_or_refused(value: Any) -> None:
    body = orjson.dumps(value)
    for schema in (MIXED, NUMBERS, TEXTS, ONE):
        for codec in (v1(schema), v2(schema)):
            call = refused = None
            try:
                call = codec.decode(body)
            except InputError as error:
                refused = error
            if refused is not None:
                assert 10 < len(refused.message) < 2000
            if call is not None:
                assert {len(column) for column in call.batch.columns} == {call.batch.rows}


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(body: bytes) -> None:
    for codec in (v1(NUMBERS), v2(NUMBERS)):
        with pytest.raises(InputError):
            codec.decode(body)
