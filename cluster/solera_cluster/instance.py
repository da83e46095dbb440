"""One cluster on this machine: its name, its directory and the marks by which others recognise it."""

import json
import re
import shutil
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from solera_cluster import network, paths
from solera_cluster.errors import ClusterError

MAIN = "main"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,20}")
_LOOPBACK = "127.0.0.1"
# Ports on loopback apart from the API server's, which is on the node's address.
_MAIN_PORTS = {
    "kube-apiserver": 6443,
    "etcd": 12379,
    "etcd-peer": 12380,
    "kube-controller-manager": 10257,
}


@dataclass(frozen=True)
class Instance:
    """
    A cluster's identity and addresses.

    `checkout` and `binaries` are the directories it was started from; `controllers` says whether it has a
    controller manager.

    The main one is whole: it has a node, a bridge device and fixed ports. Every other one is an API server
    on loopback, with ports that were free when it was first started, and can run beside it.
    """

    name: str
    ports: dict[str, int]
    checkout: str
    binaries: str
    controllers: bool

    @property
    def directory(self) -> Path:
        """Everything that belongs to this cluster."""
        return paths.cluster_dir(self.name)

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.directory / "pki"

    @property
    def logs(self) -> Path:
        """One file for each process."""
        return self.directory / "logs"

    @property
    def has_node(self) -> bool:
        """Whether pods can run."""
        return self.name == MAIN

    @property
    def address(self) -> str:
        """Where the API server listens."""
        return network.NODE_ADDRESS if self.has_node else _LOOPBACK

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{self.address}:{self.ports['kube-apiserver']}"

    def kubeconfig(self, user: str = "admin") -> Path:
        """Kubeconfig of a user or component."""
        return self.directory / ("kubeconfig" if user == "admin" else f"{user}.kubeconfig")


def _record(name: str) -> Path:
    return paths.cluster_dir(name) / "instance.json"


def read(name: str) -> Instance | None:
    """Give the recorded cluster of that name, if one was started from any checkout and not taken down."""
    try:
        stored = json.loads(_record(name).read_text())
        return Instance(
            name,
            dict(stored["ports"]),
            str(stored["checkout"]),
            str(stored["binaries"]),
            bool(stored["controllers"]),
        )
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ClusterError(
            f"{_record(name)} is damaged ({error}); run `down --name {name}`, or remove that file"
        ) from error


def check_name(name: str) -> None:
    """Raise ClusterError for a name that cannot be a directory's and a context's."""
    if not _NAME.fullmatch(name) or name == "kind":
        raise ClusterError(
            f"{name!r} is no cluster name; write at most 21 of a-z, 0-9 and -, a letter first, and not kind"
        )


def create(name: str, controllers: bool) -> Instance:
    """Record a new cluster of this checkout and give it."""
    check_name(name)
    ports = _MAIN_PORTS if name == MAIN else _free_ports(_MAIN_PORTS)
    return record(Instance(name, ports, str(paths.CHECKOUT), str(paths.bin_dir()), controllers))


def record(made: Instance) -> Instance:
    """Write down what a cluster is, before anything of it is started."""
    made.directory.mkdir(parents=True, exist_ok=True)
    for private in (paths.cache_dir() / "cluster", made.directory):
        private.chmod(0o700)
    unfinished = _record(made.name).with_suffix(".unfinished")
    unfinished.write_text(json.dumps(asdict(made)))
    unfinished.replace(_record(made.name))
    return made


def names() -> list[str]:
    """Give the names of all recorded clusters."""
    return sorted(record.parent.name for record in (paths.cache_dir() / "cluster").glob("*/instance.json"))


def forget(name: str, keep: tuple[str, ...]) -> None:
    """Remove a stopped cluster's state, except for the named entries of its directory."""
    directory = paths.cluster_dir(name)
    if not directory.exists():
        return
    # The record goes last: an interrupted removal is found and repeated.
    for entry in sorted(directory.iterdir(), key=lambda entry: entry == _record(name)):
        if entry.name in keep:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _free_ports(wanted: dict[str, int]) -> dict[str, int]:
    sockets = [socket.create_server((_LOOPBACK, 0)) for _ in wanted]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return dict(zip(wanted, ports, strict=True))
