"""Commands around clusters: up, down, status, kubeconfig, leftovers."""

import argparse
import subprocess
import time
from pathlib import Path

from solera_cluster import (
    instance,
    kind,
    leftovers,
    lifecycle,
    paths,
    progress,
    selection,
    status,
)
from solera_cluster.command import Command
from solera_cluster.errors import ClusterError

_API = "api"


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help=f"a local cluster's name; {instance.MAIN} is the one with a node")


def _add_up_arguments(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument(
        "--api-only", action="store_true", help=f"etcd and API server on loopback, named {_API} by default"
    )
    parser.add_argument(
        "--controllers", action="store_true", help="with --api-only: the controller manager too"
    )
    parser.add_argument(
        "--takeover", action="store_true", help="replace a cluster of another checkout or of other versions"
    )


def _is_local(name: str | None) -> bool:
    """Whether a command is about a local cluster: one that is named always is."""
    return name is not None or selection.current() is selection.Target.LOCAL


def _up(arguments: argparse.Namespace) -> int:
    name: str | None = arguments.name or (_API if arguments.api_only else None)
    if arguments.controllers and not arguments.api_only:
        raise ClusterError("--controllers goes with --api-only: the whole cluster always has them")
    if arguments.api_only == (name in {None, instance.MAIN}):
        raise ClusterError(
            f"only {instance.MAIN} has a node, and always: any other name goes with --api-only"
        )
    begun = time.monotonic()
    if _is_local(name):
        made = lifecycle.up(
            name or instance.MAIN, arguments.controllers or not arguments.api_only, arguments.takeover
        )
        target = made.kubeconfig()
    else:
        target = _up_elsewhere()
    progress.say(f"Up after {progress.duration(time.monotonic() - begun)}.")
    print(target)
    return 0


def _up_elsewhere() -> Path:
    if selection.current() is selection.Target.KIND:
        kind.up()
    elif not _answers(lifecycle.main_kubeconfig()):
        raise ClusterError(
            f"the cluster of KUBECONFIG={lifecycle.main_kubeconfig()} does not answer; try `kubectl version`"
        )
    return lifecycle.main_kubeconfig()


def _answers(kubeconfig: Path) -> bool:
    command = [str(lifecycle.kubectl()), f"--kubeconfig={kubeconfig}", "get", "--raw=/readyz"]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def _down(arguments: argparse.Namespace) -> int:
    name: str | None = arguments.name
    if not _is_local(name):
        if selection.current() is selection.Target.EXISTING:
            raise ClusterError("the cluster of KUBECONFIG is not ours to stop")
        kind.down()
    elif not lifecycle.down(name or instance.MAIN):
        progress.say(f"Cluster {name or instance.MAIN} is not up: nothing to stop.")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    name: str | None = arguments.name
    if not _is_local(name):
        kubeconfig = lifecycle.main_kubeconfig()
        is_up = kubeconfig.exists() and _answers(kubeconfig)
        print(f"cluster {selection.current()} of {kubeconfig}: {'up' if is_up else 'NOT up'}")
        return 0 if is_up else 1
    seen = status.observe(name or instance.MAIN)
    if seen is None:
        others = ", ".join(instance.names())
        print(f"cluster {name or instance.MAIN}: NOT up" + (f" (there is: {others})" if others else ""))
        return 1
    print(seen.describe())
    return 0 if seen.is_up else 1


def _kubeconfig(arguments: argparse.Namespace) -> int:
    name: str | None = arguments.name
    print(paths.cluster_dir(name) / "kubeconfig" if name else lifecycle.main_kubeconfig())
    return 0


def _leftovers(_arguments: argparse.Namespace) -> int:
    found = leftovers.find(paths.cluster_dir(instance.MAIN))
    for leftover in found:
        print(f"{leftover.kind} {leftover.name}")
    made = instance.read(instance.MAIN)
    if made is not None and any(process.pid() for process in lifecycle.components(made)):
        progress.say("These belong to cluster main, which is running.")
        return 0
    return 1 if found else 0


COMMANDS = (
    Command("up", "start the cluster, or what of it is not running", _up, _add_up_arguments),
    Command("down", "stop the cluster and remove all but its images and logs", _down, _add_name),
    Command(
        "status", "say what runs, where it logs and whether it works; fails when not up", _status, _add_name
    ),
    Command("kubeconfig", "print the path of the kubeconfig", _kubeconfig, _add_name),
    Command(
        "leftovers", "list what a stopped cluster left on the machine; fails when there is any", _leftovers
    ),
)
