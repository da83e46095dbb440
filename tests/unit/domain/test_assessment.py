"""The truth table of the conditions, a row a test."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solera_operator.domain.assessment import Situation, conditions
from solera_operator.domain.diagnosis import Failure
from solera_operator.domain.promotion import Champion
from solera_operator.domain.versions import Verdict, Version

V1 = Champion("iris-v1", "sha256:1", 1, "FirstVersion")
TRAINING = Failure("Training", "training is under way")
FAILED = Failure("TargetColumnMissing", "no column specie; nearest: species", 65)


def version(number: int, verdict: Verdict) -> Version:
    return Version(f"iris-v{number}", number, "t", f"u{number}", verdict, "sha256:1")


SERVING = {"champion": V1, "target": "iris-v1", "champion_ready": 1, "target_ready": 1}
ACCEPTED, PENDING = version(1, Verdict.ACCEPTED), version(2, Verdict.PENDING)
ROWS = {
    "a version is about to be made": (Situation(), "False", "False", True, False),
    "first version trains": (
        Situation(wanted=version(1, Verdict.PENDING), wanted_note=TRAINING),
        "False",
        "False",
        True,
        False,
    ),
    "carried out, serving": (Situation(wanted=ACCEPTED, **SERVING), "True", "True", False, False),
    "spec changed, being carried out": (
        Situation(wanted=PENDING, wanted_note=TRAINING, **SERVING),
        "False",
        "True",
        True,
        False,
    ),
    "wrong spec while serving": (
        Situation(refusal=Failure("InvalidSpec", "bad"), wanted=ACCEPTED, **SERVING),
        "False",
        "True",
        False,
        True,
    ),
    "exhausted retries": (
        Situation(wanted=version(2, Verdict.FAILED), wanted_note=FAILED, **SERVING),
        "False",
        "True",
        False,
        True,
    ),
    "rejected by a gate": (
        Situation(
            wanted=version(2, Verdict.REJECTED), wanted_note=Failure("GateFailed", "accuracy"), **SERVING
        ),
        "False",
        "True",
        False,
        True,
    ),
    "no gates": (
        Situation(wanted=version(1, Verdict.REJECTED), has_gates=False),
        "False",
        "False",
        False,
        True,
    ),
    "promoted, being brought up": (
        Situation(
            wanted=version(2, Verdict.ACCEPTED),
            champion=Champion("iris-v2", "d", 2, "GatesPassed"),
            target="iris-v1",
            target_ready=2,
        ),
        "False",
        "True",
        True,
        False,
    ),
    "servers crash": (
        Situation(wanted=ACCEPTED, champion=V1, target="iris-v1", server_failure=Failure("OutOfMemory", "x")),
        "False",
        "False",
        True,
        False,
    ),
    "one of two servers crashes": (
        Situation(
            wanted=ACCEPTED,
            **(SERVING | {"champion_size": 2, "champion_minimum": 2}),
            server_failure=Failure("OutOfMemory", "x"),
        ),
        "False",
        "True",
        True,
        False,
    ),
    "the gateway refuses the route": (
        Situation(wanted=ACCEPTED, **SERVING, route_problem=Failure("NotAllowedByListeners", "x")),
        "False",
        "True",
        True,
        False,
    ),
    "pinned while another version trains": (
        Situation(wanted=PENDING, wanted_note=TRAINING, pinned=True, **SERVING),
        "True",
        "True",
        False,
        False,
    ),
}


@pytest.mark.parametrize(
    ("situation", "ready", "available", "reconciling", "stalled"), ROWS.values(), ids=ROWS
)
def test_truth_table(situation, ready, available, reconciling, stalled):
    got = {c.type: c for c in conditions(situation)}
    assert got["Ready"].status == ready, got["Ready"]
    assert got["Available"].status == available, got["Available"]
    assert ("Reconciling" in got, "Stalled" in got) == (reconciling, stalled)


def test_messages_name_the_version_and_the_cause():
    got = {c.type: c for c in conditions(ROWS["exhausted retries"][0])}
    assert got["Stalled"].reason == "TargetColumnMissing"
    assert got["Stalled"].message == "iris-v2: no column specie; nearest: species"
    assert "add a gate" in conditions(ROWS["no gates"][0])[0].message


FAILURES = st.one_of(st.none(), st.just(Failure("X", "y")))


@given(
    st.builds(
        Situation,
        refusal=FAILURES,
        wanted=st.one_of(st.none(), st.builds(version, st.integers(1, 3), st.sampled_from(list(Verdict)))),
        wanted_note=FAILURES,
        has_gates=st.booleans(),
        champion=st.sampled_from([None, V1]),
        target=st.sampled_from(["", "iris-v1", "iris-v2"]),
        champion_ready=st.integers(0, 2),
        target_ready=st.integers(0, 2),
        server_failure=FAILURES,
        route_problem=FAILURES,
        route_pending=st.booleans(),
        pinned=st.booleans(),
    )
)
def test_laws_of_the_conditions(situation):
    got = {c.type: c for c in conditions(situation)}
    assert {"Ready", "Available"} <= set(got)
    assert not ("Reconciling" in got and "Stalled" in got)
    assert (got["Ready"].status == "True") == ("Reconciling" not in got and "Stalled" not in got)
    if got["Available"].status == "True":
        assert situation.target_ready > 0
    if situation.refusal:
        assert got["Ready"].status == "False"
    assert all(c.reason and c.message for c in got.values())


def test_a_pod_that_the_autoscaler_wants_and_no_node_has_room_for_is_no_trouble():
    nine_of_ten = SERVING | {"champion_ready": 9, "champion_size": 10, "champion_minimum": 2}
    situation = Situation(wanted=ACCEPTED, **nine_of_ten, server_failure=Failure("Unschedulable", "x"))
    assert conditions(situation)[0].status == "True"


def test_a_pin_to_a_version_under_way_is_progress():
    waits = Failure("PinnedVersionTraining", "x")
    got = {c.type: c for c in conditions(Situation(wanted=PENDING, pinned=True, pin_waits=waits, **SERVING))}
    assert (got["Ready"].reason, "Stalled" in got) == ("PinnedVersionTraining", False)


def test_a_pin_hides_no_failed_training_unless_it_names_that_very_version():
    failed = Situation(wanted=version(2, Verdict.FAILED), wanted_note=FAILED, pinned=True, **SERVING)
    assert "Stalled" in {c.type for c in conditions(failed)}
    rejected = Situation(wanted=version(1, Verdict.REJECTED), pinned=True, **SERVING)
    assert conditions(rejected)[0].status == "True"


def test_the_new_version_s_trouble_is_not_the_old_one_s():
    moving = Situation(
        wanted=ACCEPTED,
        champion=Champion("iris-v2", "d", 2, "GatesPassed"),
        target="iris-v1",
        server_failure=Failure("OutOfMemory", "x"),
    )
    available = conditions(moving)[1]
    assert (available.reason, available.message) == ("ServerNotReady", "iris-v1: no replica is ready yet")
