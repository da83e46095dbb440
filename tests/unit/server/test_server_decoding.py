"""Request bodies of both protocols: agreement with the schema's definition, size, depth, arbitrary input."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_bodies import (
    MIXED,
    NUMBERS,
    ONE,
    ROW,
    TEXTS,
    columns_of,
    decode,
    nested,
    refusal,
    tensor,
    v1,
    v2,
    values,
)

from solera_core.schema import Feature, Schema, Target, decode_rows
from solera_server.batch import InputError
from solera_server.json_input import parse
from solera_server.limits import Limits


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
        for found, wanted in zip(values(MIXED, call.batch), expected, strict=True):
            np.testing.assert_equal(found, wanted)


# -- size ------------------------------------------------------------------------------------------

WIDE = Schema(
    "Classification",
    Target("kind", "String", ("a", "b", "c", "d")),
    tuple(Feature(f"f{index}", "Float") for index in range(100)),
)
SIZES = [
    (Limits(rows=7), 7, "8 rows are too many for one request; the limit is 7 rows (--max-rows)."),
    (
        Limits(cells=350),
        3,
        "4 rows are too many for one request; the limit is 350 values (--max-cells), rows times the 100 features.",
    ),
    (
        Limits(scores=23),
        5,
        "6 rows are too many for one request; the limit is 23 scores (--max-scores), rows times the 4 classes.",
    ),
    (Limits(cells=99, scores=3), 1, "2 rows are too many for one request; the limit is"),
]


@pytest.mark.parametrize(("limits", "most", "message"), SIZES)
def test_requests_have_at_most_as_many_rows_as_the_limits_allow(
    limits: Limits, most: int, message: str
) -> None:
    split = f"Split the request into several of at most {most} rows"
    for rows, refused in ((most, False), (most + 1, True)):
        data = [[0.5] * 100] * rows
        columns = [tensor(feature.name, [rows], "FP64", [0.5] * rows) for feature in WIDE.features]
        for codec, body, place in (
            (v1(WIDE, limits), {"instances": data}, "instances: "),
            (v1(WIDE, limits), {"instances": [{}] * rows}, "instances: "),
            (v1(WIDE, limits), {"inputs": {"f0": [0.5] * rows}}, "inputs.f0: "),
            (v2(WIDE, limits), {"inputs": [tensor("t", [rows, 100], "FP64", data)]}, "inputs[0](t).shape: "),
            (v2(WIDE, limits), {"inputs": columns}, "inputs[0](f0).shape: "),
        ):
            if refused:
                found = refusal(codec, body, 413)
                assert found.startswith(place + message)
                assert found.endswith(split)
            else:
                assert decode(codec, body).batch.rows == rows


@pytest.mark.parametrize("shape", [[10**18, 10**18], [520_000, 1], [520_000], [1, 520_000]])
def test_a_shape_is_judged_before_its_data(shape: list[int]) -> None:
    message = refusal(v2(ONE), {"inputs": [tensor("t", shape, "FP64", ["not", "looked at"])]}, 413)
    assert "--max-rows" in message


def test_a_small_body_that_names_many_cells_costs_little() -> None:
    """A MiB of empty objects, each of a hundred missing values, took 40 seconds and 1.9 GB."""
    body = b'{"instances":[' + b"{}," * 349_000 + b"{}]}"
    tracemalloc.start()
    try:
        message = refusal(v1(WIDE), body, 413)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message.startswith("instances: 349001 rows")
    assert peak < 64 * 1024 * 1024, f"{peak} bytes beside those of the parser"


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
                call = codec.decode(body, {})
            except InputError as error:
                refused = error
            if refused is not None:
                assert 10 < len(refused.message) < 2000
            if call is not None:
                assert set(map(len, values(schema, call.batch))) == {call.batch.rows}
                assert call.batch.numbers.flags.c_contiguous


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(body: bytes) -> None:
    for codec in (v1(NUMBERS), v2(NUMBERS)):
        with pytest.raises(InputError):
            codec.decode(body, {})
