"""Debian packages that the machine itself must have, installed where they are missing."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from solera_cluster import progress
from solera_cluster.errors import ClusterError

# Package and a program of it by which its presence is seen.
NODE = {
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "iproute2": "ip",
    "iptables": "iptables",  # called by the CNI plugin portmap
    "nftables": "nft",
    "openssl": "openssl",
}
CONTROL_PLANE = {"openssl": "openssl"}

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing(wanted: Mapping[str, str]) -> list[str]:
    """Give the packages whose program is not on this machine."""
    return [package for package, program in wanted.items() if not _present(program)]


def _present(program: str) -> bool:
    if program.startswith("/"):
        return Path(program).exists()
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}") is not None


def ensure(wanted: Mapping[str, str]) -> None:
    """
    Install the packages that are missing; `wanted` maps a package to a program of it.

    Raises ClusterError where that takes another user or another distribution.
    """
    lacking = missing(wanted)
    if not lacking:
        return
    named = " ".join(lacking)
    if shutil.which("apt-get") is None:
        raise ClusterError(f"these programs are missing and there is no apt-get to install them: {named}")
    if os.geteuid() != 0:
        raise ClusterError(f"Debian packages are missing; run as root: apt-get install {named}")
    with progress.step(f"installing Debian packages: {named}", expected_seconds=20):
        install = ["install", "--yes", "--no-install-recommends", *lacking]
        result = _apt(install)
        if result.returncode:  # the lists of packages may be old, or never have been fetched
            _apt(["update"])
            result = _apt(install)
        if result.returncode:
            raise ClusterError(f"apt-get could not install {named}:\n{result.stderr.strip()[-1200:]}")
    if still := missing(wanted):
        raise ClusterError(f"apt-get installed {named}, but the programs of {' '.join(still)} are not there")


def _apt(arguments: list[str]) -> "subprocess.CompletedProcess[str]":
    command = ["apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=600", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": _SYSTEM_PATH}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
