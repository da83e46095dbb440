"""What runs, where it logs and whether it works."""

from dataclasses import dataclass

from solera_cluster import control_plane, instance, lifecycle, network, node
from solera_cluster.instance import Instance


@dataclass(frozen=True)
class Component:
    """One process of a cluster; `pid` is None when it does not run."""

    name: str
    pid: int | None
    log: str


@dataclass(frozen=True)
class Status:
    """State of a local cluster; `node` is the status of the Ready condition, None where there is none."""

    name: str
    checkout: str
    server: str
    kubeconfig: str
    api_ready: bool
    node: str | None
    components: tuple[Component, ...]

    @property
    def is_up(self) -> bool:
        """Whether everything that belongs to the cluster runs and works."""
        running = all(component.pid for component in self.components)
        return running and self.api_ready and self.node in {None, "True"}

    def describe(self) -> str:
        """Format it for a person."""
        width = max(len(component.name) for component in self.components)
        lines = [
            f"cluster     {self.name}: {'up' if self.is_up else 'NOT up'}",
            f"started by  {self.checkout}",
            f"API server  {self.server} ({'ready' if self.api_ready else 'does not answer'})",
        ]
        if self.node is not None:
            lines += [
                f"node        {network.NODE_NAME}, {network.NODE_ADDRESS}, Ready={self.node or 'unknown'}",
                f"ranges      pods {network.POD_CIDR}, services {network.SERVICE_CIDR}",
                f"DNS         {network.DNS_ADDRESS}",
            ]
        lines.append(f"kubeconfig  {self.kubeconfig}")
        for component in self.components:
            state = f"pid {component.pid}" if component.pid else "NOT running"
            lines.append(f"  {component.name:{width}}  {state:12}  {component.log}")
        return "\n".join(lines)


def observe(name: str) -> Status | None:
    """Look at a local cluster; None when there is none of that name."""
    made = instance.read(name)
    return None if made is None else _observe(made)


def _observe(made: Instance) -> Status:
    ready = control_plane.answers_ready(made)
    readiness = (node.readiness(made) if ready else "") if made.has_node else None
    return Status(
        name=made.name,
        checkout=made.checkout,
        server=made.server,
        kubeconfig=str(made.kubeconfig()),
        api_ready=ready,
        node=readiness,
        components=tuple(
            Component(process.name, process.pid(), str(process.log)) for process in lifecycle.components(made)
        ),
    )
