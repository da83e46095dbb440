import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solera_core import schema as s
from solera_core.failures import ArtifactCorrupt
from solera_core.schema import Feature, InvalidValue, Schema, Target

FLOAT = Feature("f", s.FLOAT)
INTEGER = Feature("i", s.INTEGER)
STRING = Feature("s", s.STRING)
BOOLEAN = Feature("b", s.BOOLEAN)
TIME = Feature("t", s.DATETIME)
SCHEMA = Schema("Classification", Target("y", s.STRING, ("a", "b")), (FLOAT, INTEGER, STRING, BOOLEAN, TIME))


@given(st.floats())
def test_floats_survive_the_way_through_json(number):
    again = s.decode_value(FLOAT, s.encode_cell(FLOAT, number))
    assert again == number or (math.isnan(again) and math.isnan(number))


@given(st.integers(-(2**53), 2**53))
def test_integers_survive_the_way_through_json(number):
    assert s.encode_cell(INTEGER, s.decode_value(INTEGER, number)) == number


@given(st.datetimes())
def test_times_survive_the_way_through_json(moment):
    seconds = s.decode_value(TIME, moment.isoformat())
    again = s.decode_value(TIME, s.encode_cell(TIME, seconds))
    assert math.isclose(again, seconds, abs_tol=1e-4)


@pytest.mark.parametrize("feature", SCHEMA.features, ids=lambda f: f.type)
def test_null_is_missing_everywhere(feature):
    assert math.isnan(s.decode_value(feature, None))
    with pytest.raises(InvalidValue, match="must not be missing"):
        s.decode_value(Feature("x", feature.type, nullable=False), None)


GOOD = [
    (FLOAT, 3, 3.0),
    (FLOAT, "-Infinity", -math.inf),
    (INTEGER, 3.0, 3.0),
    (BOOLEAN, True, 1.0),
    (BOOLEAN, False, 0.0),
    (STRING, "", ""),
    (TIME, "1970-01-02", 86400.0),
    (TIME, "1970-01-01T01:00:00+01:00", 0.0),
    (TIME, "1970-01-01T00:00:01Z", 1.0),
]


@pytest.mark.parametrize(("feature", "value", "decoded"), GOOD)
def test_values_of_the_type(feature, value, decoded):
    assert s.decode_value(feature, value) == decoded


BAD = [
    (FLOAT, "1.5", 'takes a number, not "1.5"'),
    (FLOAT, True, "takes a number, not true"),
    (FLOAT, [1.0], "not a list"),
    (FLOAT, 10**400, "fits a 64-bit float"),
    (INTEGER, 1.5, "takes an integer, not 1.5"),
    (INTEGER, 2**53 + 1, "takes integers from"),
    (INTEGER, True, "takes an integer"),
    (STRING, 1, "takes a string, not 1"),
    (STRING, {"a": 1}, "not an object"),
    (BOOLEAN, 1, "takes true or false, not 1"),
    (BOOLEAN, "true", "takes true or false"),
    (TIME, 5, "takes a time such as"),
    (TIME, "yesterday", "is not a time"),
    (FLOAT, "x" * 500, "xxx..."),
]


@pytest.mark.parametrize(("feature", "value", "message"), BAD)
def test_values_of_another_type_are_refused_in_words(feature, value, message):
    with pytest.raises(InvalidValue, match=message):
        s.decode_value(feature, value)


def test_a_column_names_the_row():
    with pytest.raises(InvalidValue, match="row 2: takes a number"):
        s.decode_column(FLOAT, [1, 2, "x"])


def test_columns_have_the_types_that_models_get():
    columns = s.decode_rows(SCHEMA, [{"f": 1, "i": 2, "s": "x", "b": True, "t": "1970-01-01"}, {}])
    assert {name: column.dtype for name, column in columns.items()} == {
        "f": np.float64,
        "i": np.float64,
        "s": np.dtype(object),
        "b": np.float64,
        "t": np.float64,
    }
    table = s.frame(columns)
    assert list(table.columns) == ["f", "i", "s", "b", "t"]
    assert table["s"].dtype == object, "pandas' own strings would reach the model"
    assert math.isnan(table["s"][1])


def test_the_document_survives():
    document = SCHEMA.to_json()
    assert Schema.from_json(document) == SCHEMA
    assert Schema.from_json(document).digest == SCHEMA.digest


def change(path, value):
    document = SCHEMA.to_json()
    *way, last = path
    node = document
    for part in way:
        node = node[part]
    node[last] = value
    return document


WRONG = [
    change(["formatVersion"], 2),
    change(["task"], "Ranking"),
    change(["features"], []),
    change(["features", 0, "type"], "Double"),
    change(["features", 0, "name"], 7),
    change(["features", 0, "name"], "i"),
    change(["features", 0, "extra"], 1),
    change(["features", 2, "categories"], [1]),
    change(["target", "classes"], None),
    change(["target", "classes"], ["a"]),
    change(["target", "classes"], [1.5, 2.5]),
    change(["target", "type"], "Thing"),
    [],
    None,
    {},
]


@pytest.mark.parametrize("document", WRONG)
def test_a_wrong_document_is_refused(document):
    with pytest.raises(ArtifactCorrupt, match=r"schema\.json"):
        Schema.from_json(document)
