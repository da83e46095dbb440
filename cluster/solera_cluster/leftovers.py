"""What the main cluster makes outside its own directory, found and removed without its help."""

import contextlib
import json
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from solera_cluster import network, paths, processes
from solera_cluster.errors import ClusterError

_NFT_TABLE = "kube-proxy"
_CGROUPS = Path("/sys/fs/cgroup")
_SHIM_SOCKETS = Path("/run/containerd/s")
_CONTAINER_LOG_LINKS = Path("/var/log/containers")
_DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
_CNI_RECORDS = Path("/var/lib/cni/results")
_SETTLE_SECONDS = 10.0


@dataclass(frozen=True)
class Leftover:
    """One thing on the machine and how to remove it."""

    kind: str
    name: str
    remove: Callable[[], object]


def find(directory: Path) -> list[Leftover]:
    """List what a cluster with that state directory has on this machine, in the order of removal."""
    return [
        *_processes(directory),
        *_pod_processes(),
        *_mounts(directory),
        *_links(),
        *_bridge(directory),
        *_nft_tables(),
        *_iptables_chains(),
        *_cgroups(),
        *_sockets(),
        *_network_records(),
        *_log_links(directory),
    ]


def remove(directory: Path) -> None:
    """Remove all of it; raises ClusterError with what stays."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while found := find(directory):
        for leftover in found:
            # What cannot go yet (a busy cgroup, a mount below another) goes in the next round.
            with contextlib.suppress(OSError, ClusterError):
                leftover.remove()
        if time.monotonic() > deadline:
            names = "\n".join(f"  {leftover.kind} {leftover.name}" for leftover in find(directory))
            if names:
                raise ClusterError(f"these could not be removed:\n{names}")
        time.sleep(0.05)
    _remove_empty_directories()


def _processes(directory: Path) -> list[Leftover]:
    pids = processes.running_from(paths.cache_dir() / "bin", str(directory))
    return [Leftover("process", str(pid), partial(processes.end, [pid], 0)) for pid in pids]


def _pod_cgroups() -> list[Path]:
    """Find the kubelet's cgroup of all pods in each hierarchy (v1 has several)."""
    return [path for path in (*_CGROUPS.glob("*/kubepods"), _CGROUPS / "kubepods") if path.is_dir()]


def _pod_processes() -> list[Leftover]:
    pids = {
        int(pid)
        for root in _pod_cgroups()
        for file in root.rglob("cgroup.procs")
        for pid in _lines(file)
        if pid.isdigit()
    }
    return [
        Leftover("process of a pod", str(pid), partial(processes.end, [pid], 0))
        for pid in processes.living(pids)
    ]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def mount_points(mountinfo: str, directory: Path) -> list[str]:
    """Find the mount points below a directory in the text of /proc/self/mountinfo, the innermost first."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in mountinfo.splitlines()]
    return [point for point in reversed(points) if Path(point).is_relative_to(directory)]


def _mounts(directory: Path) -> list[Leftover]:
    points = mount_points(Path("/proc/self/mountinfo").read_text(), directory)
    return [Leftover("mount", point, partial(network.run, "umount", "--lazy", point)) for point in points]


def _links() -> list[Leftover]:
    """Host's ends of the pods' links: devices with a route to a pod's address."""
    if shutil.which("ip") is None:
        return []
    prefix = network.POD_CIDR.split("0.0", maxsplit=1)[0]
    routes = json.loads(network.run("ip", "-j", "-4", "route") or "[]")
    devices = sorted({route["dev"] for route in routes if str(route.get("dst", "")).startswith(prefix)})
    return [
        Leftover("network device", device, partial(network.run, "ip", "link", "delete", device))
        for device in devices
    ]


def _bridge(directory: Path) -> list[Leftover]:
    if network.bridge_exists() and network.bridge_owner() in {"", str(directory)}:
        return [Leftover("network device", network.BRIDGE, network.remove_bridge)]
    return []


def _nft_tables() -> list[Leftover]:
    if shutil.which("nft") is None:
        return []
    listed = json.loads(network.run("nft", "-j", "list", "tables"))["nftables"]
    families = [
        entry["table"]["family"] for entry in listed if entry.get("table", {}).get("name") == _NFT_TABLE
    ]
    return [
        Leftover(
            "nftables table",
            f"{family} {_NFT_TABLE}",
            partial(network.run, "nft", "delete", "table", family, _NFT_TABLE),
        )
        for family in families
    ]


def _iptables_chains() -> list[Leftover]:
    """Chains of the CNI plugin portmap; they exist only after a pod asked for a port of the host."""
    if shutil.which("nft") is None:
        return []
    listed = json.loads(network.run("nft", "-j", "list", "chains"))["nftables"]
    chains = [entry["chain"] for entry in listed if entry.get("chain", {}).get("name", "").startswith("CNI-")]
    return [
        Leftover(
            "nftables chain",
            f"{chain['family']} {chain['table']} {chain['name']}",
            partial(_delete_chain, chain["family"], chain["table"], chain["name"]),
        )
        for chain in chains
    ]


def _delete_chain(family: str, table: str, name: str) -> None:
    """Remove the rules that jump to a chain, then the chain."""
    listed = json.loads(network.run("nft", "-j", "-a", "list", "table", family, table))["nftables"]
    for rule in (entry["rule"] for entry in listed if "rule" in entry):
        if {"jump": {"target": name}} in rule["expr"]:
            handle = str(rule["handle"])
            network.run("nft", "delete", "rule", family, table, rule["chain"], "handle", handle)
    network.run("nft", "flush", "chain", family, table, name)
    network.run("nft", "delete", "chain", family, table, name)
    rest = json.loads(network.run("nft", "-j", "list", "table", family, table))["nftables"]
    if not any("rule" in entry or "hook" not in entry.get("chain", {"hook": ""}) for entry in rest):
        # Only the empty chains that iptables makes on its first call: the plugin made that call.
        network.run("nft", "delete", "table", family, table)


def _cgroups() -> list[Leftover]:
    return [Leftover("cgroup", str(root), partial(_remove_cgroup, root)) for root in _pod_cgroups()]


def _remove_cgroup(root: Path) -> None:
    for path in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        path.rmdir()
    root.rmdir()


def _sockets() -> list[Leftover]:
    """Sockets of containerd's shims and of the kubelet that nobody listens on any more."""
    found = []
    for path in (*_SHIM_SOCKETS.glob("*"), *_DEVICE_PLUGINS.glob("kubelet.sock")):
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
            except ConnectionRefusedError:
                found.append(Leftover("socket", str(path), path.unlink))
            except OSError:
                continue
    return found


def _network_records() -> list[Leftover]:
    """What the CNI library remembers of pods: our network, and the loopback device beside it."""
    prefix = f"{network.CNI_NETWORK}-"
    ours = {path.name.removeprefix(prefix).removesuffix("-eth0") for path in _CNI_RECORDS.glob(f"{prefix}*")}
    return [
        Leftover("network record", str(path), path.unlink)
        for path in _CNI_RECORDS.glob("*")
        if path.name.startswith(prefix) or path.name.removeprefix("cni-loopback-").removesuffix("-lo") in ours
    ]


def _remove_empty_directories() -> None:
    """Remove fixed directories that the programs made, if nothing else is in them."""
    for directory in (_SHIM_SOCKETS, _DEVICE_PLUGINS, _CNI_RECORDS, _CONTAINER_LOG_LINKS):
        with contextlib.suppress(OSError):
            directory.rmdir()
            if directory != _CONTAINER_LOG_LINKS:
                directory.parent.rmdir()


def _log_links(directory: Path) -> list[Leftover]:
    """Links that the kubelet puts where log collectors look."""
    links = [path for path in _CONTAINER_LOG_LINKS.glob("*") if path.is_symlink()]
    return [
        Leftover("link", str(link), link.unlink)
        for link in links
        if link.readlink().is_relative_to(directory)
    ]
