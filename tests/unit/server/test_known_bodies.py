"""Bodies that were read before: the same calls and the same messages as of a codec that knows nothing."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from solera_core.schema import Feature, Schema, Target
from solera_server.batch import InputError
from solera_server.limits import Limits
from solera_server.v2 import V2Codec

SCHEMA = Schema(
    "Classification", Target("t", "String", ("a", "b")), (Feature("u", "Float"), Feature("v", "Integer"))
)
OUTPUTS = ("predict", "predict_proba")
LIMITS = Limits(rows=20, cells=40, scores=40, json_depth=6)
ANSWER = {"predict": np.array(["a"]), "predict_proba": np.array([[0.25, 0.75]])}


def codec() -> V2Codec:
    return V2Codec("m", "1", SCHEMA, OUTPUTS, LIMITS)


def seen(one: V2Codec, body: bytes) -> Any:
    """All that can be seen of a decoded body, or the message of what is wrong."""
    try:
        call = one.decode(body, {})
    except InputError as error:
        return error.status, error.message
    batch = call.batch
    places = [batch.where(row, column) for row in range(batch.rows) for column in range(2)]
    return batch.rows, batch.numbers.tobytes(), call.outputs, places, call.render(ANSWER).body


def body(data: str, *, shape: str = "[1,2]", kind: str = "FP64", rest: str = "", name: str = "x") -> bytes:
    return (
        f'{{"inputs":[{{"name":"{name}","shape":{shape},"datatype":"{kind}","data":{data}}}]{rest}}}'.encode()
    )


def test_a_body_that_differs_in_its_numbers_is_known() -> None:
    one = codec()
    for data in ("[1,2]", "[3.5,-4]", "[[1e3,7]]"):
        assert seen(one, body(data)) == seen(codec(), body(data))
    assert one._known_call(body("[8,9]")) is not None
    assert one._known_call(body("[8,9]", name="y")) is None


VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**54), 2**54),
    st.sampled_from([None, True, "NaN", "1", [], [1], {}, "]", '"data":[', 1e300]),
)
DATA = st.one_of(
    st.lists(VALUES, max_size=6).map(json.dumps),
    st.lists(st.lists(VALUES, max_size=3), max_size=3).map(json.dumps),
    st.sampled_from(
        ["[1,2", "[1,2]]", "[NaN,1]", "[1,2],[3]", "[[1,2],[3,4]]", '[1,2],"data":[3,4]', "[01,2]"]
    ),
)
FRAMES = [
    {},
    {"shape": "[2,2]"},
    {"kind": "FP32"},
    {"name": "data"},
    {"name": '\\"data\\":[1,2]'},
    {"rest": ',"outputs":[{"name":"predict"}]'},
    {"rest": ',"id":"7"'},
    {"rest": ',"parameters":{"binary_data_output":true}'},
    {"rest": ',"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":[5,6]}]'},
    {"rest": ',"data":[1]'},
]


@given(st.lists(st.tuples(st.sampled_from(FRAMES), DATA), min_size=2, max_size=8))
@example([({"name": "data"}, "[1,2]"), ({"name": "data"}, "[3,4]")])
def test_whatever_came_before_a_body_means_what_it_says(bodies: list[tuple[dict[str, str], str]]) -> None:
    one = codec()
    for frame, data in [*bodies, *bodies]:
        text = body(data, **frame)
        assert seen(one, text) == seen(codec(), text), text


@pytest.mark.parametrize("count", [200])
def test_what_is_kept_is_bounded(count: int) -> None:
    one = codec()
    for number in range(count):
        seen(one, body("[1,2]", name=f"x{number}"))
    assert 0 < len(one._known._known) <= 64
    seen(one, body("[1,2]", name="long" * 400))
    assert all(len(before) + len(after) <= 1024 for before, after in one._known._known)
