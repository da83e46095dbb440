import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solera_core.canonical import canonical_json, sha256_digest

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(values)
def test_reading_it_back_gives_the_value(value):
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), values))
def test_the_order_of_keys_does_not_matter(value):
    backwards = dict(reversed(list(value.items())))
    assert canonical_json(value) == canonical_json(backwards)


@given(values, values)
def test_different_values_have_different_bytes(one, other):
    if canonical_json(one) == canonical_json(other):
        assert json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}])
def test_what_json_cannot_say_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


def test_keys_that_are_not_strings_are_refused():
    with pytest.raises(TypeError, match="the key 1 is not a string"):
        canonical_json({"a": [{1: "x"}]})


def test_bytes_are_as_documented():
    assert canonical_json({"b": [1, 2.5], "a": "ö"}) == '{"a":"ö","b":[1,2.5]}\n'.encode()
    assert sha256_digest(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
