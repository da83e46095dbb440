"""Memory that loading a large model needed, given back."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """
    Collect garbage, and have the C library return to the system what it keeps of freed memory.

    glibc keeps freed blocks below one that is in use, without end: of a forest's file that is several times
    what its compiled form takes. Elsewhere than on glibc only garbage is collected.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
