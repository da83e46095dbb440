"""Merge patches and conditions, as laws."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from solera_operator.engine.status import get_condition, merge_difference, remove_condition, set_condition

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(hours=1)

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


def condition(status: str, **other: Any) -> list[dict[str, Any]]:
    return set_condition(
        [{"type": "Other", "status": "True", "lastTransitionTime": "before"}],
        "Ready",
        status,  # type: ignore[arg-type]
        **{"reason": "R", "message": "m", "observed_generation": 1, "now": NOW, **other},
    )


def test_a_new_condition_comes_last_with_the_present_time():
    made = condition("False")
    assert [c["type"] for c in made] == ["Other", "Ready"]
    assert made[1] == {
        "type": "Ready",
        "status": "False",
        "reason": "R",
        "message": "m",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }


def test_the_time_moves_only_with_the_status():
    before = condition("False")
    same = set_condition(before, "Ready", "False", reason="R", message="m", observed_generation=1, now=LATER)
    assert same == before
    said_anew = set_condition(
        before, "Ready", "False", reason="Other", message="n", observed_generation=2, now=LATER
    )
    assert said_anew[1]["lastTransitionTime"] == "2026-01-02T03:04:05Z"
    assert (said_anew[1]["reason"], said_anew[1]["observedGeneration"]) == ("Other", 2)
    turned = set_condition(before, "Ready", "True", reason="R", message="m", observed_generation=1, now=LATER)
    assert turned[1]["lastTransitionTime"] == "2026-01-02T04:04:05Z"


def test_messages_fit_the_schema():
    assert len(condition("True", message="x" * 40_000)[1]["message"]) == 32_768


def test_removing_and_finding():
    made = condition("True")
    assert get_condition(made, "Ready") == made[1]
    assert get_condition(made, "Nope") is None
    assert remove_condition(made, "Ready") == made[:1]
    assert remove_condition(made, "Nope") == made
