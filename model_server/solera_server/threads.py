"""
Threads of BLAS and OpenMP, tied to the CPU limit.

Their default is the machine's core count; under a CPU limit that makes them wait for one another (a
prediction of histogram boosting was measured at over a second). They read the environment once, when
numpy is imported: call this before. It imports neither numpy nor anything that does.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

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


def limit_threads(environ: MutableMapping[str, str]) -> int:
    """Set the thread counts from ``SOLERA_CPUS`` where they are not set, and return the count."""
    count = max(1, math.floor(cpus(environ.get("SOLERA_CPUS"))))
    for name in _VARIABLES:
        environ.setdefault(name, str(count))
    return count
