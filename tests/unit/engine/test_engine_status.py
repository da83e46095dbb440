"""Merge patches, as laws."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from solera_operator.engine.status import merge_difference

FIELDS = st.sampled_from(["a", "b", "c"])
SCALARS = st.one_of(st.booleans(), st.integers(-2, 2), st.sampled_from(["", "x"]))
# Live objects hold no nulls: the API server drops them.
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(FIELDS, inner, max_size=3)
)
OBJECTS = st.dictionaries(FIELDS, VALUES, max_size=3)


def merged(target: Any, patch: Any) -> Any:
    """Merge patch as RFC 7396 defines it."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for field, value in patch.items():
        if value is None:
            result.pop(field, None)
        else:
            result[field] = merged(result.get(field), value)
    return result


def typed(value: Any) -> Any:
    """Python says that True == 1; JSON does not."""
    if isinstance(value, Mapping):
        return {field: typed(inner) for field, inner in value.items()}
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    return (type(value), value)


@given(live=OBJECTS, desired=OBJECTS)
def test_the_patch_leads_to_what_is_desired(live: dict[str, Any], desired: dict[str, Any]):
    assert typed(merged(live, merge_difference(live, desired))) == typed(desired)


@given(live=OBJECTS)
def test_nothing_is_written_for_what_is_there(live: dict[str, Any]):
    assert merge_difference(live, live) == {}
    assert merge_difference(live, {**live, "not there": None}) == {}


@given(live=OBJECTS, desired=OBJECTS)
def test_after_the_patch_nothing_is_left_to_write(live: dict[str, Any], desired: dict[str, Any]):
    assert merge_difference(merged(live, merge_difference(live, desired)), desired) == {}
