"""Which cluster the commands are about: the local one, kind's, or one that is there already."""

import enum
import os
import shutil
import subprocess

from solera_cluster.errors import ClusterError


class Target(enum.StrEnum):
    """Where Solera is to run."""

    LOCAL = "local"
    KIND = "kind"
    EXISTING = "existing"


SETTINGS = ("auto", *Target)


def choose(wanted: str, docker_works: bool, kind_found: bool, kubeconfig: str) -> Target:
    """
    Decide by the setting CLUSTER and what the machine has.

    `auto` takes kind where it can run, and never a cluster that merely happens to be in KUBECONFIG. Raises
    ClusterError for a setting that is unknown or cannot be followed.
    """
    if wanted == "auto":
        return Target.KIND if docker_works and kind_found else Target.LOCAL
    if wanted not in SETTINGS:
        raise ClusterError(f"CLUSTER={wanted} is unknown; write one of: {', '.join(SETTINGS)}")
    if wanted == Target.EXISTING and not kubeconfig:
        raise ClusterError("CLUSTER=existing needs KUBECONFIG: the path of that cluster's kubeconfig")
    if wanted == Target.KIND and not (docker_works and kind_found):
        lacking = "a Docker daemon that answers" if not docker_works else "the program kind"
        raise ClusterError(f"CLUSTER=kind needs {lacking}; install it, or use CLUSTER=local")
    return Target(wanted)


def current() -> Target:
    """Decide for this machine and environment."""
    wanted = os.environ.get("CLUSTER", "") or "auto"
    asks = wanted in {"auto", Target.KIND}
    kind_found = asks and shutil.which("kind") is not None
    docker_works = kind_found and _docker_works()
    if wanted == Target.KIND and not kind_found:
        docker_works = _docker_works()
    return choose(wanted, docker_works, kind_found, os.environ.get("KUBECONFIG", ""))


def _docker_works() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        return (
            subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=20).returncode == 0
        )
    except subprocess.TimeoutExpired:
        return False
