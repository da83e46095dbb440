"""Where a kind lives in the API, and a table of the Kubernetes kinds that an operator meets."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote


@dataclasses.dataclass(frozen=True, slots=True)
class Resource:
    """One kind of the API: group ("" for the core), version, plural, kind."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def label(self) -> str:
        """Name in metrics and logs: `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(
        self, namespace: str | None = None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """
        Build the URL path of the collection, of one object, or of its subresource.

        `namespace` None means all namespaces (lists only) or a cluster-scoped kind.
        Raises ValueError where the parts do not fit together.
        """
        if namespace and not self.namespaced:
            raise ValueError(f"{self.label} is cluster-scoped, but a namespace was given: {namespace}")
        if name and self.namespaced and not namespace:
            raise ValueError(f"{self.label} is namespaced: object {name} needs a namespace")
        if subresource and not name:
            raise ValueError(f"subresource {subresource} of {self.label} needs an object's name")
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(quote(part, safe="") for part in parts)


PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
JOBS = Resource("batch", "v1", "jobs", "Job")
AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
HTTP_ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
GATEWAYS = Resource("gateway.networking.k8s.io", "v1", "gateways", "Gateway")

WELL_KNOWN: tuple[Resource, ...] = (
    PODS, SERVICES, SERVICE_ACCOUNTS, CONFIG_MAPS, NAMESPACES, DEPLOYMENTS, REPLICA_SETS, JOBS, AUTOSCALERS,
    DISRUPTION_BUDGETS, NETWORK_POLICIES, ENDPOINT_SLICES, LEASES, EVENTS, HTTP_ROUTES, GATEWAYS,
)  # fmt: skip


def names(obj: Mapping[str, Any]) -> tuple[str, str]:
    """Namespace ("" where there is none) and name of an object."""
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]
