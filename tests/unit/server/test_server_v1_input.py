"""Bodies of V1: what is taken, and the message of everything that is not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest
from request_bodies import MIXED, NUMBERS, ONE, ROW, SINCE, decode, nested, refusal, v1, values


def test_v1_rows_by_name_and_by_position_are_the_same() -> None:
    second = {**ROW, "age": None, "city": None, "visits": 4.0, "since": "2026-03-01"}
    by_name = decode(v1(MIXED), {"instances": [ROW, second]})
    by_position = decode(v1(MIXED), {"instances": [list(ROW.values()), list(second.values())]})
    assert by_name.outputs == ("predict",)
    assert by_name.batch.rows == 2
    for batch in (by_name.batch, by_position.batch):
        age, visits, city, member, since = values(MIXED, batch)
        assert age[0] == 39.5
        assert math.isnan(age[1])
        assert visits == [3.0, 4.0]
        assert city[0] == "Porto"
        assert math.isnan(city[1])
        assert member == [1.0, 1.0]
        assert since == [SINCE, SINCE - 12 * 3600]


def test_v1_absent_key_is_missing_where_that_is_allowed() -> None:
    row = {key: value for key, value in ROW.items() if key != "age"}
    assert math.isnan(values(MIXED, decode(v1(MIXED), {"instances": [row]}).batch)[0][0])


def test_v1_single_feature_takes_bare_values() -> None:
    assert values(ONE, decode(v1(ONE), {"instances": [1, 2.5, "Infinity"]}).batch) == [[1.0, 2.5, math.inf]]


def test_v1_columns_are_the_rows_turned() -> None:
    rows = [ROW, {**ROW, "age": None, "visits": 7, "city": None}]
    by_column = {name: [row[name] for row in rows] for name in reversed(ROW)}
    del by_column["city"]
    batch = decode(v1(MIXED), {"inputs": by_column}).batch
    expected = decode(v1(MIXED), {"instances": [{**row, "city": None} for row in rows]}).batch
    np.testing.assert_equal(values(MIXED, batch), values(MIXED, expected))
    assert batch.where(1, 0) == "inputs.age[1]"


def test_v1_probabilities_come_by_class_when_asked_for() -> None:
    body = {"instances": [[1, 2], [3, 4]], "parameters": {"probabilities": True}}
    call = decode(v1(NUMBERS), body)
    assert call.outputs == ("predict", "predict_proba")
    outputs = {
        "predict": np.array(["a", "b"], dtype=object),
        "predict_proba": np.array([[0.75, 0.25], [0, 1]]),
    }
    assert orjson.loads(call.render(outputs).body) == {
        "predictions": ["a", "b"],
        "probabilities": [{"a": 0.75, "b": 0.25}, {"a": 0.0, "b": 1.0}],
    }
    body["parameters"] = {"probabilities": False}
    assert decode(v1(NUMBERS), body).outputs == ("predict",)
    wanted = {"instances": [ROW], "parameters": {"probabilities": True}}
    rendered = decode(v1(MIXED), wanted).render(
        {"predict": np.array([True]), "predict_proba": np.array([[0.25, 0.75]])}
    )
    assert orjson.loads(rendered.body)["probabilities"] == [{"false": 0.25, "true": 0.75}]
    message = refusal(v1(ONE), {"instances": [[1]], "parameters": {"probabilities": True}})
    assert message == "parameters.probabilities: this model gives no probabilities"


# -- V1: what is refused ---------------------------------------------------------------------------


def with_value(**changes: Any) -> dict[str, Any]:
    return {"instances": [ROW, {**ROW, **changes}]}


V1_REFUSED = {
    "empty body": (b"", "the body is empty; it must be a JSON object"),
    "not JSON": (b"{instances}", "the body is not valid JSON"),
    "not UTF-8": (b'{"instances": ["\xff"]}', "the body is not valid JSON"),
    "NaN": (b'{"instances": [[NaN]]}', "the body is not valid JSON"),
    "Infinity": (b'{"instances": [[Infinity]]}', "the body is not valid JSON"),
    "NaN with advice": (b'{"instances": [[1, NaN]]}', "send null for a missing value"),
    "Infinity with advice": (b'{"instances": [{"age": -Infinity}]}', "JSON has no NaN and no Infinity"),
    "number too large": (b'{"instances": [[1e999]]}', "the body is not valid JSON"),
    "lone surrogate": (b'{"instances": [["\\ud800"]]}', "the body is not valid JSON"),
    "trailing text": (b'{"instances": [[1]]} x', "the body is not valid JSON"),
    "a list": ([1], "body: expected an object, got a list of 1"),
    "a string": ("x", 'body: expected an object, got "x"'),
    "no instances": ({}, 'body: the field "instances" is missing'),
    "other field": (
        {"instances": [ROW], "rows": []},
        'body: unknown field "rows"; known are inputs, instances, parameters',
    ),
    "rows and columns": ({"instances": [ROW], "inputs": {}}, "body: has both instances (rows) and inputs"),
    "inputs a list": ({"inputs": [ROW]}, "inputs: expected an object with a list of values for each feature"),
    "no columns": ({"inputs": {}}, "inputs: expected at least one row"),
    "columns without rows": ({"inputs": {"age": []}}, "inputs: expected at least one row"),
    "column a number": ({"inputs": {"age": 3}}, "inputs.age: expected a list of values, one for each row"),
    "columns of two lengths": (
        {"inputs": {"age": [1, 2], "visits": [1]}},
        "inputs.visits: has 1 values, and inputs.age has 2",
    ),
    "unknown column": ({"inputs": {"agee": [1]}}, 'inputs: unknown feature "agee". Did you mean "age"?'),
    "column left out": ({"inputs": {"age": [1]}}, "inputs.visits: is missing; expected Integer"),
    "value in a column": (
        {"inputs": {**{name: [value] for name, value in ROW.items()}, "age": ["x"]}},
        'inputs.age[0]: expected Float, got "x"',
    ),
    "parameters a list": ({"instances": [ROW], "parameters": []}, "parameters: expected an object"),
    "unknown parameter": (
        {"instances": [ROW], "parameters": {"proba": True}},
        'parameters: unknown field "proba"; known are probabilities',
    ),
    "parameter a number": (
        {"instances": [ROW], "parameters": {"probabilities": 1}},
        "parameters.probabilities: expected true or false, got 1",
    ),
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
    "feature that is like none": (
        with_value(years=1),
        'instances[1]: unknown feature "years". There are age, visits, city, member, since.',
    ),
    "column that is like none": (
        {"inputs": {"years": [1]}},
        'inputs: unknown feature "years". There are age, visits, city, member, since.',
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
    "large Integer": (
        with_value(visits=1e300),
        "instances[1].visits: expected Integer, got 1e+300 (takes integers from -9007199254740992 to",
    ),
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
        "instances[1].since: expected DateTime, got 1500000000.0; write it as 2026-03-01 or",
    ),
    "no date": (
        with_value(since="01.02.2020"),
        'instances[1].since: expected DateTime, got "01.02.2020"; write it as 2026-03-01 or 2026-03-01T12:30:00Z',
    ),
    "impossible date": (
        with_value(since="2026-02-30"),
        'instances[1].since: expected DateTime, got "2026-02-30"; write it as',
    ),
    "value too deep": (with_value(age=nested(40)), "the JSON nests deeper than 32 levels"),
}


@pytest.mark.parametrize("case", V1_REFUSED)
def test_v1_refusals(case: str) -> None:
    value, message = V1_REFUSED[case]
    assert message in refusal(v1(MIXED), value)
