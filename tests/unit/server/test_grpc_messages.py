"""The messages of gRPC against the codec by itself: typed contents and raw ones, and every way to be wrong."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_bodies import LIMITS, MIXED, NUMBERS, ONE, SINCE, TEXTS, decode, tensor, v2

from solera_core.schema import Schema
from solera_server.batch import InputError, Layout
from solera_server.grpc_codec import GrpcCodec
from solera_server.limits import Limits
from solera_server.open_inference import open_inference_pb2 as pb

TWO = struct.pack("<2d", 1, 2)


def codec(schema: Schema, limits: Limits = LIMITS) -> GrpcCodec:
    outputs = ("predict", "predict_proba") if schema.target.classes else ("predict",)
    return GrpcCodec("m", "m-v1", schema, outputs, limits)


def typed(name: str, shape: list[int], datatype: str, **contents: Any) -> dict[str, Any]:
    return {
        "name": name,
        "shape": shape,
        "datatype": datatype,
        "contents": pb.InferTensorContents(**contents),
    }


def request(*inputs: dict[str, Any], **more: Any) -> bytes:
    message = pb.ModelInferRequest(**{"model_name": "m", **more})
    for one in inputs:
        message.inputs.add(**one)
    return message.SerializeToString()


def bare(name: str, shape: list[int], datatype: str) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype}


def refused(body: bytes, schema: Schema = NUMBERS, status: int = 400) -> str:
    with pytest.raises(InputError) as caught:
        codec(schema).decode(body, {})
    assert caught.value.status == status
    return caught.value.message


@pytest.mark.parametrize(
    ("datatype", "field"),
    [
        ("FP64", "fp64_contents"),
        ("FP32", "fp32_contents"),
        ("INT8", "int_contents"),
        ("INT16", "int_contents"),
        ("INT32", "int_contents"),
        ("INT64", "int64_contents"),
        ("UINT8", "uint_contents"),
        ("UINT16", "uint_contents"),
        ("UINT32", "uint_contents"),
        ("UINT64", "uint64_contents"),
    ],
)
def test_typed_numbers_are_what_json_makes_of_them(datatype: str, field: str) -> None:
    call = codec(ONE).decode(request(typed("x", [3], datatype, **{field: [0, 7, 127]})), {})
    text = decode(v2(ONE), {"inputs": [tensor("x", [3], datatype, [0, 7, 127])]})
    np.testing.assert_array_equal(call.batch.numbers, text.batch.numbers)


def test_mixed_types_by_typed_contents() -> None:
    since = "2026-03-01T12:00:00Z"
    body = request(
        typed("age", [2], "FP64", fp64_contents=[39.5, float("nan")]),
        typed("visits", [2], "INT64", int64_contents=[3, 4]),
        typed("city", [2, 1], "BYTES", bytes_contents=["Málaga".encode(), b""]),
        typed("member", [2], "BOOL", bool_contents=[True, False]),
        typed("since", [2], "BYTES", bytes_contents=[since.encode()] * 2),
    )
    batch = codec(MIXED).decode(body, {}).batch
    np.testing.assert_array_equal(batch.numbers[:, 0], [39.5, np.nan])
    assert batch.numbers[:, 1:].tolist() == [[3, 1, SINCE], [4, 0, SINCE]]
    assert batch.texts[0] == ["Málaga", ""]


def test_a_matrix_by_raw_contents() -> None:
    body = request(bare("anything", [1, 2], "FP64"), raw_input_contents=[TWO])
    assert codec(NUMBERS).decode(body, {}).batch.numbers.tolist() == [[1, 2]]


@given(st.lists(st.text(), min_size=2, max_size=2))
def test_texts_by_either_way(words: list[str]) -> None:
    elements = [word.encode() for word in words]
    raw = b"".join(struct.pack("<I", len(element)) + element for element in elements)
    for body in (
        request(typed("t", [1, 2], "BYTES", bytes_contents=elements)),
        request(bare("t", [1, 2], "BYTES"), raw_input_contents=[raw]),
    ):
        assert [column[0] for column in codec(TEXTS).decode(body, {}).batch.texts] == words


GOOD = typed("t", [1, 2], "FP64", fp64_contents=[1, 2])
REFUSED: dict[str, tuple[bytes, str]] = {
    "no message": (b"\xff\xff\xff", "the message is not a valid inference.ModelInferRequest"),
    "no inputs": (request(), "inputs: expected at least one tensor"),
    "raw for some only": (
        request(bare("t", [1, 2], "FP64"), raw_input_contents=[TWO, TWO]),
        "raw_input_contents: expected one for each of the 1 inputs, got 2",
    ),
    "raw and typed": (
        request(GOOD, raw_input_contents=[TWO]),
        "inputs[0](t): has both contents and raw_input_contents",
    ),
    "raw of another size": (
        request(bare("t", [1, 2], "FP64"), raw_input_contents=[TWO[:-1]]),
        "inputs[0](t): the shape [1, 2] of FP64 means 16 bytes, got 15",
    ),
    "typed of another size": (
        request(typed("t", [1, 2], "FP64", fp64_contents=[1])),
        "inputs[0](t).contents.fp64_contents: the shape [1, 2] means 2 values, got 1",
    ),
    "no contents": (request(bare("t", [1, 2], "FP64")), "means 2 values, got 0"),
    "typed in another field": (
        request(typed("t", [1, 2], "FP64", fp32_contents=[1, 2])),
        "inputs[0](t).contents: FP64 stands in fp64_contents, got fp32_contents",
    ),
    "typed in two fields": (
        request(typed("t", [1, 2], "FP64", fp64_contents=[1, 2], int_contents=[1])),
        "got int_contents",
    ),
    "typed FP16": (request(typed("t", [1, 2], "FP16")), "has no place for FP16; send raw_input_contents"),
    "out of range": (
        request(typed("t", [1, 2], "INT8", int_contents=[1, 128])),
        "inputs[0](t).data[1]: expected INT8, got 128",
    ),
    "no text": (
        request(typed("t", [1, 2], "BYTES", bytes_contents=[b"\xff", b""])),
        "expected a text in UTF-8",
    ),
    "odd datatype": (request(bare("t", [1, 2], "FLOAT")), "inputs[0](t).datatype: expected one of BOOL"),
    "negative shape": (
        request(bare("t", [-1, 2], "FP64")),
        "inputs[0](t).shape[0]: expected a size, an integer of at least 0, got -1",
    ),
    "no shape": (request(bare("t", [], "FP64")), "inputs[0](t).shape: expected a list of one or two"),
    "wrong width": (request(typed("t", [1, 1], "FP64", fp64_contents=[1])), "expected [n, 2]"),
    "missing": (
        request(typed("t", [1, 2], "FP64", fp64_contents=[float("nan"), 2])),
        "inputs[0](t).data[0][0] (x): expected Float, got null; this feature had no missing values in training",
    ),
    "unknown output": (
        request(GOOD, outputs=[{"name": "nope"}]),
        'outputs[0].name: expected one of predict, predict_proba, got "nope"',
    ),
    "an output twice": (
        request(GOOD, outputs=[{"name": "predict"}] * 2),
        "outputs[1].name: predict is asked for twice",
    ),
    "classification": (
        request(GOOD, outputs=[{"name": "predict", "parameters": {"classification": {"int64_param": 2}}}]),
        "outputs[0].parameters: classification belongs to an extension that is not offered",
    ),
    "shared memory": (
        request({**GOOD, "parameters": {"shared_memory_region": {"string_param": "r"}}}),
        "inputs[0](t).parameters: shared_memory_region belongs",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    body, message = REFUSED[case]
    assert message in refused(body)


def test_another_model_or_version_is_not_found() -> None:
    assert 'no model "other"' in refused(request(GOOD, model_name="other"), status=404)
    assert 'no version "v9"' in refused(request(GOOD, model_version="v9"), status=404)
    assert codec(NUMBERS).decode(request(GOOD, model_version="m-v1"), {}).batch.rows == 1


def test_too_many_rows() -> None:
    body = request(bare("t", [10**9, 2], "FP64"), raw_input_contents=[b""])
    assert "too many for one request" in refused(body, status=413)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_an_input_error(body: bytes) -> None:
    try:
        codec(NUMBERS).decode(body, {})
    except InputError as error:
        assert error.message  # noqa: PT017 - either end is right


@given(st.data())
def test_no_message_raises_anything_but_an_input_error(data: st.DataObject) -> None:
    message = pb.ModelInferRequest(model_name="m")
    for _ in range(data.draw(st.integers(0, 3))):
        item = message.inputs.add(
            name=data.draw(st.sampled_from(["x", "y", "t", ""])),
            datatype=data.draw(st.sampled_from(["FP64", "BYTES", "INT8", "BF16", "", "nope"])),
            shape=data.draw(st.lists(st.integers(-1, 3), max_size=3)),
        )
        if data.draw(st.booleans()):
            item.contents.fp64_contents.extend(data.draw(st.lists(st.floats(), max_size=6)))
    message.raw_input_contents.extend(data.draw(st.lists(st.binary(max_size=24), max_size=3)))
    try:
        call = codec(NUMBERS).decode(message.SerializeToString(), {})
    except InputError as error:
        assert error.message  # noqa: PT017 - either end is right
    else:
        assert len(Layout(NUMBERS.features).columns(call.batch)) == 2


# -- outputs ---------------------------------------------------------------------------------------

OUTPUTS = {
    "predict": np.array(["a", "bé"], dtype=object),
    "predict_proba": np.array([[0.25, 0.75], [1.0, 0.0]]),
}


def test_outputs_as_typed_contents() -> None:
    response = codec(NUMBERS).decode(request(GOOD, id="7"), {}).render(OUTPUTS)
    found = pb.ModelInferResponse.FromString(response.body)
    assert (found.model_name, found.model_version, found.id) == ("m", "m-v1", "7")
    labels, scores = found.outputs
    assert (labels.name, labels.datatype, list(labels.shape)) == ("predict", "BYTES", [2])
    assert list(labels.contents.bytes_contents) == [b"a", "bé".encode()]
    assert (scores.datatype, list(scores.shape)) == ("FP64", [2, 2])
    assert list(scores.contents.fp64_contents) == [0.25, 0.75, 1.0, 0.0]
    assert scores.parameters["classes"].string_param == '["a","b"]'
    assert not found.raw_output_contents


def test_outputs_as_bytes_where_the_inputs_were() -> None:
    body = request(
        bare("t", [1, 2], "FP64"),
        raw_input_contents=[TWO],
        outputs=[{"name": "predict_proba"}, {"name": "predict"}],
    )
    found = pb.ModelInferResponse.FromString(codec(NUMBERS).decode(body, {}).render(OUTPUTS).body)
    assert [output.name for output in found.outputs] == ["predict_proba", "predict"]
    assert np.frombuffer(found.raw_output_contents[0]).tolist() == [0.25, 0.75, 1.0, 0.0]
    assert found.raw_output_contents[1] == b"\x01\0\0\0a\x03\0\0\0" + "bé".encode()
    assert not any(output.HasField("contents") for output in found.outputs)


@pytest.mark.parametrize(
    ("array", "datatype", "field", "values"),
    [
        (np.array([True, False]), "BOOL", "bool_contents", [True, False]),
        (np.array([1, -2], dtype=np.int32), "INT64", "int64_contents", [1, -2]),
        (np.array([1.5, -2], dtype=np.float32), "FP64", "fp64_contents", [1.5, -2]),
    ],
)
def test_every_kind_of_label(array: Any, datatype: str, field: str, values: list[Any]) -> None:
    call = codec(ONE).decode(request(typed("x", [1], "FP64", fp64_contents=[1])), {})
    [output] = pb.ModelInferResponse.FromString(call.render({"predict": array}).body).outputs
    assert (output.datatype, list(getattr(output.contents, field))) == (datatype, values)
