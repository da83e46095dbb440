"""Traffic moves only to a version that is ready at the old one's size, and the old one stays a while."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from solera_operator.domain.observed import Deployment, Meta
from solera_operator.domain.rollout import Rollout, plan_rollout

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def deployment(ready: int, *, current: bool = True, updated: int | None = None) -> Deployment:
    return Deployment(
        Meta("d", "ns", "u", "1"),
        current=current,
        replicas=ready,
        ready=ready,
        updated=ready if updated is None else updated,
    )


def plan(champion, target, deployments, **kw) -> Rollout:
    settings = {
        "minimum": 1,
        "maximum": 10,
        "warm_until": {"v1": NOW + timedelta(minutes=10)},
        "turned": None,
        "now": NOW,
    }
    return plan_rollout(champion, target, deployments, **(settings | kw))


def test_the_first_champion_is_the_target_at_once():
    assert plan("v1", "", {}) == Rollout("v1")


def test_the_old_version_keeps_the_traffic_until_the_new_one_has_its_size():
    assert plan("v2", "v1", {"v1": deployment(3)}) == Rollout("v1", floor=3)
    assert plan("v2", "v1", {"v1": deployment(3), "v2": deployment(2)}) == Rollout("v1", floor=3)
    assert plan("v2", "v1", {"v1": deployment(3), "v2": deployment(3)}) == Rollout("v2", floor=3)


def test_a_deployment_whose_newest_spec_is_not_rolled_out_does_not_count():
    stale = {"v1": deployment(1), "v2": deployment(1, current=False)}
    assert plan("v2", "v1", stale).target == "v1"
    old_pods = {"v1": deployment(1), "v2": deployment(1, updated=0)}
    assert plan("v2", "v1", old_pods).target == "v1"


def test_a_dead_old_version_does_not_hold_the_new_one_up():
    assert plan("v2", "v1", {"v1": deployment(0), "v2": deployment(1)}) == Rollout("v2", floor=1)
    assert plan("v2", "v1", {"v2": deployment(1)}) == Rollout("v2", floor=1)


def test_the_displaced_version_stays_for_the_window_and_goes_after_it():
    both = {"v1": deployment(1), "v2": deployment(1)}
    assert plan("v2", "v2", both, now=NOW + timedelta(minutes=4)) == Rollout("v2", again=360.0)
    assert plan("v2", "v2", both, now=NOW + timedelta(minutes=10)).remove == ("v1",)
    assert plan("v2", "v2", both, warm_until={}).remove == ("v1",)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 5), st.integers(5, 12), st.booleans())
def test_traffic_never_moves_to_fewer_ready_replicas_than_the_limits_allow(old, new, low, high, current):
    got = plan(
        "v2", "v1", {"v1": deployment(old), "v2": deployment(new, current=current)}, minimum=low, maximum=high
    )
    if got.target == "v2":
        assert current
        assert new >= min(max(old, low), high) >= 1
    else:
        assert low <= got.floor <= high
    assert got.remove == ()
    assert got.floor is None or low <= got.floor <= high


def test_after_the_turn_nothing_is_taken_away_while_the_autoscaler_remembers_idleness():
    serving = {"v2": deployment(8)}
    at = {"turned": NOW - timedelta(seconds=100)}
    assert plan("v2", "v2", serving, **at) == Rollout("v2", floor=8, again=200.0)
    assert plan("v2", "v2", serving, turned=NOW - timedelta(seconds=300)) == Rollout("v2")
    assert plan("v2", "v2", {"v2": deployment(12)}, **at).floor == 10
    assert plan("v2", "v2", {}, **at) == Rollout("v2")


def test_a_version_that_failed_on_its_way_makes_room_for_the_next_one():
    three = {"v0": deployment(1), "v1": deployment(8), "v2": deployment(0)}
    warm = {"v0": NOW + timedelta(seconds=30)}
    got = plan("v3", "v1", three, warm_until=warm)
    assert got == Rollout("v1", floor=8, remove=("v2",), again=30.0)
