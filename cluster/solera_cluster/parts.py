"""What is compiled: every binary with its package, the version it reports and the group that needs it."""

from collections.abc import Iterable
from dataclasses import dataclass

from solera_cluster import versions
from solera_cluster.errors import ClusterError

_KUBERNETES_VERSION = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


@dataclass(frozen=True)
class Part:
    """
    One binary.

    `seconds` is how long it took on two cores in a cold build in the order of this table, where later parts
    find most of their packages compiled already.
    """

    name: str
    group: str
    package: str
    seconds: int


# In the order in which they are wanted: an API server answers long before a node is needed.
PARTS = (
    Part("etcd", "control-plane", "go.etcd.io/etcd/server/v3", 55),
    Part("kube-apiserver", "control-plane", "k8s.io/kubernetes/cmd/kube-apiserver", 330),
    Part("kubectl", "control-plane", "k8s.io/kubernetes/cmd/kubectl", 25),
    Part("kube-controller-manager", "control-plane", "k8s.io/kubernetes/cmd/kube-controller-manager", 90),
    Part("kube-scheduler", "node", "k8s.io/kubernetes/cmd/kube-scheduler", 10),
    Part("containerd", "node", "github.com/containerd/containerd/v2/cmd/containerd", 40),
    Part(
        "containerd-shim-runc-v2",
        "node",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        1,
    ),
    Part("ctr", "node", "github.com/containerd/containerd/v2/cmd/ctr", 4),
    Part("kubelet", "node", "k8s.io/kubernetes/cmd/kubelet", 25),
    Part("kube-proxy", "node", "k8s.io/kubernetes/cmd/kube-proxy", 8),
    Part("pause", "node", "./pause", 1),
    Part("coredns", "platform", "github.com/coredns/coredns", 50),
    Part("metrics-server", "platform", "sigs.k8s.io/metrics-server/cmd/metrics-server", 13),
    Part("versitygw", "platform", "github.com/versity/versitygw/cmd/versitygw", 70),
    Part("envoy-gateway", "platform", "github.com/envoyproxy/gateway/cmd/envoy-gateway", 110),
    Part("helm", "platform", "helm.sh/helm/v3/cmd/helm", 20),
)
GROUPS = tuple(dict.fromkeys(part.group for part in PARTS))


def select(names: Iterable[str]) -> tuple[Part, ...]:
    """Give the parts of the named groups and parts, in building order; no name at all means every part."""
    wanted = set(names) or set(GROUPS)
    known = set(GROUPS) | {part.name for part in PARTS}
    if unknown := sorted(wanted - known):
        raise ClusterError(f"there is no part {', '.join(unknown)}; write one of: {', '.join(sorted(known))}")
    return tuple(part for part in PARTS if part.name in wanted or part.group in wanted)


def _variables(part: Part, wanted: versions.Versions) -> dict[str, str]:
    """Variables that the linker fills in so that the binary reports its real version."""
    if part.package.startswith("k8s.io/kubernetes/"):
        major, minor, _ = wanted.kubernetes.split(".")
        values = {
            "gitVersion": f"v{wanted.kubernetes}",
            "gitMajor": major,
            "gitMinor": minor,
            "gitTreeState": "clean",
        }
        return {
            f"{package}.{name}": value for package in _KUBERNETES_VERSION for name, value in values.items()
        }
    if part.package.startswith("github.com/containerd/"):
        return {"github.com/containerd/containerd/v2/version.Version": f"v{wanted.containerd}"}
    gateway = "github.com/envoyproxy/gateway/internal/cmd/version.envoyGatewayVersion"
    others = {
        "metrics-server": {"k8s.io/client-go/pkg/version.gitVersion": f"v{wanted.metrics_server}"},
        "versitygw": {"main.Version": f"v{wanted.versitygw}"},
        "envoy-gateway": {gateway: f"v{wanted.envoy_gateway}"},
        "helm": {"helm.sh/helm/v3/internal/version.version": f"v{wanted.helm}"},
    }
    return others.get(part.name, {})  # etcd and CoreDNS carry their version in their source


def linker_flags(part: Part, wanted: versions.Versions) -> str:
    """Give the value of `go build -ldflags` for a part: no debug tables, and its version."""
    variables = _variables(part, wanted)
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in sorted(variables.items()))])
