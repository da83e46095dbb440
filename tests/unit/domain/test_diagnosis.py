"""What pods, Jobs and Events show, in one reason and one sentence. The objects are as a kubelet writes them."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solera_operator.api.objects import Condition
from solera_operator.domain.diagnosis import (
    Failure,
    ask_about,
    ask_again,
    event_failure,
    job_failure,
    pod_failure,
    reason_word,
    speaks_in_events_only,
    told,
)
from solera_operator.domain.observed import Job, KubeEvent, Meta, Pod, project_job, project_pod


def pod(*statuses: dict, phase: str = "Pending", conditions: tuple = (), **status) -> dict:
    return {
        "metadata": {
            "name": "p",
            "namespace": "ns",
            "uid": "u",
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"batch.kubernetes.io/job-name": "iris-v1-train", "solera.dev/model": "iris", "x": "y"},
        },
        "spec": {"containers": [{"name": "train", "resources": {"limits": {"memory": "64Mi"}}}]},
        "status": {
            "phase": phase,
            "containerStatuses": list(statuses),
            "conditions": list(conditions),
            **status,
        },
    }


def waiting(reason: str, message: str = "") -> dict:
    return {"name": "train", "state": {"waiting": {"reason": reason, "message": message}}, "restartCount": 0}


def ended(code: int, reason: str = "Error", message: str = "") -> dict:
    state = {"exitCode": code, "reason": reason, "message": message, "finishedAt": "2026-01-01T00:00:05Z"}
    return {"name": "train", "state": {"terminated": state}, "restartCount": 0}


def crashed(code: int, reason: str = "Error", message: str = "") -> dict:
    return {
        "name": "train",
        "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": {"terminated": {"exitCode": code, "reason": reason, "message": message}},
    }


SAID = json.dumps(
    {"kind": "train", "ok": False, "failure": {"reason": "DataNotFound", "message": "s3://m/x: no object"}}
)
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient cpu.",
}
CASES = [
    (pod(waiting("ImagePullBackOff", 'Back-off pulling image "nope"')), "ImagePullFailed", "nope"),
    (pod(waiting("CreateContainerConfigError", 'secret "s" not found')), "ContainerConfigError", "secret"),
    (pod(conditions=(UNSCHEDULABLE,)), "Unschedulable", "Insufficient cpu"),
    (pod(ended(137, "OOMKilled"), phase="Failed"), "OutOfMemory", "64Mi"),
    (pod(crashed(137, "OOMKilled"), phase="Running"), "OutOfMemory", "64Mi"),
    (pod(ended(65, message=SAID), phase="Failed"), "DataNotFound", "s3://m/x"),
    (pod(ended(65, message="some log\n" + SAID), phase="Failed"), "DataNotFound", "s3://m/x"),
    (pod(ended(1, message="boom\nTypeError: no"), phase="Failed"), "ContainerFailed", "TypeError: no"),
    (pod(phase="Failed", reason="Evicted", message="low on memory"), "Evicted", "low on memory"),
]


@pytest.mark.parametrize(("obj", "reason", "part"), CASES, ids=[c[1] + str(i) for i, c in enumerate(CASES)])
def test_a_pod_says_what_is_wrong(obj, reason, part):
    failure = pod_failure(project_pod(obj))
    assert failure is not None
    assert failure.reason == reason
    assert part in failure.message


@pytest.mark.parametrize(
    "obj",
    [
        pod(),
        pod(waiting("ContainerCreating")),
        pod(ended(0, "Completed"), phase="Succeeded"),
        pod({"name": "train", "state": {"running": {}}, "restartCount": 0}, phase="Running"),
    ],
    ids=["new", "creating", "done", "running"],
)
def test_nothing_is_wrong_with_a_pod_that_gets_on(obj):
    assert pod_failure(project_pod(obj)) is None


def test_only_labels_of_solera_are_kept():
    assert project_pod(pod()).meta.labels == {"solera.dev/model": "iris"}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            'pods "x" is forbidden: exceeded quota: q, requested: cpu=2, used: cpu=0, limited: cpu=1',
            "QuotaExceeded",
        ),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', "PodSecurityViolation"),
        ('error looking up service account ns/sa: serviceaccount "sa" not found', "ServiceAccountNotFound"),
        ('MountVolume.SetUp failed for volume "data" : secret "iris-data" not found', "SecretNotFound"),
        ('MountVolume.SetUp failed for volume "ca" : configmap "ca" not found', "ConfigMapNotFound"),
        ("something else", "FailedCreate"),
    ],
)
def test_events_tell_what_status_does_not(message, reason):
    events = [KubeEvent("SuccessfulCreate", "created pod"), KubeEvent("FailedCreate", message)]
    failure = event_failure(events)
    assert failure == Failure(reason, message)


def test_good_events_are_no_failure():
    assert event_failure([KubeEvent("Scheduled", "assigned"), KubeEvent("Pulled", "image present")]) is None


def job(**status) -> dict:
    return {"metadata": {"name": "j", "namespace": "ns", "uid": "u"}, "spec": {}, "status": status}


def test_events_are_read_only_when_nothing_else_speaks():
    running = project_job(job(active=1))
    creating = project_pod(pod(waiting("ContainerCreating")))
    assert speaks_in_events_only(running, [])
    assert speaks_in_events_only(running, [creating])
    assert not speaks_in_events_only(running, [project_pod(pod(waiting("ErrImagePull")))])
    done = project_job(job(conditions=[{"type": "Complete", "status": "True"}]))
    assert not speaks_in_events_only(done, [])


def failed_job(reason: str, message: str = "") -> dict:
    condition = {"type": "Failed", "status": "True", "reason": reason, "message": message}
    return job(failed=1, conditions=[condition])


def test_a_failed_job_speaks_with_the_words_of_its_pod():
    failed = project_job(failed_job("PodFailurePolicy"))
    got = job_failure(failed, [project_pod(pod(ended(65, message=SAID), phase="Failed"))])
    assert got == Failure("DataNotFound", "s3://m/x: no object", 65)


def test_a_deadline_says_what_held_the_job_up():
    late = project_job(failed_job("DeadlineExceeded"))
    got = job_failure(late, [project_pod(pod(waiting("ImagePullBackOff", "nope")))])
    assert got.reason == "DeadlineExceeded"
    assert "ImagePullFailed: nope" in got.message
    assert "spec.training.deadline" in got.message


def test_a_failed_job_without_pods_speaks_by_its_condition():
    got = job_failure(project_job(failed_job("BackoffLimitExceeded", "limit reached")), [])
    assert got == Failure("BackoffLimitExceeded", "limit reached")


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "3", "\n\n", "x\ny"])
def test_text_that_is_no_document_is_no_document(text):
    assert told(text) is None


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ("", "Fallback"),
        ("BackoffLimitExceeded", "BackoffLimitExceeded"),
        ("NodeLost: node-7", "NodeLost_node_7"),
        ("NoMatchingParent,Other", "NoMatchingParent_Other"),
        ("Trailing_", "Trailing"),
        ("1-2", "Fallback"),
        ("Überlast", "berlast"),
        ("The node was low on memory.", "The_node_was_low_on_memory"),
        ("x" * 200, "x" * 128),
    ],
)
def test_reasons_of_others_become_words(found, word):
    assert reason_word(found, "Fallback") == word


@given(st.text(max_size=300))
def test_any_reason_of_others_fits_a_condition(found):
    word = reason_word(found, "Fallback")
    made = Condition.model_validate(
        {"type": "Ready", "status": "False", "reason": word, "lastTransitionTime": "2026-01-02T00:00:00Z"}
    )
    assert made.reason == word


def test_a_strange_reason_of_a_pod_or_a_job_can_be_recorded():
    pod = Pod(
        Meta("p", "ns", "u", "1"), phase="Failed", reason="UnexpectedAdmissionError: device", message="x"
    )
    assert pod_failure(pod).reason == "UnexpectedAdmissionError_device"
    job = Job(Meta("j", "ns", "u", "1"), outcome="Failed", reason="queue.example.com/Evicted")
    assert job_failure(job, ()).reason == "queue_example_com_Evicted"


NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


def aged(*seconds: float) -> list[Meta]:
    return [Meta(f"p{s}", "ns", f"u{s}", "1", created=NOW - timedelta(seconds=s)) for s in seconds]


def test_events_are_read_about_the_three_newest_that_are_old_enough():
    assert ask_about(aged(100, 1, 5, 50, 4, 2.9, 3), NOW) == ("u3", "u4", "u5")
    assert ask_about(aged(*range(100, 200)), NOW) == ("u100", "u101", "u102")
    assert ask_about(aged(0, 2), NOW) == ()
    assert ask_about((), NOW) == ()


def test_clocks_that_differ_and_times_that_are_missing_hide_nothing():
    assert ask_about(aged(-60), NOW) == ("u-60",)
    assert ask_about([Meta("p", "ns", "u", "1")], NOW) == ("u",)
    assert ask_again([Meta("p", "ns", "u", "1")], NOW) == 15


def test_events_are_read_again_soon_while_something_is_new_then_seldom():
    assert ask_again(aged(0), NOW) == 3
    assert ask_again(aged(500, 11), NOW) == 3
    assert ask_again(aged(500, 12), NOW) == 15
    assert ask_again(aged(3600), NOW) == 15
