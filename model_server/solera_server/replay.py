"""
Which labels have been counted, so that none is counted twice: a bounded table that processes share.

The table is a set of buckets in anonymous shared memory. A bucket that is full gives up the label of the
oldest receipt in it, and from then on refuses receipts that are as old or older: so a full table shortens
the time within which labels are taken, and never lets one in twice.
"""

from __future__ import annotations

import enum
import fcntl
import hashlib
import mmap
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

WAYS = 16
BUCKETS = 16_384
"""262,144 places, 4 MiB; pages that were never written are not allocated."""

_HEAD_BYTES = 64


class Entry(enum.Enum):
    """What became of a label: counted for the first time, seen before, or of a time that is forgotten."""

    NEW = enum.auto()
    SEEN = enum.auto()
    FORGOTTEN = enum.auto()


class ReplayTable:
    """
    ``buckets`` of ``ways`` places each. Make it before the fork.

    A lock of the kernel guards it, which a process that dies gives back.
    """

    def __init__(self, buckets: int = BUCKETS, ways: int = WAYS) -> None:
        kind = np.dtype([("horizon", "i8"), ("mark", "u8", (ways,)), ("issued", "u4", (ways,))])
        self._memory = mmap.mmap(-1, _HEAD_BYTES + kind.itemsize * buckets)
        self._used = np.ndarray((1,), np.int64, self._memory)
        self._buckets: Any = np.ndarray((buckets,), kind, self._memory, offset=_HEAD_BYTES)
        self._lock = os.memfd_create("solera-replay", os.MFD_CLOEXEC)

    def enter(self, nonce: bytes, row: int, issued: int, oldest: int) -> Entry:
        """
        Enter the label of a row of a receipt that was issued at ``issued`` (seconds since 1970).

        Labels of receipts older than ``oldest`` need not be remembered: the caller refuses them.
        """
        digest = hashlib.blake2b(nonce + row.to_bytes(4, "big"), digest_size=16).digest()
        bucket = self._buckets[int.from_bytes(digest[:8], "big") % len(self._buckets)]
        mark = int.from_bytes(digest[8:], "big") or 1  # 0 is an empty place
        with self._locked():
            marks = bucket["mark"]
            if (marks == np.uint64(mark)).any():
                return Entry.SEEN
            if issued <= bucket["horizon"]:
                return Entry.FORGOTTEN
            times = np.where(marks == 0, 0, bucket["issued"])
            place = int(times.argmin())
            if times[place] >= oldest:  # a full bucket: the oldest receipt's label makes room
                if issued <= times[place]:
                    return Entry.FORGOTTEN
                bucket["horizon"] = int(times[place])
            self._used[0] += marks[place] == 0
            bucket["mark"][place] = 0
            bucket["issued"][place] = issued
            bucket["mark"][place] = mark
        return Entry.NEW

    @property
    def entries(self) -> int:
        """How many places are taken; those of labels that are too old are taken until another needs one."""
        return int(self._used[0])

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)
