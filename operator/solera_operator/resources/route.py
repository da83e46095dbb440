"""The HTTPRoute of a model that names a gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from solera_operator.resources import names
from solera_operator.resources.network import SERVICE_PORT, model_owner

if TYPE_CHECKING:
    from solera_operator.api.trainedmodel import TrainedModel

VERSION_HEADER = "solera-version"


def http_route(model: TrainedModel, target: str) -> dict[str, Any]:
    """The route from a gateway's listener to the Service of the version ``target``.

    The backend carries a filter of its own, which names the version in a response header: gateways that
    hash merge backends without filters of their own into one, and ignore their weights.

    Raises:
        ValueError: the model names no gateway.
    """
    gateway = model.spec.serving.gateway
    if gateway is None:
        raise ValueError(f"{model.metadata.name} names no gateway")
    parent: dict[str, Any] = {"name": gateway.name}
    if gateway.namespace is not None:
        parent["namespace"] = gateway.namespace
    if gateway.section_name is not None:
        parent["sectionName"] = gateway.section_name
    spec: dict[str, Any] = {
        "parentRefs": [parent],
        "hostnames": [gateway.hostname],
        "rules": [{"backendRefs": [_backend(target)]}],
    }
    meta = model.metadata
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": names.metadata(
            meta.name, meta.namespace, model_owner(model), names.labels(meta.name, component="route")
        ),
        "spec": spec,
    }


def _backend(version: str) -> dict[str, Any]:
    header = {"set": [{"name": VERSION_HEADER, "value": version}]}
    return {
        "name": version,
        "port": SERVICE_PORT,
        "weight": 1,
        "filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": header}],
    }
