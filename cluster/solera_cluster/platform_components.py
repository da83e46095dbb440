"""The platform's components: what each consists of, and what must be true when it is ready."""

from collections.abc import Iterable
from dataclasses import dataclass

from solera_cluster.errors import ClusterError


@dataclass(frozen=True)
class Condition:
    """A status condition that has to be True."""

    kind: str
    namespace: str
    name: str
    type: str

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.kind} {self.name}{where} is {self.type}"


@dataclass(frozen=True)
class Component:
    """
    A folder of manifests below `cluster/platform`.

    `images` are the names of image recipes. `foreign` are kubectl's words for an object whose presence means
    that the cluster has such a component of its own, which is then left alone.
    """

    name: str
    images: tuple[str, ...]
    ready: tuple[Condition, ...]
    foreign: tuple[str, ...] = ()


# In the order in which they are installed.
COMPONENTS = (
    Component(
        "coredns",
        ("coredns",),
        (Condition("deployment", "kube-system", "coredns", "Available"),),
        ("service", "kube-dns", "--namespace=kube-system"),
    ),
    Component(
        "metrics-server",
        ("metrics-server",),
        (
            Condition("deployment", "kube-system", "metrics-server", "Available"),
            Condition("apiservice", "", "v1beta1.metrics.k8s.io", "Available"),
        ),
        ("apiservice", "v1beta1.metrics.k8s.io"),
    ),
    Component(
        "object-store",
        ("versitygw",),
        (Condition("deployment", "object-store", "object-store", "Available"),),
    ),
    Component(
        "envoy-gateway",
        ("envoy-gateway",),
        (Condition("deployment", "envoy-gateway-system", "envoy-gateway", "Available"),),
        ("crd", "envoyproxies.gateway.envoyproxy.io"),
    ),
    Component(
        "gateway",
        ("envoy",),
        (
            Condition("gatewayclass", "", "solera", "Accepted"),
            Condition("gateway", "gateways", "public", "Programmed"),
        ),
    ),
)


def select(names: Iterable[str]) -> tuple[Component, ...]:
    """Give the named components, or all, in installing order; raises ClusterError for an unknown name."""
    wanted = set(names)
    known = [component.name for component in COMPONENTS]
    if unknown := sorted(wanted - set(known)):
        raise ClusterError(
            f"the platform has no component {', '.join(unknown)}; write one of: {', '.join(known)}"
        )
    return tuple(component for component in COMPONENTS if not wanted or component.name in wanted)
