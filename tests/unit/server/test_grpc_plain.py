"""Requests of gRPC that are not parsed again are read as the careful way reads them, to the bit and in words."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_bodies import LIMITS, outputs_of

from solera_core.schema import Feature, Schema, Target
from solera_server.batch import InputError
from solera_server.grpc_codec import GrpcCodec
from solera_server.open_inference import open_inference_pb2 as pb

if TYPE_CHECKING:
    from solera_server.codec import Call


def schema_of(*types: str, nullable: bool) -> Schema:
    features = tuple(Feature(name, kind, nullable=nullable) for name, kind in zip("xyz", types, strict=True))
    return Schema("Classification", Target("t", "String", ("a", "b")), features)


LOOSE = schema_of("Float", "Float", "Float", nullable=True)
STRICT = schema_of("Float", "Float", "Float", nullable=False)
ANY_FLOAT = st.floats(width=64)


def codec(schema: Schema) -> GrpcCodec:
    return GrpcCodec("m", "m-v1", schema, outputs_of(schema), LIMITS)


def request(values: list[float], **more: Any) -> bytes:
    numbers = struct.pack(f"<{len(values)}d", *values)
    message = pb.ModelInferRequest(**{"model_name": "m", "raw_input_contents": [numbers], **more})
    message.inputs.add(name="t", shape=[len(values) // 3, 3], datatype="FP64")
    return message.SerializeToString()


def outcome(of: GrpcCodec, body: bytes) -> Any:
    try:
        call = of.decode(body, {})
    except InputError as error:
        return error.status, error.message
    batch = call.batch
    return batch.rows, batch.numbers.tobytes(), batch.texts, call.outputs, batch.where(0, 1)


def known(of: GrpcCodec) -> int:
    return len(of._plain._by_length)


@pytest.mark.parametrize("schema", [LOOSE, STRICT])
@given(first=st.lists(ANY_FLOAT, min_size=6, max_size=6), second=st.lists(ANY_FLOAT, min_size=6, max_size=6))
def test_the_second_request_is_read_as_the_first(
    schema: Schema, first: list[float], second: list[float]
) -> None:
    one = codec(schema)
    outcome(one, request(first))
    assert outcome(one, request(second)) == outcome(codec(schema), request(second))


def test_a_request_is_known_by_what_stands_before_its_numbers() -> None:
    one = codec(STRICT)
    row = [1.0, 2.0, 3.0]
    for body in (request(row), request([4.0, 5.0, 6.0])):
        one.decode(body, {})
    assert known(one) == 1
    one.decode(request(row * 2), {})
    assert known(one) == 2
    named = request(row, outputs=[{"name": "predict"}])
    assert one.decode(named, {}).outputs == ("predict",)
    assert one.decode(named, {}).outputs == ("predict",)
    assert one.decode(request(row), {}).outputs == ("predict", "predict_proba")
    with pytest.raises(InputError, match="no model"):
        one.decode(request(row, model_name="n"), {})


def test_what_is_not_plain_is_not_kept() -> None:
    of_integers = codec(schema_of("Float", "Float", "Integer", nullable=True))
    of_integers.decode(request([1.0] * 3), {})
    one = codec(STRICT)
    one.decode(request([1.0] * 3, id="7"), {})
    typed = pb.ModelInferRequest(model_name="m")
    typed.inputs.add(name="t", shape=[1, 3], datatype="FP64").contents.fp64_contents.extend([1, 2, 3])
    one.decode(typed.SerializeToString(), {})
    one.decode(request([1.0] * 30_000), {})
    assert known(one) == known(of_integers) == 0


def test_numbers_that_are_not_at_the_end_are_not_mistaken() -> None:
    row, other = struct.pack("<3d", 1, 2, 3), struct.pack("<3d", 4, 5, 6)
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="t", shape=[1, 3], datatype="FP64")
    rest = message.SerializeToString()
    numbers = b"\x3a\x18" + row
    # An unknown field (15) at the end that looks like the numbers.
    decoy = b"\x7a\x1a\x3a\x18"
    for before, after in ((numbers, rest), (numbers + rest, decoy)):
        one = codec(STRICT)
        tail = row if after == decoy else b""
        assert outcome(one, before + after + tail)[1] == row
        assert known(one) == 0
        if tail:
            assert outcome(one, before + after + other)[1] == row


def test_kept_requests_are_bounded() -> None:
    one = codec(STRICT)
    for rows in range(1, 600):
        one.decode(request([1.0] * 3 * rows), {})
    assert 0 < known(one) <= 256


# -- answers ---------------------------------------------------------------------------------------


def answered(call: Call, outputs: dict[str, Any]) -> pb.ModelInferResponse:
    return pb.ModelInferResponse.FromString(call.render(outputs).body)


@given(
    labels=st.lists(st.text(max_size=200), min_size=1, max_size=20),
    request_id=st.text(max_size=300),
    again=st.integers(1, 2),
)
def test_answers_put_together_are_the_messages(labels: list[str], request_id: str, again: int) -> None:
    one = codec(STRICT)
    outputs = {"predict": np.array(labels, dtype=object), "predict_proba": np.full((len(labels), 2), 0.5)}
    for _ in range(again):
        found = answered(one.decode(request([1.0] * 3, id=request_id), {}), outputs)
    expected = pb.ModelInferResponse(model_name="m", model_version="m-v1", id=request_id)
    expected.outputs.add(name="predict", shape=[len(labels)], datatype="BYTES")
    scores = expected.outputs.add(name="predict_proba", shape=[len(labels), 2], datatype="FP64")
    scores.parameters["classes"].string_param = '["a","b"]'
    elements = [label.encode() for label in labels]
    expected.raw_output_contents.extend(
        [
            b"".join(struct.pack("<I", len(element)) + element for element in elements),
            outputs["predict_proba"].tobytes(),
        ]
    )
    assert found == expected
