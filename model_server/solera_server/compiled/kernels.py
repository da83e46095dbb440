"""
The inner loops: from the C extension ``solera_native`` where it is installed, otherwise from numpy.

Both give the same bits. SOLERA_KERNELS=numpy chooses numpy where the extension is there too;
SOLERA_KERNELS=native fails (ImportError of the name "solera_native") where it is not, or does not fit.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from solera_server.compiled import kernels_numpy

if TYPE_CHECKING:
    from collections.abc import Callable

CHOICE = "SOLERA_KERNELS"
EXTENSION = "solera_native"


def _obstacle() -> str:
    """Return why the extension cannot be used, or nothing."""
    try:
        module = importlib.import_module(EXTENSION)
    except ModuleNotFoundError as error:
        if error.name == EXTENSION:
            return f"the extension {EXTENSION} is not installed"
        return f"the extension {EXTENSION} cannot be loaded: {error}"
    except ImportError as error:
        return f"the extension {EXTENSION} cannot be loaded: {error}"
    found = getattr(module, "INTERFACE", None)
    if found != kernels_numpy.INTERFACE:
        had = "none" if found is None else found
        return (
            f"the extension {EXTENSION} has the interface {had}, the server needs {kernels_numpy.INTERFACE}"
        )
    missing = [name for name in kernels_numpy.__all__ if not hasattr(module, name)]
    return f"the extension {EXTENSION} has no {missing[0]}" if missing else ""


def _choose() -> tuple[Any, str]:
    """Return the kernels, and why they are not the extension's where nobody wanted that."""
    choice = os.environ.get(CHOICE, "")
    if choice not in {"", "native", "numpy"}:
        raise ImportError(f"{CHOICE} is {choice!r}; write native or numpy, or leave it out", name=EXTENSION)
    if choice == "numpy":
        return kernels_numpy, ""
    obstacle = _obstacle()
    if not obstacle:
        return importlib.import_module(EXTENSION), ""
    if choice == "native":
        message = f"{CHOICE} is native, and {obstacle}; build both of one version, or leave {CHOICE} out"
        raise ImportError(message, name=EXTENSION)
    return kernels_numpy, obstacle


_kernels, WHY_NOT_NATIVE = _choose()

NATIVE: bool = _kernels is not kernels_numpy
"""Whether the extension computes."""

BodyReader: Callable[..., Any] | None = _kernels.BodyReader if NATIVE else None
"""Reads request bodies, see plain_bodies.py; None without the extension, which alone has it."""

Intake: Callable[..., Any] | None = _kernels.Intake if NATIVE else None
"""Takes plain requests, see plain_turn.py; None without the extension."""

if TYPE_CHECKING:
    from solera_server.compiled.kernels_numpy import (
        Trees,
        calm,
        category_codes,
        count_terms,
        distances,
        linear,
        one_hot,
        scaled_linear,
        scatter,
        two_shares,
        weigh_terms,
    )
else:
    Trees = _kernels.Trees
    calm = _kernels.calm
    category_codes = _kernels.category_codes
    count_terms = _kernels.count_terms
    distances = _kernels.distances
    linear = _kernels.linear
    one_hot = _kernels.one_hot
    scaled_linear = _kernels.scaled_linear
    scatter = _kernels.scatter
    two_shares = _kernels.two_shares
    weigh_terms = _kernels.weigh_terms

__all__ = [
    "NATIVE",
    "WHY_NOT_NATIVE",
    "BodyReader",
    "Intake",
    "Trees",
    "calm",
    "category_codes",
    "count_terms",
    "distances",
    "linear",
    "one_hot",
    "scaled_linear",
    "scatter",
    "two_shares",
    "weigh_terms",
]
