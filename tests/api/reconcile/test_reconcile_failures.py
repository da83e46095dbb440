"""Failures of every day: each has its own reason in status, a message that helps, and a way back."""

import json
from collections.abc import Callable

import pytest
from player import Object, ended, failure_result, running, unschedulable, waiting
from scene import SPEC, Scene

NO_IMAGE = 'Back-off pulling image "localhost/solera-trainer:test": not found'
NO_NODE = "0/3 nodes are available: 3 Insufficient memory."
QUOTA = (
    'Error creating: pods "x" is forbidden: exceeded quota: compute, requested: limits.memory=2Gi, '
    "used: limits.memory=7Gi, limited: limits.memory=8Gi"
)
NO_SECRET = 'MountVolume.SetUp failed for volume "data" : secret "iris-data" not found'
NO_CLAIM = '0/1 nodes are available: persistentvolumeclaim "tables" not found.'
NO_ACCOUNT = 'Error creating: pods "x" is forbidden: error looking up service account t/trainer: serviceaccount "trainer" not found'


def told(reason: str, message: str, code: int) -> Object:
    """A pod of a training that ended with these words."""
    return ended("trainer", code, json.dumps(failure_result("train", reason, message)))


# What the pods of a failed train Job show, the reason in status, a part of the message.
FINAL: dict[str, tuple[Object | None, str, str]] = {
    "data not found": (
        told("DataNotFound", "s3://data/iris.parquet: no such object; is the bucket right?", 65),
        "DataNotFound",
        "s3://data/iris.parquet",
    ),
    "target column missing": (
        told("TargetColumnMissing", "no column species; there are: a, b", 65),
        "TargetColumnMissing",
        "there are: a, b",
    ),
    "too few rows": (
        told("TooFewRows", "12 rows, spec.training.data.checks.minRows is 100", 65),
        "TooFewRows",
        "12 rows",
    ),
    "store denied": (
        told("StoreDenied", "s3://artifacts: access denied", 77),
        "StoreDenied",
        "access denied",
    ),
    "store unreachable": (
        told("StoreUnavailable", "http://store.example.com:7070 does not answer", 69),
        "StoreUnavailable",
        "does not answer",
    ),
    "own deadline": (told("DeadlineExceeded", "not done after 1h", 76), "DeadlineExceeded", "not done"),
    "out of memory": (ended("trainer", 137, "", "OOMKilled"), "OutOfMemory", "2Gi"),
    "crash without words": (
        ended("trainer", 1, "Traceback\nKeyError: 'x'"),
        "ContainerFailed",
        "KeyError: 'x'",
    ),
}


@pytest.mark.parametrize("what", FINAL)
def test_failed_training(scene: Scene, what: str):
    pod, reason, part = FINAL[what]
    scene.create()
    job = scene.until_job(f"{scene.version(1)}-train")
    scene.player.fail(job, pod)
    message = scene.until_stalled(reason)
    assert part in message
    assert scene.version(1) in message
    failure = scene.status["lastFailure"]
    assert (failure["reason"], failure["version"]) == (reason, scene.version(1))
    assert pod is not None
    code = pod["containerStatuses"][0]["state"]["terminated"]["exitCode"]
    assert failure["exitCode"] == code
    version = scene.player.get("ModelVersion", scene.version(1))
    assert version is not None
    assert version["status"]["lastFailure"]["reason"] == reason
    assert scene.player.names("Job") == [f"{scene.version(1)}-train"], "nothing is tried again by itself"
    scene.until(
        "a time to live on the Job", lambda: "ttlSecondsAfterFinished" in scene.player.all("Job")[0]["spec"]
    )

    scene.retrain(2)
    scene.serve(2)
    assert scene.champion()[0] == scene.version(2)
    scene.until("no failure in status", lambda: "lastFailure" not in scene.status)


def test_failed_training_leaves_the_champion_and_reverting_recovers(scene: Scene):
    scene.create()
    scene.serve(1)
    scene.retrain(2)
    job = scene.until_job(f"{scene.version(2)}-train")
    scene.player.fail(job, told("DataNotFound", "s3://data/iris.parquet: no such object", 65))
    scene.until_stalled("DataNotFound")
    assert scene.condition("Available") == ("True", "Serving")
    assert scene.target() == scene.version(1)
    scene.retrain(0)
    scene.until_condition("Ready", "True", "Serving")
    assert scene.player.names("ModelVersion") == [scene.version(1), scene.version(2)]


def test_job_past_its_deadline_says_what_held_it_up(scene: Scene):
    scene.create()
    job = scene.until_job(f"{scene.version(1)}-train")
    scene.player.fail(
        job, unschedulable(NO_NODE), reason="DeadlineExceeded", message="Job was active too long"
    )
    message = scene.until_stalled("DeadlineExceeded")
    assert "spec.training.deadline" in message
    assert "Insufficient memory" in message


def test_failed_job_without_pods_says_what_the_job_says(scene: Scene):
    scene.create()
    job = scene.until_job(f"{scene.version(1)}-train")
    scene.player.fail(
        job, None, reason="BackoffLimitExceeded", message="Job has reached the specified backoff limit"
    )
    message = scene.until_stalled("BackoffLimitExceeded")
    assert "backoff limit" in message


def test_failed_evaluation_is_stalled_and_other_gates_try_again(scene: Scene):
    scene.create()
    scene.train(1)
    job = scene.until_evaluation(1)
    said = failure_result("evaluate", "StoreDenied", "s3://artifacts: access denied")
    scene.player.fail(job, ended("trainer", 77, json.dumps(said)))
    message = scene.until_stalled("StoreDenied")
    assert "access denied" in message
    assert scene.player.names("Deployment") == []
    scene.change(gates=[{"metric": "accuracy", "min": "0.81"}])
    scene.evaluate(1, besides=[job["metadata"]["name"]])
    scene.until("a champion", lambda: scene.champion()[0] == scene.version(1))


def _pod(status: Object) -> Callable[[Scene, Object], None]:
    return lambda scene, job: _ignore(scene.player.job_pod(job, status))


def _event(reason: str, message: str) -> Callable[[Scene, Object], None]:
    return lambda scene, job: scene.player.event(job, reason, message)


def _pod_event(reason: str, message: str) -> Callable[[Scene, Object], None]:
    def write(scene: Scene, job: Object) -> None:
        pod = scene.player.job_pod(job, waiting("trainer", "ContainerCreating"))
        scene.player.event(pod, reason, message)

    return write


def _ignore(_: Object) -> None:
    pass


# What holds up a train Job that is not failed yet, the reason, a part of the message.
HELD_UP: dict[str, tuple[Callable[[Scene, Object], None], str, str]] = {
    "image pull": (
        _pod(waiting("trainer", "ImagePullBackOff", NO_IMAGE)),
        "ImagePullFailed",
        "solera-trainer:test",
    ),
    "unschedulable": (_pod(unschedulable(NO_NODE)), "Unschedulable", "Insufficient memory"),
    "quota": (_event("FailedCreate", QUOTA), "QuotaExceeded", "exceeded quota: compute"),
    "secret": (_pod_event("FailedMount", NO_SECRET), "SecretNotFound", "iris-data"),
    "volume claim": (_pod_event("FailedScheduling", NO_CLAIM), "VolumeClaimNotFound", "tables"),
    "account": (_event("FailedCreate", NO_ACCOUNT), "ServiceAccountNotFound", "trainer"),
    "first try": (_pod(ended("trainer", 137, "", "OOMKilled")), "OutOfMemory", "tried again"),
}


@pytest.mark.parametrize("what", HELD_UP)
def test_training_that_is_held_up(scene: Scene, what: str):
    write, reason, part = HELD_UP[what]
    scene.create()
    job = scene.until_job(f"{scene.version(1)}-train")
    write(scene, job)
    message = scene.until_condition("Ready", "False", reason, seconds=10)
    assert part in message
    assert scene.condition("Reconciling") == ("True", reason), "it may still come right: not Stalled"
    assert scene.condition("Stalled") == ("", "")
    assert scene.condition("Training") == ("True", reason)
    if what == "first try":
        return
    for pod in scene.player.all("Pod"):
        scene.player.set_pod(pod["metadata"]["name"], running("trainer"))
    if not scene.player.all("Pod"):
        scene.player.job_pod(job, running("trainer"))
    scene.until_condition("Ready", "False", "Training", seconds=10)


def test_suspended_job_is_queued(scene: Scene):
    scene.create()
    job = scene.until_job(f"{scene.version(1)}-train")
    scene.api.ok(
        scene.api.patch(scene.player.path("Job", job["metadata"]["name"]), {"spec": {"suspend": True}})
    )
    scene.until_condition("Ready", "False", "Queued")


# -- servers ---------------------------------------------------------------------------------------


def _champion(scene: Scene) -> Object:
    """Promote version 1 and return its Deployment."""
    scene.create()
    scene.train(1)
    scene.evaluate(1)
    found: Object = scene.until("servers", lambda: scene.player.get("Deployment", scene.version(1)))
    return found


CORRUPT = json.dumps(failure_result("server", "ArtifactCorrupt", "model.skops is not what the manifest says"))
SERVERS: dict[str, tuple[Object, str, str]] = {
    "crash loop": (
        waiting(
            "server",
            "CrashLoopBackOff",
            "back-off 20s",
            last={"exitCode": 65, "message": CORRUPT},
            restarts=3,
        ),
        "ArtifactCorrupt",
        "model.skops",
    ),
    "out of memory": (
        waiting("server", "CrashLoopBackOff", "", last={"exitCode": 137, "reason": "OOMKilled"}, restarts=2),
        "OutOfMemory",
        "1Gi",
    ),
    "image pull": (waiting("server", "ErrImagePull", NO_IMAGE), "ImagePullFailed", "not found"),
    "unschedulable": (unschedulable(NO_NODE), "Unschedulable", "Insufficient memory"),
    "configuration": (
        waiting(
            "server", "CreateContainerConfigError", "container has runAsNonRoot and image will run as root"
        ),
        "ContainerConfigError",
        "runAsNonRoot",
    ),
}


@pytest.mark.parametrize("what", SERVERS)
def test_servers_that_do_not_get_ready(scene: Scene, what: str):
    status, reason, part = SERVERS[what]
    deployment = _champion(scene)
    pod = scene.player.add_pod(deployment, status)
    message = scene.until_condition("Ready", "False", reason)
    assert part in message
    assert scene.condition("Available") == ("False", reason)
    assert scene.status["lastFailure"]["reason"] == reason
    scene.player.set_pod(pod["metadata"]["name"], running("server"))
    scene.player.roll(scene.version(1), 1)
    scene.until_condition("Ready", "True", "Serving")
    scene.until("no failure in status", lambda: "lastFailure" not in scene.status)


def test_servers_that_only_events_explain(scene: Scene):
    deployment = _champion(scene)
    pod = scene.player.add_pod(deployment, waiting("server", "PodInitializing"))
    scene.player.event(
        pod, "FailedMount", 'MountVolume.SetUp failed for volume "store" : secret "store" not found'
    )
    message = scene.until_condition("Ready", "False", "SecretNotFound", seconds=10)
    assert 'secret "store"' in message


def test_servers_over_quota(scene: Scene):
    _champion(scene)
    scene.player.deployment_condition(scene.version(1), "ReplicaFailure", "True", "FailedCreate", QUOTA)
    message = scene.until_condition("Ready", "False", "QuotaExceeded")
    assert "exceeded quota" in message


def test_servers_that_hang_are_told_after_the_deadline(scene: Scene):
    deployment = _champion(scene)
    scene.player.add_pod(deployment, running("server", ready=False))
    name = scene.version(1)
    said = f'ReplicaSet "{name}-x" has timed out progressing.'
    scene.player.deployment_condition(name, "Progressing", "False", "ProgressDeadlineExceeded", said)
    message = scene.until_condition("Ready", "False", "ServerNotReady")
    assert "timed out" in message


def test_new_version_that_crashes_leaves_traffic_where_it_is(scene: Scene):
    scene.create()
    scene.serve(1)
    scene.retrain(2)
    scene.train(2)
    scene.evaluate(2)
    deployment = scene.until("servers of v2", lambda: scene.player.get("Deployment", scene.version(2)))
    scene.player.add_pod(deployment, SERVERS["crash loop"][0])
    message = scene.until_condition("Ready", "False", "ArtifactCorrupt")
    assert scene.version(2) in message
    assert scene.condition("Available") == ("True", "Serving")
    scene.holds("traffic stays", lambda: scene.target() == scene.version(1), 1)


def test_changed_serving_that_cannot_roll_is_told_while_the_old_pods_answer(scene: Scene):
    scene.create()
    scene.serve(1)
    v1 = scene.version(1)
    scene.change(serving={"pod": {"nodeSelector": {"disk": "none"}}})

    def rolled() -> bool:
        found = scene.player.get("Deployment", v1)
        return found is not None and "nodeSelector" in found["spec"]["template"]["spec"]

    scene.until("the node selector", rolled)
    deployment = scene.player.get("Deployment", v1)
    assert deployment is not None
    scene.player.roll(v1, 1, updated=1, total=2)
    scene.player.add_pod(
        deployment, unschedulable("0/3 nodes are available: 3 node(s) didn't match node selector.")
    )
    message = scene.until_condition("Ready", "False", "Unschedulable")
    assert "node selector" in message
    assert scene.condition("Available") == ("True", "Serving")


# -- specs that CEL cannot judge -------------------------------------------------------------------

WRONG_SPECS: dict[str, tuple[Object, str, tuple[str, ...]]] = {
    "estimator": (
        {"candidates": [{"name": "a", "estimator": "sklearn.ensemble.RandomForestClasifier"}]},
        "BadEstimator",
        ("spec.training.candidates[0].estimator", "sklearn.ensemble.RandomForestClassifier"),
    ),
    "parameter": (
        {
            "candidates": [
                {
                    "name": "a",
                    "estimator": "sklearn.linear_model.LogisticRegression",
                    "params": {"max_iterr": 5},
                }
            ]
        },
        "BadParameter",
        ("spec.training.candidates[0].params", "max_iter"),
    ),
    "metric": (
        {
            "candidates": [{"name": "a", "estimator": "sklearn.svm.LinearSVC"}],
            "validation": {"metric": "log_loss"},
        },
        "BadMetric",
        ("spec.training.validation.metric", "LinearSVC"),
    ),
}


@pytest.mark.parametrize("what", WRONG_SPECS)
def test_spec_that_the_catalogue_refuses(scene: Scene, what: str):
    training, reason, parts = WRONG_SPECS[what]
    scene.create()
    scene.serve(1)
    right = scene.manifest
    scene.change(training=training)
    message = scene.until_stalled(reason)
    for part in parts:
        assert part in message
    assert scene.condition("Available") == ("True", "Serving")
    assert scene.player.names("ModelVersion") == [scene.version(1)]
    assert scene.status["lastVersion"]["number"] == 1
    scene.change(serving={"replicas": {"min": 2, "max": 2}})
    scene.until("the rest of the spec to be carried out", lambda: _least(scene) == 2)
    scene.manifest = right
    scene.apply()
    scene.until_condition("Ready", "True", "Serving")
    scene.until("no failure in status", lambda: "lastFailure" not in scene.status)


def _least(scene: Scene) -> int:
    found = scene.player.get("HorizontalPodAutoscaler", scene.version(1))
    assert found is not None
    least: int = found["spec"]["minReplicas"]
    return least


def test_wrong_spec_from_the_beginning_makes_no_version(scene: Scene):
    wrong = {"name": "a", "estimator": "sklearn.linear_model.LogisticRegresion"}
    scene.create(training={**SPEC["training"], "candidates": [wrong]})
    message = scene.until_stalled("BadEstimator")
    assert "sklearn.linear_model.LogisticRegression" in message
    assert scene.player.names("ModelVersion") == []
    scene.change(training=SPEC["training"])
    scene.serve(1)


def test_job_that_the_api_server_refuses(scene: Scene, request: pytest.FixtureRequest):
    """A quota on Jobs refuses the Job itself; it is tried again when there is room."""
    path = f"/api/v1/namespaces/{scene.namespace}/resourcequotas"
    quota = {"metadata": {"name": "jobs"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    scene.api.ok(scene.api.create(path, quota))
    request.addfinalizer(lambda: _ignore(scene.api.delete(f"{path}/jobs").json()))
    # The quota controller would fill this in.
    used = {"status": {"hard": {"count/jobs.batch": "0"}, "used": {"count/jobs.batch": "0"}}}
    scene.api.ok(scene.api.patch(f"{path}/jobs/status", used))
    scene.create()
    message = scene.until_condition("Ready", "False", "QuotaExceeded")
    assert "exceeded quota" in message
    assert scene.player.names("Job") == []
    scene.api.ok(scene.api.delete(f"{path}/jobs"))
    scene.until_job(f"{scene.version(1)}-train", seconds=25)
