"""The champion: gates, pins, roll-back, reverts."""

from hypothesis import given
from hypothesis import strategies as st

from solera_operator.domain.promotion import (
    PINNED,
    UNPINNED,
    Champion,
    Pin,
    next_champion,
    pin_problem,
    pin_waits,
    rolled_back_after,
)
from solera_operator.domain.versions import Verdict, Version

NONE: frozenset[str] = frozenset()


def version(number: int, token: str, verdict: Verdict = Verdict.ACCEPTED, **kw) -> Version:
    return Version(
        f"iris-v{number}", number, token, f"u{number}", verdict, kw.pop("digest", f"sha256:{number}")
    )


def champion(number: int, revision: int = 1, reason: str = "GatesPassed") -> Champion:
    return Champion(f"iris-v{number}", f"sha256:{number}", revision, reason)


def test_the_first_accepted_version_becomes_champion():
    assert next_champion(None, [version(1, "a")], "a", None, NONE) == champion(1, 1, "FirstVersion")


def test_a_rejected_version_never_becomes_champion():
    versions = [version(1, "a"), version(2, "b", Verdict.REJECTED)]
    assert next_champion(champion(1), versions, "b", None, NONE) is None


def test_a_better_version_takes_over_and_the_revision_grows():
    versions = [version(1, "a"), version(2, "b")]
    assert next_champion(champion(1, 5), versions, "b", None, NONE) == champion(2, 6)


def test_a_reverted_spec_brings_its_version_back():
    versions = [version(1, "a"), version(2, "b")]
    assert next_champion(champion(2, 2), versions, "a", None, NONE) == champion(1, 3, "SpecReverted")


def test_a_pin_is_obeyed_at_once_even_for_a_rejected_version():
    versions = [version(1, "a"), version(2, "b", Verdict.REJECTED)]
    assert next_champion(champion(1), versions, "a", Pin("iris-v2"), NONE) == champion(2, 2, PINNED)


def test_a_pin_of_the_champion_itself_holds_it():
    new = next_champion(champion(1), [version(1, "a")], "a", Pin("iris-v1"), NONE)
    assert new == champion(1, 2, PINNED)
    assert next_champion(new, [version(1, "a")], "a", Pin("iris-v1"), NONE) is None


def test_a_pin_that_ends_leaves_a_rolled_back_version_alone():
    versions = [version(1, "a"), version(2, "a")]
    pinned = next_champion(champion(2, 2), versions, "a", Pin("iris-v1"), NONE)
    rolled_back = rolled_back_after(NONE, champion(2, 2), pinned, versions)
    assert rolled_back == {"iris-v2"}
    unpinned = next_champion(pinned, versions, "a", None, rolled_back)
    assert unpinned == champion(1, 4, UNPINNED)
    assert next_champion(unpinned, versions, "a", None, rolled_back) is None


def test_a_newer_version_takes_over_when_the_pin_ends():
    versions = [version(1, "a"), version(2, "b"), version(3, "c")]
    pinned = champion(1, 3, PINNED)
    assert next_champion(pinned, versions, "c", None, frozenset({"iris-v2"})) == champion(3, 4)


def test_a_pinned_again_version_is_forgiven():
    versions = [version(1, "a"), version(2, "b")]
    again = champion(2, 4, PINNED)
    assert rolled_back_after(frozenset({"iris-v2"}), champion(1, 3, PINNED), again, versions) == NONE


def test_when_a_pin_to_a_rejected_version_ends_the_newest_accepted_takes_over():
    versions = [version(1, "a"), version(2, "b", Verdict.REJECTED)]
    assert next_champion(champion(2, 4, PINNED), versions, "b", None, NONE).version == "iris-v1"


def test_stricter_gates_take_no_champion_down():
    versions = [version(1, "a"), version(2, "b", Verdict.REJECTED)]
    assert next_champion(champion(2, 4), versions, "b", None, NONE) is None


def test_pin_problems_say_what_to_write():
    versions = [version(1, "a"), version(2, "b", Verdict.FAILED, digest="")]
    assert "there are: iris-v1, iris-v2" in pin_problem(Pin("iris-v9"), versions).message
    assert pin_problem(Pin("iris-v2"), versions).reason == "PinnedVersionNotTrained"
    assert pin_problem(Pin("iris-v1", "sha256:x"), versions).reason == "PinnedDigestMismatch"
    assert pin_problem(Pin("iris-v1", "sha256:1"), versions) is None


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(list(Verdict))), min_size=1, max_size=5),
    st.lists(st.one_of(st.none(), st.integers(1, 5)), max_size=8),
)
def test_without_a_pin_only_accepted_versions_are_promoted_and_it_settles(made, pins):
    versions = [version(i, t, v) for i, (t, v) in enumerate(made, 1)]
    current, rolled_back = None, NONE
    for pin in [*pins, None]:
        wish = Pin(f"iris-v{pin}") if pin else None
        for _ in range(3):
            new = next_champion(current, versions, "a", wish, rolled_back)
            if new is None:
                break
            assert new.revision == (current.revision if current else 0) + 1
            verdict = next(v.verdict for v in versions if v.name == new.version)
            assert wish is not None or verdict is Verdict.ACCEPTED
            rolled_back = rolled_back_after(rolled_back, current, new, versions)
            current = new
        assert next_champion(current, versions, "a", wish, rolled_back) is None


def test_an_edit_of_gates_after_a_pin_has_ended_throws_nobody_out():
    versions = [version(1, "a"), version(2, "b")]
    pinned = champion(2, 4, PINNED)
    unpinned = next_champion(pinned, versions, "b", None, NONE)
    assert unpinned == champion(2, 5, UNPINNED)
    edited = [version(1, "a"), version(2, "b", Verdict.PENDING)]
    assert next_champion(unpinned, edited, "b", None, NONE) is None
    assert next_champion(pinned, edited, "b", None, NONE) is None
    stricter = [version(1, "a"), version(2, "b", Verdict.REJECTED)]
    assert next_champion(unpinned, stricter, "b", None, NONE) is None


def test_a_pin_to_a_version_under_way_waits_for_it():
    versions = [version(1, "a"), version(2, "b", Verdict.PENDING, digest="")]
    assert pin_problem(Pin("iris-v2"), versions) is None
    assert pin_waits(Pin("iris-v2"), versions).reason == "PinnedVersionTraining"
    assert next_champion(champion(1), versions, "b", Pin("iris-v2"), NONE) is None
    assert pin_waits(Pin("iris-v1"), versions) is None
