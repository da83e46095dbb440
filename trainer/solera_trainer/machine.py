"""How much of the machine a training uses."""

from __future__ import annotations

import os

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
CPUS_VARIABLE = "SOLERA_CPUS"


def one_thread_each() -> None:
    """Give every numerical library one thread; call it before any is imported.

    Sums in another number of threads have other last bits, and the artifact's digest would depend on the
    pod's size. The CPUs are used by fitting folds, settings and trees side by side instead.
    """
    for variable in THREAD_VARIABLES:
        os.environ[variable] = "1"


def cpus() -> int:
    """Return how many CPUs may be used: SOLERA_CPUS, rounded up, or else what this process may run on."""
    text = os.environ.get(CPUS_VARIABLE, "")
    try:
        return max(1, -int(-float(text) // 1))
    except (ValueError, OverflowError):
        return len(os.sched_getaffinity(0))
