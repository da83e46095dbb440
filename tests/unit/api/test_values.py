"""Durations, quantities, canonical forms: laws that hold for all values."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kubernetes.utils import parse_quantity as upstream_quantity
from pydantic import ValidationError

from solera_core.spec import (
    Candidate,
    Gate,
    Invalid,
    Split,
    SplitMethod,
    Task,
    Training,
    parse,
    parse_duration,
    parse_quantity,
)
from solera_operator.api.objects import Condition, rfc3339
from solera_operator.api.trainedmodel import Failure, Replicas, Serving

SUFFIXES = ["", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]


@given(st.integers(0, 999), st.integers(0, 999), st.integers(0, 999))
def test_duration_is_the_sum_of_its_parts(hours, minutes, seconds):
    expected = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == expected


@pytest.mark.parametrize("text", ["", "1d", "1.5h", "-1h", "1h ", "1m1h", "h", "10", "1H", "\u0661h", "1h\n"])
def test_other_durations_are_refused(text):
    with pytest.raises(ValueError, match="write a duration"):
        parse_duration(text)


@given(st.integers(0, 10**9), st.integers(0, 999), st.sampled_from(SUFFIXES))
def test_quantity_means_what_kubernetes_means(whole, fraction, suffix):
    for text in (f"{whole}{suffix}", f"{whole}.{fraction:03d}{suffix}"):
        assert parse_quantity(text) == upstream_quantity(text)


@pytest.mark.parametrize(
    "text", ["", "-1", "1e3", "1 Gi", "01", "1gi", "Gi", ".5", "1.", "1K", "1Gi\n", "NaN"]
)
def test_other_quantities_are_refused(text):
    with pytest.raises(ValueError, match="write a quantity"):
        parse_quantity(text)


MINIMAL = {
    "data": {"uri": "sklearn://iris", "target": "target"},
    "candidates": [{"name": "a", "estimator": "sklearn.svm.SVC"}],
}
DEFAULTS = {"seed": 0, "deadline": "1h", "retries": 2, "validation": {"folds": 5}}


@given(st.sets(st.sampled_from(sorted(DEFAULTS))), st.booleans())
def test_a_default_written_out_changes_nothing(written, split):
    data = MINIMAL["data"] | ({"split": {"testPercent": 20}} if split else {})
    value = MINIMAL | {key: DEFAULTS[key] for key in written} | {"data": data}
    assert parse(Training, value).canonical() == parse(Training, MINIMAL).canonical()


def test_a_default_written_out_in_a_nested_object_changes_nothing():
    key = MINIMAL["data"] | {"split": {"column": "id"}}
    out = MINIMAL["data"] | {"split": {"column": "id", "seed": 0, "testPercent": 20}}
    assert (
        parse(Training, MINIMAL | {"data": key}).canonical()
        == parse(Training, MINIMAL | {"data": out}).canonical()
    )


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(lambda name: name[0] != "_"),
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=8) | st.lists(st.integers(-9, 9) | st.none(), max_size=4),
        max_size=4,
    )
)  # fmt: skip
@example({"a": 1.0, "b": [1.0, None], "c": "1.0", "d": True})
def test_parameters_survive_as_the_api_server_keeps_them(params):
    """Whole numbers lose their point, as they do in the API server; everything else stays, null included."""

    def stored(value):
        if isinstance(value, list):
            return [stored(item) for item in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    candidate = parse(Candidate, {"name": "a", "estimator": "sklearn.svm.SVC", "params": params})
    written = candidate.document()["params"]
    assert written == {name: stored(value) for name, value in params.items()}
    assert {name: type(value) for name, value in written.items()} == {
        name: type(stored(value)) for name, value in params.items()
    }
    assert parse(Candidate, candidate.document()) == candidate


def test_different_parameters_give_different_canonical_forms():
    def form(value):
        candidate = MINIMAL["candidates"][0] | {"params": {"C": value}}
        return parse(Training, MINIMAL | {"candidates": [candidate]}).canonical()

    values = [1, "1", "1.0", True, None, 1.5, [1], []]
    assert len({form(value) for value in values}) == len(values)
    assert form(1.0) == form(1)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), [float("nan")], {"a": 1}, [[1]], "x" * 257, [0] * 65]
)
def test_other_parameters_are_refused(value):
    found = parse(Candidate, {"name": "a", "estimator": "sklearn.svm.SVC", "params": {"C": value}})
    assert isinstance(found, Invalid)
    assert found.problems[0].path.startswith("params.C")


def test_python_code_is_held_to_the_rules_as_well():
    with pytest.raises(ValidationError, match="write min, max or both"):
        Gate(metric="accuracy")
    with pytest.raises(ValidationError, match="needs column"):
        Split(method=SplitMethod.GROUP)
    with pytest.raises(ValidationError):
        Gate(metric="accuracy", min="0.9").min = "0.1"


def test_what_is_absent_has_a_meaning():
    training = parse(Training, MINIMAL)
    assert training.split_method(Task.CLASSIFICATION) is SplitMethod.STRATIFIED
    assert training.split_method(Task.REGRESSION) is SplitMethod.RANDOM
    assert training.metric(Task.CLASSIFICATION) == "f1_macro"
    assert training.metric(Task.REGRESSION) == "r2"
    assert training.deadline_seconds() == 3600
    serving = Serving()
    assert (serving.max_replicas(), serving.autoscales(), serving.rollback_window_seconds()) == (
        1,
        False,
        600,
    )
    growing = Serving(replicas=Replicas(min=2, max=5))
    assert (growing.max_replicas(), growing.autoscales(), growing.cpu_percent()) == (5, True, 70)


def test_times_are_utc_seconds():
    moment = datetime(2026, 1, 2, 5, 4, 5, 999, tzinfo=timezone(timedelta(hours=2)))
    condition = Condition(type="Ready", status="True", reason="Serving", last_transition_time=moment)
    assert condition.document()["lastTransitionTime"] == "2026-01-02T03:04:05Z" == rfc3339(moment)
    assert parse(Condition, condition.document()) == condition
    assert condition.last_transition_time.tzinfo is UTC
    for wrong in ("yesterday", "2026-01-02T03:04:05", 5):
        assert isinstance(parse(Condition, condition.document() | {"lastTransitionTime": wrong}), Invalid)


def test_bounds_of_gates_are_exact():
    assert Gate(metric="accuracy", min="0.1").bounds() == (Decimal("0.1"), None)


def test_a_message_of_any_length_can_be_written():
    written = Condition(
        type="Ready",
        status="False",
        reason="Failed",
        message="ü" * 5000,
        last_transition_time=datetime.now(UTC),
    )
    assert written.message == "ü" * 4095 + "…"
    assert Failure(reason="Failed", message="x" * 4096, time=datetime.now(UTC)).message == "x" * 4096
