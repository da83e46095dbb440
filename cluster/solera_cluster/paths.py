"""Where things are kept: one cache directory for everything that can be made again."""

import os
from pathlib import Path

from solera_cluster import toolchain, versions

CHECKOUT = versions.CLUSTER_DIRECTORY.parent
GO_MODULE = versions.CLUSTER_DIRECTORY / "gomod"


def cache_dir() -> Path:
    """Directory of all caches and of the state of clusters: SOLERA_CACHE, or ~/.cache/solera."""
    named = os.environ.get("SOLERA_CACHE")
    return Path(named).expanduser().resolve() if named else Path.home() / ".cache" / "solera"


def bin_dir() -> Path:
    """Directory of the binaries for this checkout's versions and this machine's Go; may not exist yet."""
    return cache_dir() / "bin" / versions.load().key(toolchain.version())


def go_cache_dir() -> Path:
    """Compiled packages; dropped when every binary is there."""
    return cache_dir() / "go-build"


def cluster_dir(name: str) -> Path:
    """State of one cluster: certificates, data, logs, pid files, kubeconfigs."""
    return cache_dir() / "cluster" / name
