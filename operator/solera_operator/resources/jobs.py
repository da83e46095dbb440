"""The Jobs of a version: train, evaluate, report. Each is created once and never applied again."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, cast

from solera_core import failures
from solera_core.job import (
    DATA_CREDENTIALS,
    ENVIRONMENT_VARIABLE,
    ArtifactReference,
    DataDefaults,
    Job,
    Runtime,
)
from solera_operator.resources import names, pods
from solera_operator.resources.pods import TRAINER_CONTAINER, Volumes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solera_operator.api.modelversion import ModelVersion
    from solera_operator.settings import Settings

JobKind = Literal["train", "evaluate", "report"]

# The Job's own deadline comes after the trainer's, which can say what it was doing. The margin covers
# getting the image and starting.
DEADLINE_MARGIN_SECONDS = 120
REPORT_DEADLINE_SECONDS = 300
REPORT_RETRIES = 3

# Ends that another attempt would only repeat: bad spec, bad data, own deadline, store denied.
FINAL_EXIT_CODES = sorted(
    code for code in set(failures.EXIT_CODES.values()) if code not in failures.RETRIED_EXIT_CODES
)

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"

DEFAULT_RESOURCES = {
    "requests": {"cpu": "500m", "memory": "1Gi"},
    "limits": {"cpu": "1", "memory": "2Gi"},
}
REPORT_RESOURCES = {
    "requests": {"cpu": "100m", "memory": "128Mi"},
    "limits": {"cpu": "500m", "memory": "512Mi"},
}
DEFAULT_SCRATCH = "10Gi"


def train_job(version: ModelVersion, settings: Settings) -> dict[str, Any]:
    """The Job that trains a version."""
    name = names.train_job_name(version.metadata.name)
    return _job(version, settings, name, _document(version, settings, "train"))


def evaluate_job(
    version: ModelVersion, gates: Sequence[Mapping[str, Any]], evaluation: str, settings: Settings
) -> dict[str, Any]:
    """The Job that judges a trained version.

    Args:
        version: its status names the artifact.
        gates: as the API server stores them (camelCase).
        evaluation: what is judged, as 8 hex digits.
        settings: the operator's.

    Raises:
        ValueError: the version has no artifact yet.
    """
    artifact = version.status.artifact
    if artifact is None:
        raise ValueError(f"{version.metadata.name} has no artifact to evaluate")
    document = dataclasses.replace(
        _document(version, settings, "evaluate"),
        gates=tuple(dict(gate) for gate in gates),
        artifact=ArtifactReference(uri=artifact.uri, digest=artifact.digest),
        evaluation=evaluation,
    )
    return _job(version, settings, names.evaluate_job_name(version.metadata.name, evaluation), document)


def report_job(
    version: ModelVersion, of: Literal["train", "evaluate"], evaluation: str | None, settings: Settings
) -> dict[str, Any]:
    """The Job that says again, from the store, what a lost pod had to say.

    ``evaluation`` names the evaluation to report when ``of`` is evaluate, and is not used otherwise.

    Raises:
        ValueError: an evaluation is to be reported and none is named.
    """
    if of == "evaluate" and evaluation is None:
        raise ValueError("a report of an evaluation needs to know which")
    told = evaluation if of == "evaluate" else None
    document = dataclasses.replace(_document(version, settings, "report"), evaluation=told)
    return _job(version, settings, names.report_job_name(version.metadata.name, of, told), document)


def ttl_patch(settings: Settings) -> dict[str, Any]:
    """The merge patch by which a Job whose result is recorded is told to go."""
    return {"spec": {"ttlSecondsAfterFinished": settings.job_ttl_seconds}}


def _job(version: ModelVersion, settings: Settings, name: str, document: Job) -> dict[str, Any]:
    meta, training = version.metadata, version.spec.training
    kind = cast("JobKind", document.kind)
    object_labels = names.labels(version.spec.model_name, version=meta.name, component=kind)
    owner = names.owner_reference("ModelVersion", meta.name, meta.uid)
    metadata = names.metadata(name, meta.namespace, owner, dict(object_labels))
    if training.queue_name is not None:
        metadata["labels"][QUEUE_LABEL] = training.queue_name
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": REPORT_RETRIES if kind == "report" else training.retries,
            "activeDeadlineSeconds": document.deadline_seconds + DEADLINE_MARGIN_SECONDS,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": {
                "metadata": {"labels": dict(object_labels)},
                "spec": _pod(version, settings, kind, document),
            },
        },
    }


def _failure_rules() -> list[dict[str, Any]]:
    """In this order: a pod that was evicted or preempted is replaced and not counted, whatever its exit code;
    an end that would only repeat ends the Job; everything else counts as one of the retries.
    """
    final = {"containerName": TRAINER_CONTAINER, "operator": "In", "values": list(FINAL_EXIT_CODES)}
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": final},
    ]


def _pod(version: ModelVersion, settings: Settings, kind: JobKind, document: Job) -> dict[str, Any]:
    training = version.spec.training
    pod = training.pod.document() if training.pod is not None else {}
    given = REPORT_RESOURCES if kind == "report" else pod.get("resources") or DEFAULT_RESOURCES
    resources = {key: dict(values) for key, values in given.items()}
    volumes = pods.scratch("tmp", "/tmp", pods.scratch_size(resources, DEFAULT_SCRATCH))  # noqa: S108 a mount
    volumes += pods.store_access(settings)
    if kind != "report":
        volumes += _data_access(version)
    container = {
        "name": TRAINER_CONTAINER,
        "image": version.spec.runtime.trainer_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python3", "-m", "solera_trainer", kind],
        "env": [
            {"name": ENVIRONMENT_VARIABLE, "value": pods.literal(document.encode())},
            pods.cpu_environment(TRAINER_CONTAINER),
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 the pod's own scratch space
        ],
        "resources": resources,
        "securityContext": pods.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": volumes.mounts,
    }
    return {
        **pods.pod_base(pod.get("serviceAccountName")),
        **pods.scheduling(pod),
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": volumes.volumes,
    }


def _data_access(version: ModelVersion) -> Volumes:
    data = version.spec.training.data
    return pods.secret_files("data", DATA_CREDENTIALS, data.secret_name) + pods.claim_files(claim(data.uri))


def claim(uri: str) -> str | None:
    """The volume claim that ``pvc://<claim>/<path>`` names; None for other addresses."""
    prefix = "pvc://"
    return uri.removeprefix(prefix).split("/", 1)[0] if uri.startswith(prefix) else None


def _document(version: ModelVersion, settings: Settings, kind: JobKind) -> Job:
    meta, spec = version.metadata, version.spec
    defaults, runtime = settings.data, spec.runtime
    return Job(
        kind=kind,
        namespace=meta.namespace,
        model=spec.model_name,
        version=meta.name,
        uid=meta.uid,
        task=str(spec.task),
        training=spec.training.document(),
        salt=spec.salt,
        store=pods.store_location(spec.store, settings),
        runtime=Runtime(
            name=runtime.name,
            sklearn_version=runtime.sklearn_version,
            trainer_image=runtime.trainer_image,
            server_image=runtime.server_image,
        ),
        data_defaults=DataDefaults(
            endpoint_url=defaults.s3_endpoint_url,
            region=defaults.region,
            allowed_hosts=defaults.allowed_hosts,
        ),
        deadline_seconds=(REPORT_DEADLINE_SECONDS if kind == "report" else spec.training.deadline_seconds()),
    )
