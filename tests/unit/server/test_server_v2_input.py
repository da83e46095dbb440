"""Bodies of V2: what is taken, and the message of everything that is not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest
from request_bodies import (
    MIXED,
    NUMBERS,
    ONE,
    ROW,
    SINCE,
    TEXTS,
    columns_of,
    decode,
    refusal,
    tensor,
    v2,
    values,
)


def test_v2_matrix_flat_and_nested() -> None:
    for data in ([1, 2.5, 3, None], [[1, 2.5], [3, None]]):
        batch = decode(v2(NUMBERS), {"inputs": [tensor("input-0", [2, 2], "FP64", data)]}).batch
        x, y = values(NUMBERS, batch)
        assert x == [1.0, 3.0]
        assert y[0] == 2.5
        assert math.isnan(y[1])


def test_v2_matrix_of_strings() -> None:
    batch = decode(v2(TEXTS), {"inputs": [tensor("t", [2, 2], "BYTES", ["a", "b", "c", "d"])]}).batch
    assert values(TEXTS, batch) == [["a", "c"], ["b", "d"]]


def test_v2_columns_in_any_order_and_of_two_shapes() -> None:
    inputs = columns_of([ROW, ROW])[::-1]
    inputs[0]["shape"] = [2, 1]
    batch = decode(v2(MIXED), {"inputs": inputs}).batch
    assert values(MIXED, batch) == [[39.5, 39.5], [3.0, 3.0], ["Porto", "Porto"], [1.0, 1.0], [SINCE, SINCE]]


def test_v2_single_feature() -> None:
    for name, shape in (("x", [2]), ("x", [2, 1]), ("anything", [2]), ("anything", [2, 1])):
        assert values(ONE, decode(v2(ONE), {"inputs": [tensor(name, shape, "FP64", [1, 2])]}).batch) == [
            [1.0, 2.0]
        ]


@pytest.mark.parametrize(
    "datatype", ["INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64"]
)
def test_v2_integers_for_floats(datatype: str) -> None:
    batch = decode(v2(NUMBERS), {"inputs": [tensor("t", [1, 2], datatype, [1, 100])]}).batch
    assert values(NUMBERS, batch) == [[1.0], [100.0]]


def test_v2_narrow_floats_are_rounded_as_their_datatype_says() -> None:
    batch = decode(v2(NUMBERS), {"inputs": [tensor("t", [1, 2], "FP32", [0.1, 1 / 3])]}).batch
    assert values(NUMBERS, batch) == [[float(np.float32(0.1))], [float(np.float32(1 / 3))]]
    batch = decode(v2(NUMBERS), {"inputs": [tensor("t", [1, 2], "FP16", [0.1, "Infinity"])]}).batch
    assert values(NUMBERS, batch) == [[float(np.float16(0.1))], [math.inf]]


def test_v2_outputs_are_chosen_and_all_come_by_default() -> None:
    inputs = [tensor("t", [1, 2], "FP64", [1, 2])]
    assert decode(v2(NUMBERS), {"inputs": inputs}).outputs == ("predict", "predict_proba")
    assert decode(v2(NUMBERS), {"inputs": inputs, "outputs": []}).outputs == ("predict", "predict_proba")
    wanted = [{"name": "predict_proba", "parameters": {"binary_data": False}}]
    assert decode(v2(NUMBERS), {"inputs": inputs, "outputs": wanted}).outputs == ("predict_proba",)


def test_v2_what_clients_add_is_taken() -> None:
    """KServe's repeats the model's name; Triton's wishes for binary outputs, and reads JSON as well."""
    body = {"model_name": "m", "parameters": {"binary_data_output": True}}
    inputs = [tensor("t", [1, 2], "FP64", [1, 2])]
    assert decode(v2(NUMBERS), {**body, "inputs": inputs}).outputs == ("predict", "predict_proba")
    wanted = [{"name": "predict", "parameters": {"binary_data": True}}]
    assert decode(v2(NUMBERS), {"inputs": inputs, "outputs": wanted}).outputs == ("predict",)


def test_v2_response() -> None:
    call = decode(v2(NUMBERS), {"id": "7", "inputs": [tensor("t", [2, 2], "FP64", [1, 2, 3, 4])]})
    outputs = {
        "predict": np.array(["a", "b"], dtype=object),
        "predict_proba": np.array([[0.25, 0.75], [1.0, 0.0]]),
    }
    assert orjson.loads(call.render(outputs).body) == {
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
    found = orjson.loads(call.render({"predict": np.array([math.nan, math.inf, -math.inf])}).body)
    assert found["outputs"][0]["data"] == [None, "Infinity", "-Infinity"]
    assert "id" not in found
    for array, datatype in (
        (np.array([1, 2]), "INT64"),
        (np.array([True]), "BOOL"),
        (np.array(["x"]), "BYTES"),
        (np.array([1.5]), "FP64"),
    ):
        assert orjson.loads(call.render({"predict": array}).body)["outputs"][0]["datatype"] == datatype


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
    "another model": (
        {**with_tensor(), "model_name": "n"},
        'model_name: expected "m", as in the URL, got "n"',
    ),
    "model a list": ({**with_tensor(), "model_name": []}, "model_name: expected"),
    "parameters a list": (
        {**with_tensor(), "parameters": []},
        "parameters: expected an object, got a list of 0",
    ),
    "parameter an object": (
        {**with_tensor(), "parameters": {"a": {}}},
        'parameters: "a" must be a string, a number or a boolean, got an object',
    ),
    "binary input": (
        with_tensor(parameters={"binary_data_size": 16}),
        "inputs[0].parameters.binary_data_size: the header Inference-Header-Content-Length is missing",
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
        with_tensor(shape=[1, "2"]),
        'inputs[0](t).shape[1]: expected a size, an integer of at least 0, got "2"',
    ),
    "shape of booleans": (
        with_tensor(shape=[True, 2]),
        "inputs[0](t).shape[0]: expected a size, an integer of at least 0, got true",
    ),
    "shape negative": (
        with_tensor(shape=[-1, 2]),
        "inputs[0](t).shape[0]: expected a size, an integer of at least 0, got -1",
    ),
    "shape of three": (
        with_tensor(shape=[1, 2, 1]),
        "inputs[0](t).shape: expected a list of one or two sizes such as [2, 4], got a list of 3",
    ),
    "shape empty": (with_tensor(shape=[]), "inputs[0](t).shape: expected a list of one or two sizes"),
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
        'inputs[1](why): no feature has the name "why". There are x, y',
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
