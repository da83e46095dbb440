"""Binary tensors behind the JSON of a V2 request, and before them: every datatype, every way to be wrong."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import Served
from request_bodies import MIXED, NUMBERS, ONE, SINCE, TEXTS, decode, tensor, v2

from solera_core.schema import Feature, Schema, Target
from solera_server import binary_tensors
from solera_server.batch import Batch, InputError, Layout
from solera_server.limits import Limits

if TYPE_CHECKING:
    from solera_server.codec import Call
    from solera_server.message import Response
    from solera_server.v2 import V2Codec

LENGTH = b"inference-header-content-length"
INTEGER = Schema("Regression", Target("z", "Float"), (Feature("n", "Integer"),))


def texts(*elements: str | bytes) -> bytes:
    raw = [element.encode() if isinstance(element, str) else element for element in elements]
    return b"".join(struct.pack("<I", len(element)) + element for element in raw)


def binary(name: str, shape: list[int], datatype: str, raw: bytes) -> tuple[dict[str, Any], bytes]:
    head = {"name": name, "shape": shape, "datatype": datatype}
    return {**head, "parameters": {"binary_data_size": len(raw)}}, raw


def body(*inputs: tuple[dict[str, Any], bytes], **more: Any) -> tuple[bytes, dict[bytes, bytes]]:
    text = orjson.dumps({"inputs": [head for head, _ in inputs], **more})
    return text + b"".join(raw for _, raw in inputs), {LENGTH: str(len(text)).encode()}


def call_of(codec: V2Codec, *inputs: tuple[dict[str, Any], bytes], **more: Any) -> Call:
    return codec.decode(*body(*inputs, **more))


def refused(codec: V2Codec, data: bytes, headers: dict[bytes, bytes], status: int = 400) -> str:
    with pytest.raises(InputError) as caught:
        codec.decode(data, headers)
    assert caught.value.status == status
    return caught.value.message


def same(one: Batch, other: Batch) -> None:
    np.testing.assert_array_equal(one.numbers, other.numbers)
    assert [list(map(str, column)) for column in one.texts] == [
        list(map(str, column)) for column in other.texts
    ]


# -- inputs ----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(allow_nan=False), st.floats()), min_size=1, max_size=20))
def test_a_matrix_of_fp64_is_what_numpy_wrote(rows: list[tuple[float, float]]) -> None:
    array = np.array(rows)
    call = call_of(v2(NUMBERS), binary("x", [len(rows), 2], "FP64", array.tobytes()))
    np.testing.assert_array_equal(call.batch.numbers, array)
    assert call.batch.numbers.flags.aligned
    assert call.batch.numbers.flags.c_contiguous


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [
        (f"{sign}INT{bits}", f"<{kind}{bits // 8}")
        for sign, kind in (("", "i"), ("U", "u"))
        for bits in (8, 16, 32, 64)
    ]
    + [("FP16", "<f2"), ("FP32", "<f4"), ("FP64", "<f8")],
)
@pytest.mark.parametrize("schema", [ONE, INTEGER], ids=["Float", "Integer"])
def test_numbers_of_every_datatype_mean_what_they_mean_in_json(
    datatype: str, dtype: str, schema: Schema
) -> None:
    array = np.array([0, 1, 7, 100, 127], dtype=dtype)
    name = schema.features[0].name
    raw = call_of(v2(schema), binary(name, [5], datatype, array.tobytes()))
    text = decode(v2(schema), {"inputs": [tensor(name, [5], datatype, array.tolist())]})
    same(raw.batch, text.batch)


def test_bf16_is_the_upper_half_of_a_float32() -> None:
    raw = struct.pack("<4H", 0x3F80, 0xC2F7, 0x7F80, 0x7FC0)
    found = call_of(v2(ONE), binary("x", [4], "BF16", raw)).batch.numbers.ravel()
    np.testing.assert_array_equal(found, [1.0, -123.5, math.inf, math.nan])


def test_mixed_types_each_in_a_tensor_of_its_own_some_as_bytes() -> None:
    since = "2026-03-01T12:00:00Z"
    inputs = [
        binary("age", [2], "FP64", struct.pack("<2d", 39.5, math.nan)),
        binary("member", [2, 1], "BOOL", b"\x01\x00"),
        (tensor("visits", [2], "INT64", [3, 4]), b""),
        binary("since", [2], "BYTES", texts(since, "2026-03-01")),
        binary("city", [2], "BYTES", texts("Málaga", "")),
    ]
    batch = call_of(v2(MIXED), *inputs).batch
    np.testing.assert_array_equal(batch.numbers[:, 0], [39.5, math.nan])
    assert batch.numbers[:, 1:].tolist() == [[3, 1, SINCE], [4, 0, SINCE - 12 * 3600]]
    assert batch.texts == (["Málaga", ""],)


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=20))
def test_texts_come_as_they_were(rows: list[tuple[str, str]]) -> None:
    raw = texts(*(element for row in rows for element in row))
    found = call_of(v2(TEXTS), binary("t", [len(rows), 2], "BYTES", raw)).batch.texts
    assert list(zip(*found, strict=True)) == rows


def test_nan_is_missing_in_a_number_that_may_be_and_refused_in_one_that_may_not() -> None:
    found = call_of(v2(NUMBERS), binary("m", [1, 2], "FP32", struct.pack("<2f", 1.5, math.nan))).batch
    np.testing.assert_array_equal(found.numbers, [[1.5, math.nan]])
    data = body(binary("m", [2, 2], "FP64", struct.pack("<4d", 1.5, 2, math.nan, 2)))
    assert refused(v2(NUMBERS), *data) == (
        "inputs[0](m).data[1][0] (x): expected Float, got null; this feature had no missing values in training"
    )


@pytest.mark.parametrize(
    ("datatype", "raw", "message"),
    [
        (
            "FP64",
            struct.pack("<d", 1.5),
            "inputs[0](n).data[0]: expected Integer, got 1.5",
        ),
        ("FP32", struct.pack("<f", math.inf), "expected Integer"),
        ("INT64", struct.pack("<q", 2**53 + 1), "takes integers from -9007199254740992 to 9007199254740992"),
        ("INT64", struct.pack("<q", -(2**63)), "takes integers from"),
        ("UINT64", struct.pack("<Q", 2**64 - 1), "takes integers from"),
        (
            "BOOL",
            b"\x01",
            'inputs[0](n).datatype: BOOL does not fit the feature "n" of type Integer; use INT64',
        ),
        ("BYTES", texts("1"), "inputs[0](n).datatype: BYTES does not fit"),
    ],
)
def test_values_that_do_not_fit_the_feature(datatype: str, raw: bytes, message: str) -> None:
    assert message in refused(v2(INTEGER), *body(binary("n", [1], datatype, raw)))


def with_size(size: Any, raw: bytes = b"\0" * 16) -> tuple[bytes, dict[bytes, bytes]]:
    head = {"name": "m", "shape": [1, 2], "datatype": "FP64", "parameters": {"binary_data_size": size}}
    return body((head, raw))


TWO = struct.pack("<2d", 1, 2)
MALFORMED: dict[str, tuple[tuple[bytes, dict[bytes, bytes]], str]] = {
    "too few bytes in the body": (
        with_size(32),
        "inputs[0].parameters.binary_data_size: 32 bytes are announced, and 16 are left",
    ),
    "more bytes than announced": (
        (body(binary("m", [1, 2], "FP64", TWO))[0] + b"x", body(binary("m", [1, 2], "FP64", TWO))[1]),
        "the body has 1 bytes more",
    ),
    "a size that the shape does not mean": (
        body(binary("m", [2, 2], "FP64", TWO)),
        "inputs[0](m): the shape [2, 2] of FP64 means 32 bytes, got 16",
    ),
    "a size that no element has": (with_size(15, TWO[:15]), "means 16 bytes, got 15"),
    "a negative size": (
        with_size(-1),
        "inputs[0].parameters.binary_data_size: expected a number of bytes, got -1",
    ),
    "a huge size": (with_size(2**63), "9223372036854775808 bytes are announced"),
    "a size that is a text": (with_size("16"), 'expected a number of bytes, got "16"'),
    "a size that is true": (with_size(True), "expected a number of bytes, got true"),
    "data twice": (
        body(({**tensor("m", [1, 2], "FP64", [1, 2]), "parameters": {"binary_data_size": 16}}, TWO)),
        "inputs[0]: has both data and binary_data_size",
    ),
    "a datatype that nobody knows": (
        body(binary("m", [1, 2], "FP8", b"ab")),
        "inputs[0](m).datatype: expected one of BOOL, INT8",
    ),
    "BF16 in JSON": (
        body((tensor("m", [1, 2], "BF16", [1, 2]), b"")),
        "inputs[0](m).datatype: expected one of BOOL",
    ),
    "a boolean of 2": (
        body(binary("m", [1, 2], "BOOL", b"\x01\x02")),
        "inputs[0](m).data[1]: expected BOOL, a byte of 0 or 1, got 2",
    ),
    "the JSON longer than the body": (
        (b'{"inputs": []}', {LENGTH: b"99"}),
        'Inference-Header-Content-Length: expected the bytes of the JSON at the beginning of the body of 14 bytes, got "99"',
    ),
    "a length that is no number": ((b"{}", {LENGTH: b"-2"}), 'of 2 bytes, got "-2"'),
    "a length in other digits": ((b"{}", {LENGTH: "²".encode("latin-1")}), "of 2 bytes, got"),
    "a length of many digits": ((b"{}", {LENGTH: b"0" * 500}), "of 2 bytes, got"),
    "no JSON at all": ((TWO, {LENGTH: b"0"}), "the body is empty"),
    "the JSON cut short": ((b'{"inputs": []}', {LENGTH: b"13"}), "the body is not valid JSON"),
    "shared memory": (
        body((tensor("m", [1, 2], "FP64", [1, 2]) | {"parameters": {"shared_memory_region": "r"}}, b"")),
        "inputs[0].parameters: shared_memory_region belongs to an extension that is not offered",
    ),
    "classification": (
        body(
            binary("m", [1, 2], "FP64", TWO),
            outputs=[{"name": "predict", "parameters": {"classification": 2}}],
        ),
        "outputs[0].parameters: classification belongs to an extension",
    ),
    "a wish that is no boolean": (
        body(
            binary("m", [1, 2], "FP64", TWO), outputs=[{"name": "predict", "parameters": {"binary_data": 1}}]
        ),
        "outputs[0].parameters.binary_data: expected true or false, got 1",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_does_not_add_up_is_refused(case: str) -> None:
    (data, headers), message = MALFORMED[case]
    assert message in refused(v2(NUMBERS), data, headers)


@pytest.mark.parametrize(
    "raw",
    [
        texts("a"),
        texts("a", "b", "c"),
        texts("a", "b") + b"\0",
        texts("a", "b")[:-1],
        b"\xff\xff\xff\xff" * 2,
        b"",
    ],
)
def test_elements_of_bytes_must_fill_the_bytes(raw: bytes) -> None:
    message = refused(v2(TEXTS), *body(binary("t", [1, 2], "BYTES", raw)))
    assert f"fill {len(raw)} bytes; they do not" in message


def test_texts_must_be_utf8() -> None:
    data = body(binary("t", [1, 2], "BYTES", texts("ok", b"\xff")))
    assert refused(v2(TEXTS), *data) == "inputs[0](t).data[1]: expected a text in UTF-8"


def test_limits_hold_before_anything_is_read() -> None:
    codec = v2(NUMBERS, Limits(rows=2))
    data = body(binary("m", [3, 2], "FP64", b""))
    assert "inputs[0](m).shape: 3 rows are too many" in refused(codec, *data, status=413)


@given(st.data())
def test_no_bytes_raise_anything_but_an_input_error(data: st.DataObject) -> None:
    datatype = data.draw(st.sampled_from(binary_tensors.DATATYPES))
    raw = data.draw(st.binary(max_size=40))
    shape = [data.draw(st.integers(0, 6)), 2]
    schema = TEXTS if datatype == "BYTES" else NUMBERS
    try:
        call = call_of(v2(schema), binary("m", shape, datatype, raw))
    except InputError as error:
        assert error.message  # noqa: PT017 - either end is right
    else:
        assert call.batch.rows == shape[0]
        assert Layout(schema.features).columns(call.batch)


# -- outputs ---------------------------------------------------------------------------------------

OUTPUTS = {
    "predict": np.array(["a", "bé"], dtype=object),
    "predict_proba": np.array([[0.25, 0.75], [1.0, math.nan]]),
}


def split(response: Response) -> tuple[dict[str, Any], bytes]:
    headers = dict(response.headers)
    length = int(headers[LENGTH])
    return orjson.loads(response.body[:length]), response.body[length:]


def test_all_outputs_as_bytes() -> None:
    call = call_of(
        v2(NUMBERS), binary("m", [1, 2], "FP64", TWO), id="7", parameters={"binary_data_output": True}
    )
    response = call.render(OUTPUTS)
    assert response.content_type == b"application/octet-stream"
    head, raw = split(response)
    labels, scores = texts("a", "bé"), OUTPUTS["predict_proba"].astype("<f8").tobytes()
    assert head == {
        "model_name": "m",
        "model_version": "m-v1",
        "id": "7",
        "outputs": [
            {
                "name": "predict",
                "shape": [2],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": len(labels)},
            },
            {
                "name": "predict_proba",
                "shape": [2, 2],
                "datatype": "FP64",
                "parameters": {"binary_data_size": 32},
            },
        ],
    }
    assert raw == labels + scores


def test_one_output_as_bytes_and_one_in_json_whatever_the_default() -> None:
    wanted = [{"name": "predict_proba"}, {"name": "predict", "parameters": {"binary_data": False}}]
    inputs = binary("m", [1, 2], "FP64", TWO)
    call = call_of(v2(NUMBERS), inputs, outputs=wanted, parameters={"binary_data_output": True})
    head, raw = split(call.render(OUTPUTS))
    assert [output["name"] for output in head["outputs"]] == ["predict_proba", "predict"]
    assert head["outputs"][1]["data"] == ["a", "bé"]
    np.testing.assert_array_equal(np.frombuffer(raw), [0.25, 0.75, 1.0, math.nan])


def test_json_inputs_and_binary_outputs_and_the_other_way_round() -> None:
    text = {
        "inputs": [tensor("m", [1, 2], "FP64", [1, 2])],
        "outputs": [{"name": "predict", "parameters": {"binary_data": True}}],
    }
    head, raw = split(decode(v2(NUMBERS), text).render(OUTPUTS))
    assert (head["outputs"][0]["datatype"], raw) == ("BYTES", texts("a", "bé"))
    response = call_of(v2(NUMBERS), binary("m", [1, 2], "FP64", TWO)).render(OUTPUTS)
    assert (response.content_type, response.headers) == (b"application/json", ())
    assert orjson.loads(response.body)["outputs"][1]["data"] == [0.25, 0.75, 1.0, None]


@pytest.mark.parametrize(
    ("array", "raw"),
    [
        (np.array([True, False]), b"\x01\x00"),
        (np.array([True, False], dtype=object), texts("True", "False")),
        (np.array([1, -2], dtype=np.int32), struct.pack("<2q", 1, -2)),
        (np.array([1.5, -2], dtype=np.float32), struct.pack("<2d", 1.5, -2)),
        (np.array(["x", "yy"]), texts("x", "yy")),
    ],
)
def test_outputs_have_the_bytes_of_the_datatype_that_they_name(array: Any, raw: bytes) -> None:
    assert binary_tensors.write(array) == raw


# -- over a socket ---------------------------------------------------------------------------------


async def test_a_real_request_with_bytes_both_ways(iris_server: Served) -> None:
    rows = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 5.6, 2.4]])
    data, headers = body(binary("x", [2, 4], "FP64", rows.tobytes()), parameters={"binary_data_output": True})
    async with httpx.AsyncClient(base_url=iris_server.url) as client:
        assert (await client.get("/v2")).json()["extensions"] == ["binary_tensor_data"]
        sent = {
            "content-type": "application/octet-stream",
            "Inference-Header-Content-Length": headers[LENGTH].decode(),
        }
        answer = await client.post("/v2/models/iris/infer", content=data, headers=sent)
        assert answer.status_code == 200
        length = int(answer.headers["inference-header-content-length"])
        assert orjson.loads(answer.content[:length])["outputs"][0]["datatype"] == "BYTES"
        labels = texts("setosa", "virginica")
        assert answer.content[length : length + len(labels)] == labels
        text = await client.post(
            "/v2/models/iris/infer",
            json={"inputs": [tensor("x", [2, 4], "FP64", rows.ravel().tolist())]},
        )
        proba = text.json()["outputs"][1]["data"]
        assert np.frombuffer(answer.content[length + len(labels) :]).tolist() == proba

        wrong = await client.post("/v1/models/iris:predict", content=data, headers=sent)
        assert (wrong.status_code, "belong to V2" in wrong.json()["error"]) == (415, True)
        del sent["Inference-Header-Content-Length"]
        bare = await client.post("/v2/models/iris/infer", content=data, headers=sent)
        assert (bare.status_code, "Inference-Header-Content-Length" in bare.json()["error"]) == (415, True)


@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
def test_nan_written_as_a_text_is_missing_as_well(datatype: str) -> None:
    codec = v2(NUMBERS)
    found = decode(codec, {"inputs": [tensor("t", [1, 2], datatype, [1, "NaN"])]}).batch
    np.testing.assert_array_equal(found.numbers, [[1.0, math.nan]])
    wrong = orjson.dumps({"inputs": [tensor("t", [1, 2], datatype, ["NaN", 1])]})
    assert '(x): expected Float, got "NaN"; this feature had no missing values' in refused(codec, wrong, {})
