"""The next act for a version, from what is recorded and what its Jobs show."""

import json
from dataclasses import replace

from solera_operator.domain.diagnosis import Failure
from solera_operator.domain.lifecycle import (
    Act,
    Recorded,
    Run,
    give_up,
    next_step,
    settled,
    superseded,
    whole,
)
from solera_operator.domain.observed import Container, Job, KubeEvent, Meta, Pod
from solera_operator.domain.versions import Verdict, Version

NEW = Recorded()
TRAINED = Recorded(digest="sha256:1")
NOTHING = Run()


def job(outcome: str = "", **kw) -> Job:
    return Job(Meta("j", "ns", "uj", "1"), outcome=outcome, **kw)


def pod(message: str = "", code: int | None = 0, phase: str = "Succeeded", state: str = "terminated") -> Pod:
    container = Container("main", state, message=message, exit_code=code)
    return Pod(Meta("p", "ns", "up", "1"), phase=phase, containers=(container,))


DIGEST = "sha256:" + "1" * 64
SAID = {
    "train": {
        "artifact": {"uri": "s3://b/a", "digest": DIGEST, "sizeBytes": 1},
        "rows": {"train": 8, "test": 2},
        "candidate": {"name": "a"},
    },
    "evaluate": {"digest": DIGEST, "passed": True, "metrics": [], "gates": []},
}


def result(kind: str = "train") -> str:
    return json.dumps({"kind": kind, "ok": True, **SAID[kind]})


def step(recorded=NEW, wanted="", train=NOTHING, evaluate=NOTHING, report=NOTHING):
    return next_step(recorded, wanted, train, evaluate, report)


def test_a_new_version_is_trained_once():
    assert step().act is Act.TRAIN
    assert step(train=Run(job(active=1))).act is Act.WAIT


def test_a_finished_training_is_recorded():
    got = step(train=Run(job("Complete"), (pod(result()),)))
    assert got.act is Act.RECORD_TRAIN
    assert got.result["artifact"]["digest"] == DIGEST


def test_a_lost_pod_is_asked_for_by_a_report_job():
    done = Run(job("Complete"))
    assert step(train=done).act is Act.REPORT_TRAIN
    assert (
        step(train=done, report=Run(job(active=1), (pod(phase="Running", state="running"),))).act is Act.WAIT
    )
    assert step(train=done, report=Run(job("Complete"), (pod(result()),))).act is Act.RECORD_TRAIN
    assert step(train=done, report=Run(job("Complete"))).note.reason == "ResultLost"


def test_a_message_of_another_kind_is_not_taken_for_the_result():
    assert step(train=Run(job("Complete"), (pod(result("evaluate")),))).act is Act.REPORT_TRAIN


def test_a_failed_training_is_final():
    assert step(train=Run(job("Failed", reason="BackoffLimitExceeded"))).act is Act.RECORD_FAILURE
    assert step(replace(NEW, failed=True), train=Run(job("Failed"))).act is Act.DONE


def test_only_a_version_that_is_wanted_is_evaluated_and_only_once_for_its_gates():
    assert step(TRAINED).act is Act.DONE
    assert step(TRAINED, "e1").act is Act.EVALUATE
    assert step(replace(TRAINED, evaluation="e1"), "e1").act is Act.DONE
    assert step(replace(TRAINED, evaluation="e1"), "e2").act is Act.EVALUATE
    assert step(replace(TRAINED, failed_evaluation="e1"), "e1").act is Act.DONE
    got = step(TRAINED, "e1", evaluate=Run(job("Complete"), (pod(result("evaluate")),)))
    assert got.act is Act.RECORD_EVALUATE


def test_progress_says_what_it_waits_for():
    assert step(train=Run(job(suspended=True))).note.reason == "Queued"
    quota = KubeEvent("FailedCreate", "exceeded quota: q")
    assert step(train=Run(job(), events=(quota,))).note == Failure("QuotaExceeded", "exceeded quota: q")
    failed = pod("boom", code=70, phase="Failed")
    running = Pod(Meta("q", "ns", "uq", "1"), phase="Running", containers=(Container("main", "running"),))
    note = step(train=Run(job(active=1, failed=1), (failed, running))).note
    assert note.reason == "ContainerFailed"
    assert "tried again" in note.message


def test_an_ended_job_is_seen_whole_only_with_what_its_pod_said():
    assert whole(job(), (), "train")
    assert not whole(job("Complete"), (), "train")
    assert not whole(job("Complete"), (pod(phase="Running", state="running", code=None),), "train")
    assert not whole(job("Complete"), (pod(result("evaluate")),), "train")
    assert whole(job("Complete"), (pod(result()),), "train")


def test_why_a_job_failed_is_never_told_from_a_cache_that_may_be_behind():
    assert not whole(job("Failed"), (), "train")
    assert not whole(job("Failed"), (pod("first try", code=70, phase="Failed"),), "train")


def test_nothing_is_looked_at_when_all_that_is_wanted_is_recorded():
    assert not settled(NEW, "")
    assert settled(replace(NEW, failed=True), "e1")
    assert settled(TRAINED, "")
    assert not settled(TRAINED, "e1")
    assert settled(replace(TRAINED, evaluation="e1"), "e1")
    assert settled(replace(TRAINED, failed_evaluation="e1"), "e1")
    assert not settled(replace(TRAINED, evaluation="e1"), "e2")


def version(number: int, verdict: Verdict = Verdict.PENDING, digest: str = "") -> Version:
    return Version(f"iris-v{number}", number, f"t{number}", f"u{number}", verdict=verdict, digest=digest)


def test_a_training_is_given_up_for_another_version():
    assert superseded(version(1), 2, version(2), "")
    assert superseded(version(2), 2, version(1), ""), "the spec went back to an earlier one"


def test_what_is_wanted_pinned_trained_or_ended_is_not_given_up():
    assert not superseded(version(1), 1, version(1), "")
    assert not superseded(version(1), 2, None, ""), "what takes its place is not there yet"
    assert not superseded(version(1), 2, version(2), "iris-v1")
    assert not superseded(version(1, digest="sha256:1"), 2, version(2), "")
    for verdict in (Verdict.ACCEPTED, Verdict.REJECTED, Verdict.FAILED, Verdict.SUPERSEDED):
        assert not superseded(version(1, verdict), 2, version(2), "")


def test_a_model_that_was_read_before_the_version_was_made_gives_nothing_up():
    assert not superseded(version(2), 1, version(1), "")


def test_a_result_is_recorded_though_nobody_waits_for_it():
    for run in (Run(), Run(job(active=1))):
        assert give_up(step(train=run), run).note.reason == "Superseded"
    done = Run(job("Complete"), (pod(result()),))
    assert give_up(step(train=done), done).act is Act.RECORD_TRAIN
    lost = Run(job("Complete"))
    assert give_up(step(train=lost, report=Run(job(active=1))), lost).act is Act.WAIT
    failed = Run(job("Failed", reason="BackoffLimitExceeded"))
    assert give_up(step(train=failed), failed).note.reason == "BackoffLimitExceeded"
