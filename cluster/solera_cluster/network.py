"""Addresses, the bridge device that carries the node's address, and how pods get theirs."""

import json
import subprocess
from pathlib import Path

from solera_cluster.errors import ClusterError

BRIDGE = "solera0"
NODE_NAME = "solera"
NODE_ADDRESS = "10.221.0.1"
POD_CIDR = "10.222.0.0/16"
SERVICE_CIDR = "10.223.0.0/16"
API_SERVICE_ADDRESS = "10.223.0.1"
DNS_ADDRESS = "10.223.0.10"
CNI_NETWORK = "solera"
# Where Debian's containernetworking-plugins puts them.
CNI_PLUGINS = Path("/usr/lib/cni")

# What the kubelet, kube-proxy and the CNI plugins set; put back by `down`.
_KERNEL_SETTINGS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
)
_SYS = Path("/proc/sys")


def run(*command: str) -> str:
    """Run a system command and give its output; raises ClusterError with what it said."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ClusterError(f"the program {command[0]} is missing on this machine") from error
    if result.returncode:
        raise ClusterError(f"`{' '.join(command)}` failed: {result.stderr.strip()}")
    return result.stdout


def bridge_exists() -> bool:
    """Whether our device is there."""
    return Path("/sys/class/net", BRIDGE).exists()


def bridge_owner() -> str:
    """State directory of the cluster that made the bridge, which it wrote on the device; may be empty."""
    try:
        return Path("/sys/class/net", BRIDGE, "ifalias").read_text().strip()
    except OSError:
        return ""


def ensure_bridge(owner: Path) -> None:
    """Make the device with the node's address. Nothing is plugged into it: it only holds the address."""
    if not bridge_exists():
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "link", "set", BRIDGE, "alias", str(owner))
    run("ip", "address", "replace", f"{NODE_ADDRESS}/32", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")


def remove_bridge() -> None:
    """Remove the device."""
    if bridge_exists():
        run("ip", "link", "delete", BRIDGE)


def conflicting_routes(routes: str) -> list[str]:
    """Find routes of `ip -j route`, not ours, that lie in the cluster's ranges."""
    ours = ("10.221.", "10.222.", "10.223.")
    return [
        f"{route['dst']} dev {route.get('dev', '?')}"
        for route in json.loads(routes or "[]")
        if str(route.get("dst", "")).startswith(ours)
    ]


def remember_kernel_settings(file: Path) -> None:
    """Write down the kernel settings that the node changes, once."""
    if file.exists():
        return
    values = {}
    for name in _KERNEL_SETTINGS:
        try:
            values[name] = (_SYS / name).read_text().strip()
        except OSError:  # its module is not loaded yet
            continue
    file.write_text(json.dumps(values))


def restore_kernel_settings(file: Path) -> None:
    """Put the kernel settings back as they were, as far as this machine lets them be written."""
    try:
        values: dict[str, str] = json.loads(file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return
    for name, value in values.items():
        target = _SYS / name
        try:
            if target.read_text().strip() != value:
                target.write_text(value)
        except OSError:
            continue
    file.unlink()


def write_cni_configuration(directory: Path, leases: Path) -> None:
    """
    Write the configuration for containerd.

    `ptp` gives every pod its own link to the host. On a shared bridge, replies between two of its pods would
    not pass the host's rules (without br_netfilter) and so escape the translation of service addresses.
    """
    directory.mkdir(parents=True, exist_ok=True)
    address_management = {
        "type": "host-local",
        "dataDir": str(leases),
        "ranges": [[{"subnet": POD_CIDR}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": address_management},
        {
            "type": "portmap",
            "capabilities": {"portMappings": True},
            "snat": True,
            # A pod's host port answers on the node's address only, not on every address of the machine.
            "conditionsV4": ["-d", NODE_ADDRESS],
        },
    ]
    configuration = {"cniVersion": "1.0.0", "name": CNI_NETWORK, "plugins": plugins}
    (directory / "10-solera.conflist").write_text(json.dumps(configuration, indent=2))
