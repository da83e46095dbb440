"""What conditions say between two rows of the truth table: the first look, a roll, a taken name, a rollback."""

from solera_operator.domain.assessment import Condition, Situation, conditions, first_conditions
from solera_operator.domain.diagnosis import Failure
from solera_operator.domain.promotion import Champion
from solera_operator.domain.version_conditions import version_conditions
from solera_operator.domain.versions import Verdict, Version, retire

SERVING = {
    "champion": Champion("iris-v1", "sha256:1", 1, "FirstVersion"),
    "target": "iris-v1",
    "champion_ready": 1,
    "target_ready": 1,
}
TAKEN = Failure("NameConflict", "a Job iris-v1-train exists that is not this version's: delete it")


def version(number: int, verdict: Verdict, digest: str = "sha256:1", token: str = "t") -> Version:
    return Version(f"iris-v{number}", number, token, f"u{number}", verdict, digest)


def by_type(found: tuple[Condition, ...]) -> dict[str, Condition]:
    return {condition.type: condition for condition in found}


def test_first_look_says_that_nothing_is_known_yet():
    found = {kind: condition.status for kind, condition in by_type(first_conditions()).items()}
    assert found == {"Ready": "Unknown", "Available": "False", "Reconciling": "True"}


def test_roll_to_a_changed_spec_is_not_ready_and_available():
    found = by_type(conditions(Situation(wanted=version(1, Verdict.ACCEPTED), rolling=True, **SERVING)))
    assert (found["Ready"].status, found["Ready"].reason) == ("False", "Progressing")
    assert found["Available"].status == "True"
    assert "Reconciling" in found


def test_roll_that_gets_stuck_says_why_while_old_pods_answer():
    stuck = Situation(
        wanted=version(1, Verdict.ACCEPTED),
        rolling=True,
        server_failure=Failure("Unschedulable", "no node fits"),
        **SERVING,
    )
    found = by_type(conditions(stuck))
    assert (found["Ready"].status, found["Ready"].reason) == ("False", "Unschedulable")
    assert found["Available"].status == "True"


def test_name_that_is_taken_stalls_model_and_version():
    pending = version(1, Verdict.PENDING, digest="")
    model = by_type(conditions(Situation(wanted=pending, wanted_note=TAKEN)))
    own = version_conditions(trained=False, evaluated=False, verdict=Verdict.PENDING, note=TAKEN)
    for found in (model, by_type(own)):
        assert (found["Stalled"].status, found["Stalled"].reason) == ("True", "NameConflict")
        assert found["Ready"].status == "False"
        assert "Reconciling" not in found
    assert model["Stalled"].message.startswith("iris-v1: ")


def test_version_that_was_rolled_back_is_named():
    found = by_type(conditions(Situation(wanted=version(2, Verdict.ACCEPTED), **SERVING)))
    assert found["Ready"].status == "True"
    assert "iris-v2" in found["Ready"].message
    assert "rolled back" in found["Ready"].message


def test_version_that_was_overtaken_before_its_verdict_is_retired_and_one_in_training_is_not():
    versions = [
        version(1, Verdict.PENDING),  # trained, its spec given up
        version(2, Verdict.PENDING, digest=""),  # still trains
        version(3, Verdict.ACCEPTED, token="now"),
    ]
    assert retire(versions, {"iris-v3"}, 1) == ("iris-v1",)
