"""What goes wrong every day shows in status within seconds, in words that help, and can be mended.

`told_after` is the time from the cause (a container that ended, a spec that was applied) until status names it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from kube import Kube, Object, wait_for
from models import TRAINER_POD, Model, conditions, merged, parse_time, quick

from solera_cluster import object_store

pytestmark = pytest.mark.usefixtures("data")

Measured = Callable[[str], None]
SECONDS = 12
"""Until status tells a cause that shows: times of containers are whole seconds, a Job's end takes two or three."""

CREDENTIALS = "solera-data"


def trainer_end(model: Model, version: str = "iris-v1") -> float | None:
    """When the last trainer container ended, None while none has."""
    ends = [
        parse_time(one["state"]["terminated"]["finishedAt"]).timestamp()
        for pod in model.pods(version, "train")
        for one in pod["status"].get("containerStatuses", ())
        if "terminated" in one["state"]
    ]
    return max(ends, default=None)


def check_told(told: Object, words: tuple[str, ...]) -> None:
    missing = [word for word in words if word not in told["message"]]
    assert not missing, f"the message does not say {missing}: {told['message']}"


@dataclass(frozen=True)
class Case:
    """A mistake in the data's address, shape or rights.

    Attributes:
        reason: what status must say.
        words: what its message must contain.
        training: the mistake, as a patch of spec.training.
        secret: values that a Secret of the data gets.
        mended: the patch of spec.training that recovers; None where recovery is not tried.
    """

    reason: str
    words: tuple[str, ...]
    training: Object
    secret: dict[str, str] = field(default_factory=dict)
    mended: Object | None = None


IRIS = {"uri": "s3://solera-data/iris/*.csv", "secretName": CREDENTIALS, "target": "species"}
CASES = [
    Case(
        "DataNotFound",
        ("s3://solera-data/nothing-here/",),
        {"data": {**IRIS, "uri": "s3://solera-data/nothing-here/*.csv"}},
        mended={"data": {"uri": IRIS["uri"]}},
    ),
    Case("TargetColumnMissing", ("kind", "species"), {"data": {**IRIS, "target": "kind"}}),
    Case(
        "TooFewRows",
        ("150", "1000"),
        {"data": {**IRIS, "checks": {"minRows": 1000}}},
        mended={"data": {"checks": {"minRows": 100}}},
    ),
    Case(
        "StoreUnavailable",
        ("object-store",),
        {"data": {**IRIS, "secretName": "closed-port"}},
        secret={"AWS_ENDPOINT_URL": "http://object-store.object-store.svc.cluster.local:7999"},
        mended={"data": {"secretName": CREDENTIALS}},
    ),
    Case(
        "StoreUnavailable",
        ("nowhere",),
        {"data": {**IRIS, "secretName": "no-such-host"}},
        secret={"AWS_ENDPOINT_URL": "http://nowhere.object-store.svc.cluster.local:7070"},
    ),
    Case(
        "StoreDenied",
        ("secretName",),
        {"data": {**IRIS, "secretName": "wrong-key"}},
        secret={"AWS_SECRET_ACCESS_KEY": "not-the-key"},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.reason}-{next(iter(case.words))}")
def test_data_cannot_be_used(kube: Kube, namespace: str, case: Case, measured: Measured) -> None:
    if case.secret:
        name = case.training["data"]["secretName"]
        secret = object_store.secret(name, namespace, object_store.ensure_credentials())
        kube.create("secrets", namespace, merged(secret, {"stringData": case.secret}))
    model = Model(kube, namespace)
    model.apply(quick(training=case.training))
    told = model.wait_reason(case.reason, stalled=True)
    seen = time.time()
    check_told(told, case.words)
    ended = trainer_end(model)
    assert ended is not None
    after = seen - ended
    assert after < SECONDS, f"told {after:.1f} s after the container had ended"
    failure = model.status()["lastFailure"]
    assert (failure["reason"], failure["version"]) == (case.reason, "iris-v1")
    assert failure["exitCode"] in {65, 69, 77}
    if case.mended is not None:
        model.change({"training": case.mended})
        wait_for(lambda: "Stalled" not in conditions(model.get()), 15, "the stall ends")
        model.wait_trained(2)
    measured(f"told after {after:.1f} s: {told['message']}")


def test_a_wrong_spec_is_told_before_anything_runs(kube: Kube, namespace: str, measured: Measured) -> None:
    model = Model(kube, namespace)
    wrong: list[tuple[str, tuple[str, ...], Object]] = [
        (
            "BadEstimator",
            ("LogisticRegresion", "LogisticRegression"),
            {"estimator": "sklearn.linear_model.LogisticRegresion"},
        ),
        ("BadParameter", ("max_itre", "max_iter"), {"params": {"max_itre": 500}}),
    ]
    for reason, words, mistake in wrong:
        begun = time.time()
        candidate = merged({"name": "a", "estimator": "sklearn.linear_model.LogisticRegression"}, mistake)
        model.apply(quick(training={"candidates": [candidate]}))
        told = model.wait_reason(reason, stalled=True, seconds=30)
        after = time.time() - begun
        check_told(told, words)
        assert after < SECONDS, f"{reason} told after {after:.1f} s"
        measured(f"{reason} told after {after:.1f} s: {told['message']}")
    assert not model.versions()
    model.apply(quick())
    wait_for(lambda: "Stalled" not in model.conditions() and model.versions(), 15, "the training begins")
    assert model.versions()[0]["metadata"]["name"] == "iris-v1"


def test_a_secret_is_missing(kube: Kube, namespace: str, measured: Measured) -> None:
    model = Model(kube, namespace)
    begun = time.time()
    model.apply(quick(training={"data": {**IRIS, "secretName": "not-yet"}}))
    told = model.wait_reason("SecretNotFound", stalled=False, seconds=45)
    after = time.time() - begun
    check_told(told, ("not-yet",))
    kube.create(
        "secrets", namespace, object_store.secret("not-yet", namespace, object_store.ensure_credentials())
    )
    model.wait_trained(1, seconds=180)  # the kubelet tries again when it likes
    measured(
        f"told {after:.1f} s after the apply: {told['message']}; trained {time.time() - begun:.0f} s after it"
    )


def test_a_quota_is_exceeded(kube: Kube, namespace: str, measured: Measured) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"pods": "0"}},
    }
    kube.create("resourcequotas", namespace, quota)
    wait_for(
        lambda: kube.get("resourcequotas", namespace, "none").get("status", {}).get("hard"),
        20,
        "the quota counts",
    )
    model = Model(kube, namespace)
    begun = time.time()
    model.apply(quick())
    told = model.wait_reason("QuotaExceeded", stalled=False, seconds=45)
    after = time.time() - begun
    assert after < SECONDS + 5, f"told {after:.1f} s after the apply"
    check_told(told, ("none", "pods"))
    kube.delete("resourcequotas", namespace, "none")
    model.wait_trained(1, seconds=180)  # the Job controller tries again when it likes
    measured(
        f"told {after:.1f} s after the apply: {told['message']}; trained {time.time() - begun:.0f} s after it"
    )


def test_no_node_fits(kube: Kube, namespace: str, measured: Measured) -> None:
    model = Model(kube, namespace)
    begun = time.time()
    model.apply(quick(training={"pod": {"nodeSelector": {"solera.dev/no-such": "node"}}}))
    told = model.wait_reason("Unschedulable", stalled=False, seconds=45)
    after = time.time() - begun
    assert after < SECONDS, f"told {after:.1f} s after the apply"
    check_told(told, ("node",))
    model.change({"training": {"pod": {"nodeSelector": None}}})
    model.wait_trained(2)
    measured(f"told {after:.1f} s after the apply: {told['message']}")


def test_the_trainer_runs_out_of_memory(kube: Kube, namespace: str, measured: Measured) -> None:
    model = Model(kube, namespace)
    tiny = merged(TRAINER_POD, {"resources": {"requests": {"memory": "90Mi"}, "limits": {"memory": "90Mi"}}})
    model.apply(quick(training={"pod": tiny}))
    told = model.wait_reason("OutOfMemory", stalled=True)
    seen = time.time()
    check_told(told, ("90Mi",))
    ended = trainer_end(model)
    assert ended is not None
    after = seen - ended
    assert after < SECONDS, f"told {after:.1f} s after the container had ended"
    assert model.status()["lastFailure"]["exitCode"] == 137
    model.change({"training": {"pod": TRAINER_POD}})
    model.wait_ready(serving="iris-v2", through_stall=True)
    assert "lastFailure" not in model.status()
    measured(f"told after {after:.1f} s: {told['message']}")


def test_the_deadline_passes(kube: Kube, namespace: str, measured: Measured) -> None:
    model = Model(kube, namespace)
    slow = {
        "name": "slow",
        "estimator": "sklearn.ensemble.RandomForestClassifier",
        "params": {"n_estimators": 10000},
        "search": {
            "method": "Grid",
            "space": {"max_depth": [4, 6, 8, 10], "min_samples_split": [2, 3, 4, 5]},
        },
    }
    pod = merged(TRAINER_POD, {"resources": {"limits": {"cpu": "500m"}}})
    training = {
        "candidates": [slow],
        "deadline": "1m",
        "pod": pod,
        "data": {"uri": "sklearn://digits", "target": "digit"},
    }
    model.apply(quick(training=training))
    begun = time.time()
    told = model.wait_reason("DeadlineExceeded", stalled=True, seconds=200)
    seen = time.time()
    ended = trainer_end(model)
    assert ended is not None
    assert seen - ended < SECONDS
    failure = model.status()["lastFailure"]
    assert failure["exitCode"] == 76, f"the trainer itself says so: {failure}"
    check_told(told, ("deadline",))
    measured(
        f"told {seen - ended:.1f} s after the trainer's end, {seen - begun:.0f} s after the apply: {told['message']}"
    )
