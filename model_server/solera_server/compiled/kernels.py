"""
The inner loops: from the C extension ``solera_native`` where it is installed, otherwise from numpy.

Both give the same bits. SOLERA_KERNELS=numpy chooses numpy where the extension is there too;
SOLERA_KERNELS=native fails where it is not.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from solera_server.compiled import kernels_numpy

CHOICE = "SOLERA_KERNELS"


def _choose() -> Any:
    choice = os.environ.get(CHOICE, "")
    if choice not in {"", "native", "numpy"}:
        raise ImportError(f"{CHOICE} is {choice!r}; write native or numpy, or leave it out")
    if choice == "numpy":
        return kernels_numpy
    try:
        return importlib.import_module("solera_native")
    except ImportError:
        if choice == "native":
            raise
        return kernels_numpy


_kernels = _choose()

NATIVE: bool = _kernels is not kernels_numpy
"""Whether the extension computes."""

if TYPE_CHECKING:
    from solera_server.compiled.kernels_numpy import (
        Trees,
        distances,
        fill_column,
        fill_records,
        fill_rows,
        fill_values,
        linear,
        two_shares,
    )
else:
    Trees = _kernels.Trees
    distances = _kernels.distances
    fill_column = _kernels.fill_column
    fill_records = _kernels.fill_records
    fill_rows = _kernels.fill_rows
    fill_values = _kernels.fill_values
    linear = _kernels.linear
    two_shares = _kernels.two_shares

__all__ = [
    "NATIVE",
    "Trees",
    "distances",
    "fill_column",
    "fill_records",
    "fill_rows",
    "fill_values",
    "linear",
    "two_shares",
]
