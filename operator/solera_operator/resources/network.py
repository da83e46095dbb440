"""Services, ServiceAccount and NetworkPolicy of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from solera_operator.resources import names
from solera_operator.resources.pods import MANAGEMENT_PORT, MODEL_PORT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from solera_operator.api.modelversion import ModelVersion
    from solera_operator.api.trainedmodel import TrainedModel
    from solera_operator.settings import NamespaceSelector, Settings

SERVICE_PORT = 80


def model_owner(model: TrainedModel) -> dict[str, Any]:
    """The controller reference of everything that serves a model."""
    return names.owner_reference("TrainedModel", model.metadata.name, model.metadata.uid)


def version_service(model: TrainedModel, version: ModelVersion) -> dict[str, Any]:
    """The Service of one version: the backend of the model's route."""
    meta, name = model.metadata, version.metadata.name
    object_labels = names.labels(meta.name, version=name, component="server")
    return _service(model, name, object_labels, names.server_selector(meta.name, name))


def stable_service(model: TrainedModel, target: str) -> dict[str, Any]:
    """The Service that clients know. Its selector names the version ``target``: that is what serves."""
    name = model.metadata.name
    return _service(model, name, names.labels(name, component="route"), names.server_selector(name, target))


def _service(
    model: TrainedModel, name: str, object_labels: dict[str, str], selector: dict[str, str]
) -> dict[str, Any]:
    port = {
        "name": "http",
        "port": SERVICE_PORT,
        "targetPort": "http",
        "protocol": "TCP",
        "appProtocol": "http",
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": names.metadata(name, model.metadata.namespace, model_owner(model), object_labels),
        "spec": {"type": "ClusterIP", "selector": selector, "ports": [port]},
    }


def service_account(model: TrainedModel) -> dict[str, Any]:
    """The account of the server pods: no rights, no token."""
    meta = model.metadata
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": names.metadata(
            meta.name, meta.namespace, model_owner(model), names.labels(meta.name, component="server")
        ),
        "automountServiceAccountToken": False,
    }


def network_policy(model: TrainedModel, settings: Settings) -> dict[str, Any]:
    """Who may reach a model's servers, and what these may reach.

    In: the model port from pods of the same namespace, of the gateway's namespaces when the model has a
    gateway, and of the client namespaces of the settings; the management port from the monitoring
    namespaces, or from the same namespace where none are set. Out: name resolution and the store's ports.
    """
    meta = model.metadata
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": names.metadata(
            meta.name, meta.namespace, model_owner(model), names.labels(meta.name, component="server")
        ),
        "spec": {
            "podSelector": {"matchLabels": names.model_selector(meta.name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": _ingress(model, settings),
            "egress": _egress(settings),
        },
    }


def _ingress(model: TrainedModel, settings: Settings) -> list[dict[str, Any]]:
    policy = settings.network_policy
    clients: list[dict[str, Any]] = [{"podSelector": {}}]
    gateway = model.spec.serving.gateway
    if gateway is not None:
        namespace = gateway.namespace or model.metadata.namespace
        clients.append(_namespaces({"kubernetes.io/metadata.name": namespace}))
        clients.extend(_selected(policy.gateway_namespace_selector))
    clients.extend(_selected(policy.client_namespace_selector))
    monitors = _selected(policy.monitoring_namespace_selector) or [{"podSelector": {}}]
    return [
        {"from": clients, "ports": _tcp([MODEL_PORT])},
        {"from": monitors, "ports": _tcp([MANAGEMENT_PORT])},
    ]


def _egress(settings: Settings) -> list[dict[str, Any]]:
    policy = settings.network_policy
    dns = [{"protocol": kind, "port": port} for port in policy.dns_ports for kind in ("UDP", "TCP")]
    # A policy knows addresses, not names: the store is told by its port. Ports count after the
    # translation of a Service, so a store in the cluster may need `storePorts`.
    return [{"ports": dns}, {"ports": _tcp(policy.store_ports or [settings.artifact_store.port])}]


def _namespaces(match_labels: dict[str, str]) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": dict(sorted(match_labels.items()))}}


def _selected(selector: NamespaceSelector | None) -> list[dict[str, Any]]:
    return [] if selector is None else [_namespaces(selector.match_labels)]


def _tcp(ports: Iterable[int]) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": port} for port in ports]
