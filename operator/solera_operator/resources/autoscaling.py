"""HorizontalPodAutoscaler and PodDisruptionBudget of a served version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from solera_operator.resources import names
from solera_operator.resources.network import model_owner
from solera_operator.resources.pods import SERVER_CONTAINER

if TYPE_CHECKING:
    from solera_operator.api.modelversion import ModelVersion
    from solera_operator.api.trainedmodel import TrainedModel


def autoscaler(model: TrainedModel, version: ModelVersion, min_replicas: int | None) -> dict[str, Any]:
    """The HPA of a version; it alone decides the number of replicas, also when min equals max.

    Args:
        model: whose serving.replicas and serving.autoscaling hold.
        version: the version whose Deployment is scaled.
        min_replicas: a floor other than the spec's, while a new champion is brought to the old one's
            size; None for the spec's. It never goes beyond the spec's maximum.
    """
    serving = model.spec.serving
    highest = serving.max_replicas()
    lowest = serving.replicas.min if min_replicas is None else min(min_replicas, highest)
    name = version.metadata.name
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(model, version),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": lowest,
            "maxReplicas": highest,
            "metrics": [_cpu(serving.cpu_percent())],
            "behavior": _behavior(),
        },
    }


def _cpu(percent: int) -> dict[str, Any]:
    """Of the server's own container, so that an injected sidecar does not count."""
    return {
        "type": "ContainerResource",
        "containerResource": {
            "name": "cpu",
            "container": SERVER_CONTAINER,
            "target": {"type": "Utilization", "averageUtilization": percent},
        },
    }


def _behavior() -> dict[str, Any]:
    """Up at once, at most doubling (or four pods) every 15 s. Down only when the load has been low for five
    minutes, and then at most half of the pods a minute: a lull must not throw away what the next peak needs.
    """
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": 15},
                {"type": "Pods", "value": 4, "periodSeconds": 15},
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 300,
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
        },
    }


def disruption_budget(model: TrainedModel, version: ModelVersion) -> dict[str, Any]:
    """At most one pod of a version goes at a time; a pod that is not ready never holds up a drain."""
    selector = names.server_selector(model.metadata.name, version.metadata.name)
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(model, version),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def _metadata(model: TrainedModel, version: ModelVersion) -> dict[str, Any]:
    meta, name = model.metadata, version.metadata.name
    object_labels = names.labels(meta.name, version=name, component="server")
    return names.metadata(name, meta.namespace, model_owner(model), object_labels)
