"""Brings the local clusters up and down, and tells checkouts and leftovers apart."""

import contextlib
import dataclasses
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from solera_cluster import (
    build,
    certificates,
    control_plane,
    instance,
    kind,
    kubeconfig,
    leftovers,
    network,
    node,
    packages,
    paths,
    progress,
    selection,
    versions,
)
from solera_cluster.errors import ClusterError
from solera_cluster.instance import Instance
from solera_cluster.processes import Process

# Kept by `down`: images, because they take long to make, and the logs.
_KEPT = (node.images_directory(Path()).name, "logs")
_KERNEL_SETTINGS = "kernel-settings.json"


def main_kubeconfig() -> Path:
    """Give the kubeconfig of the cluster that Solera is to run on, by the setting CLUSTER."""
    match selection.current():
        case selection.Target.KIND:
            return kind.kubeconfig()
        case selection.Target.EXISTING:
            return Path(os.environ["KUBECONFIG"]).resolve()
        case _:
            return paths.cluster_dir(instance.MAIN) / "kubeconfig"


def kubectl() -> Path:
    """Give a kubectl: ours where it is compiled, or the one on PATH for clusters that are not ours."""
    ours = paths.bin_dir() / "kubectl"
    if not ours.exists() and selection.current() is not selection.Target.LOCAL:
        found = shutil.which("kubectl")
        if found:
            return Path(found)
    return build.ensure(["kubectl"]) / "kubectl"


def components(made: Instance) -> list[Process]:
    """Give the processes that a cluster consists of when it is up."""
    control = [control_plane.ETCD, control_plane.API_SERVER]
    if made.controllers:
        control.append(control_plane.CONTROLLER_MANAGER)
    if made.has_node:
        control.append(control_plane.SCHEDULER)
    found = [control_plane.process(made, name) for name in control]
    if made.has_node:
        found += [node.process(made, name) for name in (node.CONTAINERD, node.KUBE_PROXY, node.KUBELET)]
    return found


def up(name: str, controllers: bool, takeover: bool) -> Instance:
    """
    Bring a local cluster up; what runs already is left alone.

    The cluster `main` gets a node, every other one is an API server with etcd and, if asked for, the
    controller manager. `takeover` takes a cluster of another checkout, or of other versions, down first.
    Raises ClusterError when that would be necessary and is not allowed, or when something does not start.
    """
    instance.check_name(name)
    whole = name == instance.MAIN
    if whole and os.geteuid() != 0:
        raise ClusterError("a node needs root: run as root, or start the API server alone with --api-only")
    with _locked(name):
        existing = usable(name, takeover)
        packages.ensure(packages.NODE if whole else packages.CONTROL_PLANE)
        binaries = build.ensure(["control-plane", "node"] if whole else ["control-plane"])
        if existing is None:
            _check_free(name)
        made = existing or instance.create(name, controllers)
        if made.controllers != controllers:
            made = _change_controllers(made, controllers)
        _start(made, binaries)
    return made


def _start(made: Instance, binaries: Path) -> None:
    if all(process.pid() for process in components(made)) and control_plane.answers_ready(made):
        progress.say(f"Cluster {made.name} is up already.")
        return
    certificates.ensure(made)
    kubeconfig.write_all(made)
    if made.has_node:
        network.remember_kernel_settings(made.directory / _KERNEL_SETTINGS)
        network.ensure_bridge(made.directory)
    with progress.step("starting the control plane", expected_seconds=6):
        control_plane.start(made, binaries, made.controllers)
    if made.has_node:
        with progress.step("starting the node", expected_seconds=8):
            node.start(made, binaries, versions.load().pause)
            node.wait_until_ready(made)


def _change_controllers(made: Instance, controllers: bool) -> Instance:
    """Stop what has to start differently with or without the controller manager."""
    control_plane.process(made, control_plane.CONTROLLER_MANAGER).stop(patience=0)
    control_plane.process(made, control_plane.API_SERVER).stop(patience=0)
    return instance.record(dataclasses.replace(made, controllers=controllers))


def usable(name: str, takeover: bool) -> Instance | None:
    """Give the recorded cluster to go on with, or None after clearing away what cannot be gone on with."""
    existing = instance.read(name)
    if existing is None:
        return None
    alive = any(process.pid() for process in components(existing))
    reason = refusal(existing, str(paths.CHECKOUT), str(paths.bin_dir()))
    if reason is None:
        if not alive:
            progress.say(f"Going on with cluster {name}, whose processes have ended.")
        return existing
    if alive and not takeover:
        raise ClusterError(
            f"cluster {name} is running, but {reason}. Stop it with `down --name {name}`, or let"
            " `up --takeover` replace it (its objects are lost, its images are kept)"
        )
    progress.say(f"Clearing away cluster {name}: {reason}.")
    _take_down(name)
    return None


def refusal(existing: Instance, checkout: str, binaries: str) -> str | None:
    """Say why a checkout with these binaries cannot go on with an existing cluster; None if it can."""
    if existing.checkout != checkout:
        return f"it was started from another checkout, {existing.checkout}"
    if existing.binaries != binaries:
        return f"it runs binaries of other versions, from {existing.binaries}"
    return None


def _check_free(name: str) -> None:
    """Raise ClusterError when something of somebody else's is where the main cluster wants to be."""
    if name != instance.MAIN:
        return
    directory = paths.cluster_dir(name)
    owner = network.bridge_owner()
    if network.bridge_exists() and owner != str(directory):
        raise ClusterError(
            f"the network device {network.BRIDGE} belongs to a cluster with the state {owner or '(unknown)'}."
            " Take that one down first, with SOLERA_CACHE set as it was then; or, if it is long dead, remove"
            f" the device: `ip link delete {network.BRIDGE}`"
        )
    if leftovers.find(directory):
        progress.say("Removing what an earlier cluster left behind.")
        leftovers.remove(directory)
    if routes := network.conflicting_routes(network.run("ip", "-j", "-4", "route")):
        raise ClusterError(
            f"this machine uses addresses of the cluster already: {', '.join(routes)}; the cluster needs"
            f" {network.NODE_ADDRESS}, {network.POD_CIDR} and {network.SERVICE_CIDR}"
        )
    if taken := [port for port in node.LOOPBACK_PORTS if _is_taken(port)]:
        raise ClusterError(
            f"other programs listen on ports of 127.0.0.1 that the cluster needs: {taken};"
            " `ss -ltnp` names them"
        )


def _is_taken(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port), reuse_port=False).close()
    except OSError:
        return True
    return False


def down(name: str) -> bool:
    """Stop a local cluster, whichever checkout started it; give whether there was anything to stop."""
    with _locked(name):
        return _take_down(name)


def _take_down(name: str) -> bool:
    directory = paths.cluster_dir(name)
    try:
        made = instance.read(name)
    except ClusterError:  # a damaged record: everything that goes by names can still be stopped
        made = Instance(name, {}, "", "", controllers=True)
    abandoned = name == instance.MAIN and network.bridge_owner() == str(directory)
    if made is None and not abandoned:
        return False
    made = made or Instance(name, {}, "", "", controllers=True)
    if made.has_node and os.geteuid() != 0:
        raise ClusterError("stopping a node needs root: run as root")
    with progress.step(f"stopping cluster {name}", expected_seconds=5):
        if made.has_node:
            node.stop(made)
        for component in reversed(components(made)):
            # No patience: the API server waits a minute for open watches, and its data goes anyway.
            component.stop(patience=0)
        if made.has_node:
            leftovers.remove(directory)
            network.restore_kernel_settings(directory / _KERNEL_SETTINGS)
        instance.forget(name, _KEPT)
    return True


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """Let one command at a time start or stop a cluster."""
    file = paths.cache_dir() / "cluster" / f"{name}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"Waiting for another command that starts or stops cluster {name}.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
