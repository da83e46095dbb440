"""The Jobs: what they are told, when they are tried again, and when they end."""

import copy

import pytest
from owned_objects import (
    BARE_SETTINGS,
    BARE_SPEC,
    DIGEST,
    EVALUATION,
    FULL_SPEC,
    SALT,
    SETTINGS,
    all_objects,
    built_version,
    trained_model,
    trained_version,
)

from solera_core import failures
from solera_core.job import parse_job
from solera_operator.api import ModelVersion
from solera_operator.resources import jobs

JOBS = {name: obj for name, obj in all_objects(trained_model()).items() if obj["kind"] == "Job"}


def document(job):
    [container] = job["spec"]["template"]["spec"]["containers"]
    [value] = [v["value"] for v in container["env"] if v["name"] == "SOLERA_JOB"]
    return parse_job(value.replace("$$", "$"))


def volumes(job):
    return {volume["name"]: volume for volume in job["spec"]["template"]["spec"]["volumes"]}


@pytest.mark.parametrize("name", JOBS)
def test_the_trainer_can_read_its_document(name):
    found = document(JOBS[name])
    assert (found.namespace, found.model, found.version) == ("models", "adult", "adult-v3")
    assert found.salt == SALT
    assert found.store.uri == "s3://solera/prod"
    assert found.store.ca_file == "/var/run/solera/ca/ca.crt"
    assert found.data_defaults.allowed_hosts == ("files.example.com",)
    assert found.runtime.name == "sklearn-1.9"
    command = JOBS[name]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command == ["python3", "-m", "solera_trainer", found.kind]


def test_training_is_passed_as_it_is_stored():
    training = document(JOBS["train-job"]).training
    assert training["candidates"] == FULL_SPEC["training"]["candidates"]
    assert training["data"]["uri"] == "s3://models/adult/*.parquet"


def test_an_evaluation_is_told_the_artifact_and_the_gates():
    found = document(JOBS["evaluate-job"])
    assert found.artifact is not None
    assert found.artifact.digest == DIGEST
    assert found.evaluation == EVALUATION
    assert [gate["metric"] for gate in found.gates] == ["accuracy"]


def test_a_report_is_told_what_to_report():
    assert document(JOBS["report-train-job"]).evaluation is None
    assert document(JOBS["report-evaluate-job"]).evaluation == EVALUATION


@pytest.mark.parametrize("name", JOBS)
def test_a_disrupted_pod_is_replaced_uncounted_and_a_hopeless_one_ends_the_job(name):
    first, second = JOBS[name]["spec"]["podFailurePolicy"]["rules"]
    # The first rule that fits decides: an evicted trainer must not end its Job, whatever its exit code.
    assert first == {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    assert second["action"] == "FailJob"
    assert second["onExitCodes"] == {
        "containerName": "trainer",
        "operator": "In",
        "values": [64, 65, 76, 77],
    }
    assert not set(second["onExitCodes"]["values"]) & failures.RETRIED_EXIT_CODES
    [container] = JOBS[name]["spec"]["template"]["spec"]["containers"]
    assert container["name"] == "trainer"
    assert JOBS[name]["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert JOBS[name]["spec"]["podReplacementPolicy"] == "Failed"
    assert "backoffLimitPerIndex" not in JOBS[name]["spec"]


def test_retries_are_the_users_but_for_a_report():
    assert JOBS["train-job"]["spec"]["backoffLimit"] == 3
    assert JOBS["evaluate-job"]["spec"]["backoffLimit"] == 3
    assert JOBS["report-train-job"]["spec"]["backoffLimit"] == jobs.REPORT_RETRIES


@pytest.mark.parametrize(
    ("name", "seconds"), [("train-job", 7200), ("evaluate-job", 7200), ("report-train-job", 300)]
)
def test_the_trainer_gives_up_before_the_job_does(name, seconds):
    assert document(JOBS[name]).deadline_seconds == seconds
    assert JOBS[name]["spec"]["activeDeadlineSeconds"] == seconds + jobs.DEADLINE_MARGIN_SECONDS


@pytest.mark.parametrize("name", JOBS)
def test_a_job_stays_until_its_result_is_recorded(name):
    assert "ttlSecondsAfterFinished" not in JOBS[name]["spec"]
    assert jobs.ttl_patch(SETTINGS) == {"spec": {"ttlSecondsAfterFinished": 3600}}


def test_kueue_gets_its_label_and_nothing_else():
    for job in JOBS.values():
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
        assert "suspend" not in job["spec"]
    bare = all_objects(trained_model(BARE_SPEC), BARE_SETTINGS)["train-job"]
    assert "kueue.x-k8s.io/queue-name" not in bare["metadata"]["labels"]


def test_resources_are_the_users_or_modest_ones():
    given = JOBS["train-job"]["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert given == FULL_SPEC["training"]["pod"]["resources"]
    bare = all_objects(trained_model(BARE_SPEC), BARE_SETTINGS)["train-job"]
    assert bare["spec"]["template"]["spec"]["containers"][0]["resources"] == jobs.DEFAULT_RESOURCES
    report = JOBS["report-train-job"]["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert report == jobs.REPORT_RESOURCES


def test_scratch_space_is_the_ephemeral_storage_that_the_user_asked_for():
    assert volumes(JOBS["train-job"])["tmp"]["emptyDir"]["sizeLimit"] == "20Gi"
    bare = all_objects(trained_model(BARE_SPEC), BARE_SETTINGS)["train-job"]
    assert volumes(bare)["tmp"]["emptyDir"]["sizeLimit"] == jobs.DEFAULT_SCRATCH


def test_scheduling_of_the_user_reaches_the_pod():
    pod = JOBS["train-job"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "adult-training"
    assert pod["nodeSelector"] == {"disk": "fast"}
    assert pod["tolerations"] == FULL_SPEC["training"]["pod"]["tolerations"]
    assert pod["priorityClassName"] == "batch"
    assert pod["imagePullSecrets"] == [{"name": "registry-pull"}]


def test_a_volume_claim_is_mounted_read_only():
    spec = copy.deepcopy(BARE_SPEC)
    spec["training"]["data"] = {"uri": "pvc://warehouse/2026/orders.parquet", "target": "late"}
    objects = all_objects(trained_model(spec))
    for name in ("train-job", "evaluate-job"):
        assert volumes(objects[name])["claim"]["persistentVolumeClaim"] == {
            "claimName": "warehouse",
            "readOnly": True,
        }
        [container] = objects[name]["spec"]["template"]["spec"]["containers"]
        [mount] = [m for m in container["volumeMounts"] if m["name"] == "claim"]
        assert mount == {"name": "claim", "mountPath": "/var/run/solera/pvc", "readOnly": True}
    assert "claim" not in volumes(objects["report-train-job"])


def test_the_cpu_limit_is_told_to_the_trainer():
    [container] = JOBS["train-job"]["spec"]["template"]["spec"]["containers"]
    [cpus] = [v for v in container["env"] if v["name"] == "SOLERA_CPUS"]
    assert cpus["valueFrom"]["resourceFieldRef"] == {
        "containerName": "trainer",
        "resource": "limits.cpu",
        "divisor": "1",
    }


def test_what_cannot_be_evaluated_or_reported_is_refused():
    model = trained_model()
    untrained = ModelVersion.model_validate(built_version(model))
    with pytest.raises(ValueError, match="adult-v3 has no artifact"):
        jobs.evaluate_job(untrained, [], EVALUATION, SETTINGS)
    with pytest.raises(ValueError, match="needs to know which"):
        jobs.report_job(trained_version(model), "evaluate", None, SETTINGS)


def test_a_version_keeps_its_image_when_the_settings_change():
    version = trained_version(trained_model())
    moved = jobs.train_job(version, BARE_SETTINGS)
    assert (
        moved["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.com/solera-trainer:1"
    )
    assert document(moved).store.uri == "s3://solera/prod"
