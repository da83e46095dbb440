"""Bodies that the extension reads: what it takes the careful way takes too, with the same bits and places."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from request_bodies import LIMITS, MIXED, NUMBERS, ONE, TEXTS, tensor, v1, v2

from solera_core.schema import Feature, Schema, Target
from solera_server.batch import InputError
from solera_server.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from solera_server.codec import Call

# Without a DateTime, which is never plain.
PLAIN = replace(MIXED, features=MIXED.features[:4])
WHOLE = Schema(
    "Regression", Target("z", "Float"), (Feature("n", "Integer", nullable=False), Feature("m", "Integer"))
)
FLAGS = Schema("Regression", Target("z", "Float"), (Feature("ü", "Boolean"), Feature("b", "Boolean")))
SCHEMAS = {
    "plain": PLAIN,
    "numbers": NUMBERS,
    "one": ONE,
    "texts": TEXTS,
    "whole": WHOLE,
    "flags": FLAGS,
    "mixed": MIXED,
}
PREDICTED = {"predict": np.array(["a"]), "predict_proba": np.array([[0.25, 0.75]])}

numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1e3, 1e3),
    st.decimals(-1000, 1000, places=3).map(float),
    st.integers(-5, 5),
    st.sampled_from(
        [2**53, 2**53 + 1, -(2**53) - 1, 2**63, 2**64, 1e39, -3.4028236e38, 1e-46, 2.0, 2.5, -0.0]
    ),
)
odd_values = st.one_of(
    numbers,
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "2026-03-01", [], [1], {}]),
)


def seen(decode: Callable[[], Call], schema: Schema) -> Any:
    """All that can be seen of a call, to the bit, or the error."""
    try:
        call = decode()
    except InputError as error:
        return error.status, error.message
    batch = call.batch
    width = len(schema.features)
    places = [batch.where(row, column) for row in (0, batch.rows - 1) for column in (0, width - 1)]
    texts = [list(map(repr, column)) for column in batch.texts]
    matrix = batch.numbers
    assert matrix.flags.c_contiguous
    assert matrix.flags.writeable
    response = call.render(PREDICTED)
    return batch.rows, matrix.shape, matrix.tobytes(), texts, places, call.outputs, response.body


def agree(codec: Any, schema: Schema, body: bytes) -> None:
    whole = seen(lambda: codec.decode(body, {}), schema)
    assert whole == seen(lambda: codec.decode_carefully(body, {}), schema), body


def taken(codec: Any, body: Any) -> bool:
    """Whether the extension reads a body of V1 or V2."""
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    read = codec.plain.read_v2 if hasattr(codec, "_wanted") else codec.plain.read_v1
    return read(text) is not None


def right_value(feature: Feature) -> st.SearchStrategy[Any]:
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "Float": numbers,
        "Integer": st.integers(-(2**53), 2**53) | st.integers(-9, 9).map(float),
        "String": st.text(max_size=3),
        "Boolean": st.booleans(),
        "DateTime": st.just("2026-03-01"),
    }
    return kinds[feature.type] | st.none() if feature.nullable else kinds[feature.type]


@st.composite
def written(draw: st.DrawFn, document: Any) -> bytes:
    """A document as one of several writers would write it, and perhaps damaged by a byte or a cut."""
    options: list[dict[str, Any]] = [
        {},
        {"separators": (",", ":"), "ensure_ascii": False},
        {"indent": 1, "ensure_ascii": False},
        {"separators": (",", ":"), "sort_keys": True, "ensure_ascii": False},
        {"separators": (" ,\t", "\r\n: ")},
    ]
    text = json.dumps(document, **draw(st.sampled_from(options))).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(text) - 1))
        piece = draw(
            st.binary(max_size=2) | st.sampled_from([b",", b"[", b"]", b"}", b'"', b"0", b"-", b"e1", b"."])
        )
        text = text[:at] + piece + text[at + draw(st.integers(0, 2)) :]
    return text


@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=80, deadline=None)
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
        order = data.draw(st.permutations(range(len(names))))
        instances = [
            {names[i]: row[i] for i in order[: data.draw(st.integers(0, 9)) or None]} for row in lists
        ]
    if data.draw(st.integers(0, 3)) == 0:
        row = data.draw(st.sampled_from(instances))
        keys = [*names, "odd"] if type(row) is dict else range(len(row))
        row[data.draw(st.sampled_from(list(keys)))] = data.draw(odd_values)
    if data.draw(st.integers(0, 4)) == 0:
        place = data.draw(st.integers(0, len(instances) - 1))
        instances[place] = data.draw(st.lists(odd_values, max_size=3) | odd_values | st.just({}))
    body: dict[str, Any] = {"instances": instances}
    if data.draw(st.booleans()):
        probabilities = data.draw(st.sampled_from([True, False, None, 1]))
        body["parameters"] = data.draw(
            st.sampled_from([{"probabilities": probabilities}, {}, None, {"odd": 1}])
        )
    agree(v1(schema), schema, data.draw(written(body)))


DATATYPES = {
    "Float": ["FP64", "FP64", "FP32", "FP16", "INT64", "UINT8", "INT8", "BOOL"],
    "Integer": ["INT64", "INT64", "INT32", "FP64", "FP32", "UINT64", "BYTES"],
    "String": ["BYTES", "BYTES", "BYTES", "FP64"],
    "Boolean": ["BOOL", "BOOL", "BOOL", "INT8"],
    "DateTime": ["BYTES"],
}
AROUND = (
    {},
    {},
    {"id": "7"},
    {"id": "é\n"},
    {"id": None, "outputs": [], "parameters": None},
    {"id": 7},
    {"model_name": "m"},
    {"model_name": "n"},
    {"parameters": {"content_type": "pd", "a": 1, "b": 2.5, "c": True}},
    {"parameters": {"a": None}},
    {"parameters": {"ß": "ß", "binary_data_output": False}},
    {"parameters": {"classification": 1}},
    {"outputs": [{"name": "predict"}]},
    {"outputs": [{"name": "predict_proba", "parameters": {}}, {"name": "predict"}]},
    {"outputs": [{"name": "predict"}, {"name": "predict"}]},
    {"outputs": [{"parameters": {"binary_data": False}, "name": "predict"}]},
    {"outputs": [{}]},
    {"odd": 1},
)


def damaged(data: st.DataObject, items: list[dict[str, Any]]) -> None:
    item = data.draw(st.sampled_from(items))
    key = data.draw(st.sampled_from(["name", "shape", "data", "datatype", "parameters", "odd"]))
    item[key] = data.draw(
        odd_values
        | st.sampled_from([[2, 2], [0], [1, 1], [3], [1, 2, 3], [-1], [1.0], {}, "x", "age", "BYTES"])
    )


@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_v2_one_tensor(name: str, data: st.DataObject) -> None:
    schema = SCHEMAS[name]
    width, size = len(schema.features), data.draw(st.integers(1, 4))
    flat = [data.draw(right_value(schema.features[index % width])) for index in range(size * width)]
    if data.draw(st.integers(0, 3)) == 0:
        flat[data.draw(st.integers(0, len(flat) - 1))] = data.draw(odd_values)
    nested: Any = [flat[start : start + width] for start in range(0, len(flat), width)]
    forms = [flat, nested, flat, nested, flat[1:], [*nested, nested[0]], [*flat[:1], *nested]]
    shapes = [[size, width], [size, width], [size, width], [size], [size + 1, width], [size * width, 1]]
    shape, given_ = data.draw(st.sampled_from(shapes)), data.draw(st.sampled_from(forms))
    datatype = data.draw(st.sampled_from(DATATYPES[schema.features[0].type]))
    items = [tensor(data.draw(st.sampled_from(["t", "é", schema.features[0].name])), shape, datatype, given_)]
    if data.draw(st.integers(0, 4)) == 0:
        damaged(data, items)
    around = data.draw(st.sampled_from(AROUND))
    agree(v2(schema), schema, data.draw(written({"inputs": items, **around})))


@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_v2_a_tensor_for_each_feature(name: str, data: st.DataObject) -> None:
    schema = SCHEMAS[name]
    size = data.draw(st.integers(1, 3))
    items = []
    for feature in schema.features:
        column: list[Any] = [data.draw(right_value(feature)) for _ in range(size)]
        if data.draw(st.integers(0, 9)) == 0:
            column[0] = data.draw(odd_values)
        shape, nested = data.draw(st.sampled_from([([size], False), ([size, 1], False), ([size, 1], True)]))
        given_ = [[value] for value in column] if nested else column
        items.append(tensor(feature.name, shape, data.draw(st.sampled_from(DATATYPES[feature.type])), given_))
    items = list(data.draw(st.permutations(items)))
    if data.draw(st.integers(0, 5)) == 0:
        damaged(data, items)
    if data.draw(st.integers(0, 9)) == 0:
        items.append(items[0])
    around = data.draw(st.sampled_from(AROUND))
    agree(v2(schema), schema, data.draw(written({**around, "inputs": items})))


NUMBER_TEXTS = st.one_of(
    st.from_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.from_regex(r"-?[0-9]{1,3}\.[0-9]{12,18}", fullmatch=True),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(1e-6, 1e6).map(repr),
    # Half-way between two doubles, and a digit beside it.
    st.integers(2**52, 2**53 - 1).flatmap(
        lambda m: st.sampled_from([f"{m}.5", f"{m}.4", f"{m}.6", f"{m}.50"])
    ),
    st.sampled_from(
        ["-0", "-0.0", "0e5", "1e400", "01", "1.", ".5", "-", "+1", "1e", "0x1", "1_0", "5e-324", "NaN"]
    ),
)


@settings(max_examples=600, deadline=None)
@given(st.lists(NUMBER_TEXTS, min_size=1, max_size=4))
def test_numbers_have_the_bits_of_the_careful_way(texts: list[str]) -> None:
    rows = ",".join(f"[{text}]" for text in texts)
    agree(v1(ONE), ONE, f'{{"instances":[{rows}]}}'.encode())
    head = f'"name":"t","shape":[{len(texts)},1],"datatype":"FP64"'
    agree(v2(ONE), ONE, f'{{"inputs":[{{{head},"data":[{",".join(texts)}]}}]}}'.encode())


@settings(deadline=None)
@given(st.floats(1e-3, 1e9), st.integers(1, 19))
def test_numbers_of_many_digits_are_read_by_the_extension(value: float, digits: int) -> None:
    text = f"{value:.{digits}g}"
    if "." not in text or "e" in text:
        return
    found = v1(ONE).plain.read_v1(b'{"instances":[[%b]]}' % text.encode())
    assert found is not None
    assert np.frombuffer(found[1]).tolist() == [float(text)]


ROW = {"age": 1.5, "visits": 2, "city": "Pôrto", "member": True}


def columns() -> list[dict[str, Any]]:
    kinds = ("FP64", "INT64", "BYTES", "BOOL")
    return [
        tensor(name, [1, 1], kind, [value]) for kind, (name, value) in zip(kinds, ROW.items(), strict=True)
    ]


def test_plain_bodies_are_read_by_the_extension() -> None:
    backwards = dict(reversed(ROW.items()))
    for body in (
        [ROW],
        [backwards],
        [{**ROW, "age": None}],
        [list(ROW.values())] * 20,
        [{"visits": 1, "member": False}],
    ):
        assert taken(v1(PLAIN), {"instances": body}), body
    assert taken(v1(PLAIN), {"parameters": {"probabilities": True}, "instances": [ROW]})
    for items in (columns(), columns()[::-1], [dict(sorted(item.items())) for item in columns()]):
        assert taken(v2(PLAIN), {"id": "é", "inputs": items, "outputs": [{"name": "predict"}]}), items
    for kind, shape, data in (("FP64", [1, 2], [1.5, None]), ("FP32", [2, 2], [[1, 2], [3, 4.5]])):
        assert taken(v2(NUMBERS), {"model_name": "m", "inputs": [tensor("t", shape, kind, data)]})
    assert taken(v2(TEXTS), {"inputs": [tensor("t", [2, 2], "BYTES", ["a", "b", None, ""])]})
    assert not taken(v1(MIXED), {"instances": [{**ROW, "since": "2026-03-01"}]}), "a DateTime is never plain"


GOOD_ESCAPES = [
    r"\"",
    r"\\",
    r"\/",
    r"\b",
    r"\f",
    r"\n",
    r"\r",
    r"\t",
    r"\u0000",
    r"\u00e9",
    r"\u00E9",
    r"\u20ac",
    r"\uffff",
    r"\ud83d\ude00",
    r"\uDBFF\uDFFF",
]
BAD_ESCAPES = [
    r"\ud83d",
    r"\ude00",
    r"\ude00\ud83d",
    r"\ud83dx",
    r"\ud83d\n",
    r"\ud83d\u0041",
    r"\x",
    r"\u12",
    r"\u12g4",
    r"\U0041",
    r"\u+123",
    r"\'",
]
ESCAPES = st.sampled_from([*GOOD_ESCAPES, *GOOD_ESCAPES, *BAD_ESCAPES, "\\\0", "\\\u00e9"])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.text(max_size=3) | ESCAPES, max_size=5).map("".join))
def test_escapes_mean_what_they_mean_to_the_careful_way(text: str) -> None:
    row = f'["{text}","x"]'
    agree(v1(TEXTS), TEXTS, f'{{"instances":[{row}]}}'.encode("utf-8", "surrogatepass"))
    for order in ('"shape":[1,2],"data":%s', '"data":%s,"shape":[1,2]'):
        tensor_ = '"name":"t","datatype":"BYTES",' + order % row
        body = f'{{"inputs":[{{{tensor_}}}],"id":"{text}"}}'
        agree(v2(TEXTS), TEXTS, body.encode("utf-8", "surrogatepass"))
    # What names something is plain only as it is.
    for body in (f'{{"instances":[{{"{text}":"a"}}]}}', f'{{"instances":[{{"word":"a","w{text}":"a"}}]}}'):
        agree(v1(TEXTS), TEXTS, body.encode("utf-8", "surrogatepass"))


def test_texts_as_python_writes_them_are_read_by_the_extension() -> None:
    text = 'Pôrto "\\/\b\f\n\r\t€😀\0'
    for body in ({"instances": [[text, None]]}, {"instances": [{"word": text}]}):
        ascii_ = json.dumps(body).encode()
        assert taken(v1(TEXTS), ascii_)
        assert v1(TEXTS).decode(ascii_, {}).batch.texts[0] == [text]
    named = {"inputs": [tensor("t", [1, 2], "BYTES", [text, "a"])], "id": text}
    assert taken(v2(TEXTS), json.dumps(named).encode())
    assert not taken(v1(TEXTS), b'{"instances":[{"w\\u006frd":"a"}]}'), "names are compared as they stand"


@pytest.mark.parametrize("rows", [1, 16, 17, 33, 1000])
def test_many_rows_are_all_there(rows: int) -> None:
    values = [[row + 0.25, None if row % 3 else row] for row in range(rows)]
    call = v1(NUMBERS).decode(orjson.dumps({"instances": values}), {})
    wanted = np.array([[a, math.nan if b is None else b] for a, b in values])
    np.testing.assert_array_equal(call.batch.numbers, wanted)


def test_limits_hold() -> None:
    limits = Limits(rows=3)
    for count, status in ((3, None), (4, 413)):
        bodies = (
            (v1(NUMBERS, limits), {"instances": [[1, 2]] * count}),
            (v1(PLAIN, limits), {"instances": [ROW] * count}),
            (v2(NUMBERS, limits), {"inputs": [tensor("t", [count, 2], "FP64", [1, 2] * count)]}),
        )
        for codec, body in bodies:
            assert taken(codec, body) == (status is None)
            if status is not None:
                with pytest.raises(InputError) as caught:
                    codec.decode(orjson.dumps(body), {})
                assert caught.value.status == status
    shallow = replace(LIMITS, json_depth=3)
    assert not taken(v2(NUMBERS, shallow), {"inputs": [tensor("t", [1, 2], "FP64", [[1, 2]])]})


def test_a_name_that_no_body_can_hold_is_no_obstacle() -> None:
    odd = Schema("Regression", Target("z", "Float"), (Feature("\ud800", "Float"),))
    call = v1(odd).decode(b'{"instances":[[1.5]]}', {})
    assert call.batch.numbers.tolist() == [[1.5]]


def test_hostile_bodies_take_no_more_time_than_their_size() -> None:
    wide = Schema("Regression", Target("z", "Float"), tuple(Feature(f"f{i}", "Float") for i in range(10_000)))
    columnar, rowwise = v2(wide), v1(wide)
    backwards = ",".join(f'"f{i}":1' for i in reversed(range(10_000))).encode()
    tensors = b",".join(
        b'{"data":[1],"name":"f%d","shape":[1],"datatype":"FP64"}' % i for i in reversed(range(10_000))
    )
    bodies: list[tuple[Any, bytes]] = [
        (rowwise, b'{"instances":[{%b}]}' % backwards),
        (rowwise, b'{"instances":[%b{}]}' % (b"{}," * 340_000)),
        (columnar, b'{"inputs":[%b]}' % tensors),
        (columnar, b'{"inputs":[{"data":%b' % (b"[" * 1_000_000)),
        (columnar, b'{"inputs":[{"data":[%b' % (b'"' * 1_000_000)),
        (columnar, b'{"id":"%b' % (b"a" * 1_000_000)),
        (rowwise, b'{"instances":[[%b' % (b"9" * 1_000_000)),
        (rowwise, b'{"instances":[[0.%b' % (b"0" * 1_000_000)),
        (rowwise, b'{"instances":[[1e%b]]}' % (b"0" * 1_000_000)),
        (columnar, b" " * 1_000_000),
    ]
    for codec, body in bodies:
        read = codec.plain.read_v1 if codec is rowwise else codec.plain.read_v2
        start = time.thread_time()
        read(body)
        assert time.thread_time() - start < 0.2, body[:60]
