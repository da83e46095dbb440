"""The Jobs of a version: train, evaluate, report. Each is created once and never applied again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from solera_core.spec.quantities import parse_duration
from solera_operator.resources import names, pods
from solera_operator.resources.pods import TRAINER_CONTAINER, Volumes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solera_operator.api import ModelVersion
    from solera_operator.settings import Settings

JobKind = Literal["train", "evaluate", "report"]

# The Job's own deadline comes after the trainer's, which can say what it was doing. The margin covers
# getting the image and starting.
DEADLINE_MARGIN_SECONDS = 120
REPORT_DEADLINE_SECONDS = 300
REPORT_RETRIES = 3

# Ends that another attempt would only repeat: bad spec, bad data, own deadline, store denied.
FINAL_EXIT_CODES = [64, 65, 76, 77]

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
    return _job(version, settings, "train", names.train_job_name(version.metadata.name), {})


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
    status = version.status
    artifact = status.artifact if status is not None else None
    if artifact is None:
        raise ValueError(f"{version.metadata.name} has no artifact to evaluate")
    more = {
        "gates": [dict(gate) for gate in gates],
        "artifact": {"uri": artifact.uri, "digest": artifact.digest},
        "evaluation": evaluation,
    }
    name = names.evaluate_job_name(version.metadata.name, evaluation)
    return _job(version, settings, "evaluate", name, more)


def report_job(
    version: ModelVersion, of: Literal["train", "evaluate"], evaluation: str | None, settings: Settings
) -> dict[str, Any]:
    """The Job that says again, from the store, what a lost pod had to say."""
    name = names.report_job_name(version.metadata.name, of, evaluation)
    more = {} if evaluation is None else {"evaluation": evaluation}
    return _job(version, settings, "report", name, more)


def ttl_patch(settings: Settings) -> dict[str, Any]:
    """The merge patch by which a Job whose result is recorded is told to go."""
    return {"spec": {"ttlSecondsAfterFinished": settings.job_ttl_seconds}}


def _job(
    version: ModelVersion, settings: Settings, kind: JobKind, name: str, more: dict[str, Any]
) -> dict[str, Any]:
    meta, spec = version.metadata, version.spec
    deadline = _deadline(version, kind)
    object_labels = names.labels(spec.model_name, version=meta.name, component=kind)
    owner = names.owner_reference("ModelVersion", meta.name, meta.uid)
    metadata = names.metadata(name, meta.namespace, owner, dict(object_labels))
    if spec.training.queue_name is not None:
        metadata["labels"][QUEUE_LABEL] = spec.training.queue_name
    template = {
        "metadata": {"labels": object_labels},
        "spec": _pod(version, settings, kind, _document(version, settings, kind, deadline, more)),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": REPORT_RETRIES if kind == "report" else spec.training.retries,
            "activeDeadlineSeconds": deadline + DEADLINE_MARGIN_SECONDS,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _FAILURE_RULES},
            "template": template,
        },
    }


# In this order: a pod that was evicted or preempted is replaced and not counted, whatever its exit code;
# an end that would only repeat ends the Job; everything else counts as one of the retries.
_FAILURE_RULES = [
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    {
        "action": "FailJob",
        "onExitCodes": {"containerName": TRAINER_CONTAINER, "operator": "In", "values": FINAL_EXIT_CODES},
    },
]


def _deadline(version: ModelVersion, kind: JobKind) -> int:
    if kind == "report":
        return REPORT_DEADLINE_SECONDS
    return int(parse_duration(version.spec.training.deadline).total_seconds())


def _pod(
    version: ModelVersion, settings: Settings, kind: JobKind, document: dict[str, Any]
) -> dict[str, Any]:
    training = version.spec.training
    pod = training.pod.document() if training.pod is not None else {}
    resources = REPORT_RESOURCES if kind == "report" else pod.get("resources") or DEFAULT_RESOURCES
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
            {"name": "SOLERA_JOB", "value": _canonical(document)},
            pods.cpu_environment(TRAINER_CONTAINER),
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 the pod's own scratch space
        ],
        "resources": resources,
        "securityContext": pods.CONTAINER_SECURITY,
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
    return pods.secret_files("data", pods.DATA_DIRECTORY, data.secret_name) + pods.claim_files(
        claim(data.uri)
    )


def claim(uri: str) -> str | None:
    """The volume claim that ``pvc://<claim>/<path>`` names; None for other addresses."""
    prefix = "pvc://"
    return uri.removeprefix(prefix).split("/", 1)[0] if uri.startswith(prefix) else None


def _document(
    version: ModelVersion, settings: Settings, kind: JobKind, deadline: int, more: dict[str, Any]
) -> dict[str, Any]:
    meta, spec = version.metadata, version.spec
    defaults = settings.data.model_dump(mode="json", by_alias=True, exclude_none=True)
    defaults["endpointUrl"] = defaults.pop("s3EndpointUrl", None)
    return {
        "kind": kind,
        "namespace": meta.namespace,
        "model": spec.model_name,
        "version": meta.name,
        "uid": meta.uid,
        "task": str(spec.task),
        "training": spec.training.document(),
        "salt": spec.salt,
        "store": pods.store_document(spec.store.uri, spec.store.endpoint_url, spec.store.region, settings),
        "dataDefaults": {k: v for k, v in defaults.items() if v is not None},
        "runtime": spec.runtime.document(),
        "deadlineSeconds": deadline,
        **more,
    }


def _canonical(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
