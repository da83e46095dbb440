"""The Deployment of one served version. The number of replicas is the autoscaler's and is not set here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from solera_operator.resources import names, pods
from solera_operator.resources.network import model_owner
from solera_operator.resources.pods import FETCH_CONTAINER, SERVER_CONTAINER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solera_operator.api.modelversion import Artifact, ModelVersion
    from solera_operator.api.trainedmodel import TrainedModel
    from solera_operator.settings import Settings

MODEL_DIRECTORY = "/model"

DEFAULT_RESOURCES = {
    "requests": {"cpu": "200m", "memory": "256Mi"},
    "limits": {"cpu": "1", "memory": "1Gi"},
}
DEFAULT_ARTIFACT_SPACE = "5Gi"

# Longer than a server takes to let go of its requests after SIGTERM: 5 s until endpoints follow, and at most
# 20 s for what is in flight.
TERMINATION_GRACE_SECONDS = 60
# Getting the image, fetching and loading; after it the Deployment says that it does not progress.
PROGRESS_DEADLINE_SECONDS = 600


def server_deployment(model: TrainedModel, version: ModelVersion, settings: Settings) -> dict[str, Any]:
    """The servers of ``version``.

    An init container fetches the artifact and verifies its digest; the server reads a local directory and
    holds no credentials. Image and place of the artifact are the version's own, so that new settings roll
    no model; the names of the store's Secret and CA are the settings'.

    Raises:
        ValueError: the version has no artifact.
    """
    meta, name = model.metadata, version.metadata.name
    object_labels = names.labels(meta.name, version=name, component="server")
    selector = names.server_selector(meta.name, name)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": names.metadata(name, meta.namespace, model_owner(model), object_labels),
        "spec": {
            "selector": {"matchLabels": dict(selector)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
            },
            "minReadySeconds": 2,
            "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
            "revisionHistoryLimit": 2,
            "template": {
                "metadata": {"labels": dict(object_labels)},
                "spec": _pod(model, version, settings, selector),
            },
        },
    }


def _pod(
    model: TrainedModel, version: ModelVersion, settings: Settings, selector: dict[str, str]
) -> dict[str, Any]:
    chosen = model.spec.serving.pod
    pod = chosen.document() if chosen is not None else {}
    resources = server_resources(pod.get("resources"))
    size = pods.scratch_size(resources, DEFAULT_ARTIFACT_SPACE)
    artifact = pods.scratch("model", MODEL_DIRECTORY, size)
    temporary = pods.scratch("tmp", "/tmp", "64Mi")  # noqa: S108 a mount of the pod's own
    store = pods.store_access(settings)
    return {
        **pods.pod_base(model.metadata.name),
        **pods.scheduling(pod),
        "terminationGracePeriodSeconds": TERMINATION_GRACE_SECONDS,
        "topologySpreadConstraints": [
            _spread(key, selector) for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
        "initContainers": [
            _fetch(version, settings, server_resources(resources), (artifact + temporary + store).mounts)
        ],
        "containers": [
            _server(model, version, settings, resources, (_read_only(artifact) + temporary).mounts)
        ],
        "volumes": (artifact + temporary + store).volumes,
    }


def server_resources(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The server's resources: the user's, with a CPU request in any case, for the autoscaler counts by it."""
    if not given:
        return {kind: dict(values) for kind, values in DEFAULT_RESOURCES.items()}
    found = {kind: dict(values) for kind, values in given.items()}
    if "cpu" not in found.get("requests", {}) and "cpu" not in found.get("limits", {}):
        found["requests"] = {**found.get("requests", {}), "cpu": DEFAULT_RESOURCES["requests"]["cpu"]}
    return found


def _artifact(version: ModelVersion) -> Artifact:
    if version.status.artifact is None:
        raise ValueError(f"{version.metadata.name} has no artifact to serve")
    return version.status.artifact


def _fetch(
    version: ModelVersion, settings: Settings, resources: dict[str, Any], mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    artifact = _artifact(version)
    arguments = ["--uri", pods.literal(artifact.uri), "--digest", artifact.digest, "--out", MODEL_DIRECTORY]
    return {
        "name": FETCH_CONTAINER,
        "image": version.spec.runtime.server_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python3", "-m", "solera_server", "fetch", *arguments],
        "env": [
            {
                "name": "SOLERA_STORE",
                "value": pods.literal(pods.store_document(version.spec.store, settings)),
            },
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 the pod's own scratch space
        ],
        "resources": resources,
        "securityContext": pods.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [dict(mount) for mount in mounts],
    }


def _server(
    model: TrainedModel,
    version: ModelVersion,
    settings: Settings,
    resources: dict[str, Any],
    mounts: list[dict[str, Any]],
) -> dict[str, Any]:
    arguments = {
        "--model": MODEL_DIRECTORY,
        "--name": model.metadata.name,
        "--version": version.metadata.name,
        "--digest": _artifact(version).digest,
        "--host": "*",
        "--port": str(pods.MODEL_PORT),
        "--management-port": str(pods.MANAGEMENT_PORT),
    }
    return {
        "name": SERVER_CONTAINER,
        "image": version.spec.runtime.server_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": [
            "python3",
            "-m",
            "solera_server",
            "serve",
            *(a for pair in arguments.items() for a in pair),
        ],
        "env": [
            pods.cpu_environment(SERVER_CONTAINER),
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 the pod's own scratch space
        ],
        "ports": [
            {"name": "http", "containerPort": pods.MODEL_PORT, "protocol": "TCP"},
            {"name": "management", "containerPort": pods.MANAGEMENT_PORT, "protocol": "TCP"},
        ],
        "resources": resources,
        "securityContext": pods.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [dict(mount) for mount in mounts],
        # Loading may take five minutes (a server that cannot load exits and says why, so this only bounds
        # one that hangs); looked at every second, for each second is one in which nothing is served.
        "startupProbe": _probe("/readyz", period=1, failures=300),
        # Out of rotation after 6 s; a busy server answers its management port late, hence 3 s.
        "readinessProbe": _probe("/readyz", period=3, failures=2),
        # Restarted after 30 s without any sign of life, never for being busy.
        "livenessProbe": _probe("/livez", period=10, failures=3),
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "management"},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }


def _spread(key: str, selector: dict[str, str]) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(selector)},
    }


def _read_only(volumes: pods.Volumes) -> pods.Volumes:
    return pods.Volumes(volumes.volumes, [{**mount, "readOnly": True} for mount in volumes.mounts])
