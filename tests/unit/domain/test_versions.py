"""Numbers are never used again, a token gets one version, and a crash in between changes nothing."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from solera_operator.domain.versions import (
    Confirm,
    Create,
    LastVersion,
    Reserve,
    Verdict,
    Version,
    plan_version,
    retire,
    wanted_version,
)


def version(number: int, token: str = "t", **kw) -> Version:
    return Version(name=f"iris-v{number}", number=number, token=token, uid=f"u{number}", **kw)


def test_the_first_version_is_reserved_then_created_then_confirmed():
    assert plan_version([], LastVersion(), "t") == Reserve(1, "t")
    assert plan_version([], LastVersion(1, "t"), "t") == Create(1, "t", "Created")
    assert plan_version([version(1)], LastVersion(1, "t"), "t") == Confirm("u1")
    assert plan_version([version(1)], LastVersion(1, "t", "u1"), "t") is None


def test_a_changed_spec_reserves_the_next_number():
    last = LastVersion(1, "t", "u1")
    assert plan_version([version(1)], last, "other") == Reserve(2, "other")
    assert plan_version([version(1)], LastVersion(2, "other"), "other") == Create(2, "other", "SpecChanged")


def test_a_reverted_spec_finds_its_version_and_makes_none():
    versions = [version(1, "a"), version(2, "b")]
    assert plan_version(versions, LastVersion(2, "b", "u2"), "a") is None
    assert wanted_version(versions, "a").number == 1


def test_a_deleted_newest_version_is_made_again_under_a_new_number():
    assert plan_version([], LastVersion(3, "t", "u3"), "t") == Reserve(4, "t")


def test_a_number_seen_in_the_cluster_is_not_given_out_when_status_was_lost():
    assert plan_version([version(7, "old")], LastVersion(), "t") == Reserve(8, "t")


def test_retire_keeps_what_is_used_and_what_is_under_way():
    versions = [version(n, verdict=Verdict.ACCEPTED) for n in range(1, 6)]
    versions.append(version(6))
    assert retire(versions, {"iris-v1", "iris-v5"}, limit=3) == ("iris-v2", "iris-v3", "iris-v4")
    assert retire(versions, set(), limit=10) == ()


def test_a_version_that_was_given_up_is_not_found_again():
    given_up = version(1, "a", verdict=Verdict.SUPERSEDED)
    assert wanted_version([given_up], "a") is None
    assert plan_version([given_up, version(2, "b")], LastVersion(2, "b", "u2"), "a") == Reserve(3, "a")
    assert wanted_version([given_up, version(3, "a")], "a").number == 3


def test_a_number_that_was_given_up_before_it_was_confirmed_is_not_made_again():
    versions = [version(1, "a"), version(2, "b", verdict=Verdict.SUPERSEDED)]
    assert plan_version(versions, LastVersion(2, "b"), "b") == Reserve(3, "b")


def test_what_was_given_up_is_retired():
    versions = [version(1, verdict=Verdict.SUPERSEDED), version(2, verdict=Verdict.ACCEPTED, digest="d")]
    assert retire(versions, {"iris-v2"}, limit=1) == ("iris-v1",)


@dataclass
class World:
    """A TrainedModel and its versions, driven by plan_version with crashes between any two writes."""

    last: LastVersion = field(default_factory=LastVersion)
    versions: list[Version] = field(default_factory=list)
    given: list[tuple[int, str]] = field(default_factory=list)

    def step(self, token: str) -> bool:
        plan = plan_version(self.versions, self.last, token)
        match plan:
            case Reserve(number, t):
                self.last = LastVersion(number, t)
            case Create(number, t, _):
                self.given.append((number, t))
                self.versions.append(Version(f"m-v{number}", number, t, f"uid{len(self.given)}"))
            case Confirm(uid):
                self.last = LastVersion(self.last.number, self.last.token, uid)
        return plan is not None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.booleans()), max_size=30))
def test_no_number_is_given_twice_whatever_the_spec_does(changes):
    world = World()
    for token, steps, delete_newest in changes:
        for _ in range(steps):
            world.step(token)
        # Deleted before it was confirmed, a version cannot be told from one that was never created.
        if delete_newest and world.versions and world.last.uid == world.versions[-1].uid:
            world.versions.pop()
    for _ in range(4):
        world.step("a")
    numbers = [number for number, _ in world.given]
    assert len(numbers) == len(set(numbers))
    assert wanted_version(world.versions, "a") is not None
    assert not world.step("a")


def test_failed_attempts_go_before_what_one_could_roll_back_to():
    trained = [version(n, digest="sha256:1", verdict=Verdict.ACCEPTED) for n in (1, 2)]
    failed = [version(n, verdict=Verdict.FAILED) for n in (3, 4, 5)]
    assert retire([*trained, *failed], {"iris-v5"}, limit=3) == ("iris-v3", "iris-v4")
