"""
Threads of BLAS and OpenMP, tied to the CPU limit.

Their default is the machine's core count; under a CPU limit that makes them wait for one another (a
prediction of histogram boosting was measured at over a second). They read the environment once, when
numpy is imported: call this before. It imports neither numpy nor anything that does.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

UNLIMITED = 4
"""Threads at most where nothing limits the process: the requests of a model seldom gain from more."""

MAX_WORKERS = 16
"""Worker processes at most, unless more are asked for."""

_CGROUP = Path("/sys/fs/cgroup")
_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)


def cpus(text: str | None) -> float:
    """
    Read a CPU quantity as Kubernetes writes it (``2``, ``0.5``, ``500m``); 1 when there is none.

    Raises ValueError when it is not a positive quantity.
    """
    if text is None or not text.strip():
        return 1.0
    value = text.strip()
    number = float(value[:-1]) / 1000 if value.endswith("m") else float(value)
    if not math.isfinite(number) or number <= 0:
        raise ValueError(f"not a positive CPU quantity: {text!r}")
    return number


def quota(cgroup: Path = _CGROUP) -> float | None:
    """Return the CPUs that the container's cgroup (version 2 or 1) grants, or None where it sets no bound."""
    try:
        try:
            granted, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        except FileNotFoundError:
            granted = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii")
        return int(granted) / int(period) if int(granted) > 0 else None
    except (OSError, ValueError):  # no cgroup to be seen, or "max"
        return None


def usable_cpus(machine: int, affinity: int, granted: float | None) -> float:
    """
    Return how many CPUs may be had, whatever the environment says.

    In a pod without a CPU limit Kubernetes gives the node's count as its limit. Where neither a quota nor
    the affinity holds the process back, UNLIMITED stands for it.
    """
    if granted is not None:
        return min(granted, affinity)
    return affinity if affinity < machine else min(machine, UNLIMITED)


def available() -> float:
    """Return how many CPUs this process may have, whatever the environment says."""
    affinity = len(os.sched_getaffinity(0))
    return usable_cpus(os.cpu_count() or affinity, affinity, quota())


def granted(environ: Mapping[str, str], usable: float) -> float:
    """
    Return how many of the ``usable`` CPUs ``SOLERA_CPUS`` allows; without the variable all.

    Raises ValueError when it is not a positive quantity.
    """
    text = environ.get("SOLERA_CPUS", "")
    return min(usable, cpus(text)) if text.strip() else usable


def worker_count(environ: Mapping[str, str], usable: float | None = None) -> int:
    """
    Return how many worker processes to run by default: the whole CPUs of ``SOLERA_CPUS`` that can be had.

    Without the variable it is what can be had (``usable``, by default of this process).

    Raises ValueError when the variable is not a positive quantity.
    """
    most = granted(environ, available() if usable is None else usable)
    return min(MAX_WORKERS, max(1, math.floor(most)))


def limit_threads(environ: MutableMapping[str, str], usable: float | None = None, workers: int = 1) -> int:
    """
    Set the thread counts where they are not set, and return the count of each worker.

    It is ``SOLERA_CPUS``, whole, and no more than ``usable`` (by default what this process may have), shared
    out among the workers. With several of these the count is set to 1 in any case: OpenMP does not survive
    a fork once it has had threads. They get theirs by ``allow_threads``.
    """
    most = available() if usable is None else usable
    count = max(1, math.floor(min(cpus(environ.get("SOLERA_CPUS")), most) / workers))
    if workers == 1:
        for name in _VARIABLES:
            environ.setdefault(name, str(count))
        return count
    given = environ.get("OMP_NUM_THREADS", "")
    for name in _VARIABLES:
        environ[name] = "1"
    return int(given) if given.isdecimal() and int(given) > 0 else count


def allow_threads(count: int) -> None:
    """Give the libraries that are loaded, if scikit-learn is among them, ``count`` threads."""
    if count > 1 and "sklearn" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(count)
