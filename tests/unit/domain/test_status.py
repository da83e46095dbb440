"""Conditions keep the time of their last transition, and fit the schema."""

import datetime as dt

from solera_operator.api.objects import Condition as StoredCondition
from solera_operator.api.objects import ConditionStatus
from solera_operator.domain.assessment import Condition
from solera_operator.domain.status import MESSAGE_LIMIT, timed

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(hours=1)
OTHER = Condition("Other", "True", "R", "m")


def ready(status: str, reason: str = "R", message: str = "m") -> Condition:
    return Condition("Ready", status, reason, message)


def test_a_new_condition_has_the_present_time():
    before = timed([OTHER], (), 1, NOW)
    made = timed([OTHER, ready("False")], before, 1, LATER)
    assert [c.type for c in made] == ["Other", "Ready"]
    assert made[0] == before[0]
    assert made[1] == StoredCondition(
        type="Ready",
        status=ConditionStatus.FALSE,
        reason="R",
        message="m",
        observed_generation=1,
        last_transition_time=LATER,
    )
    assert made[1].document()["lastTransitionTime"] == "2026-01-02T04:04:05Z"


def test_the_time_moves_only_with_the_status():
    before = timed([ready("False")], (), 1, NOW)
    assert timed([ready("False")], before, 1, LATER) == before
    [said_anew] = timed([ready("False", "Other", "n")], before, 2, LATER)
    assert said_anew.last_transition_time == NOW
    assert (said_anew.reason, said_anew.observed_generation) == ("Other", 2)
    [turned] = timed([ready("True")], before, 1, LATER)
    assert turned.last_transition_time == LATER


def test_messages_fit_the_schema():
    [made] = timed([ready("True", message="x" * 40_000)], (), 1, NOW)
    assert len(made.message) == MESSAGE_LIMIT


def test_what_is_not_wanted_any_more_goes():
    before = timed([OTHER, ready("True")], (), 1, NOW)
    assert timed([OTHER], before, 1, LATER) == before[:1]
