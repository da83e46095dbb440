"""
Which labels have been counted, so that none is counted twice: a bounded table that processes share.

The table is a set of buckets in anonymous shared memory. A bucket that is full gives up the label of the
oldest receipt in it, and from then on refuses receipts that are as old or older: so a full table shortens
the time within which labels are taken, and never lets one in twice.

Locks of the kernel guard it, one for each 256th of the buckets. Nobody waits for one: a process may stand
still while it has one, and whoever waited on an event loop would stop with it.
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

_STRIPES = 256


class Entry(enum.Enum):
    """
    What became of a label: counted for the first time, seen before, or of a time that is forgotten.

    With BUSY nothing has become of it: another process has the lock, and one may try again.
    """

    NEW = enum.auto()
    SEEN = enum.auto()
    FORGOTTEN = enum.auto()
    BUSY = enum.auto()


class ReplayTable:
    """
    ``buckets`` of ``ways`` places each. Make it before the fork.

    A process that dies gives its lock back.
    """

    def __init__(self, buckets: int = BUCKETS, ways: int = WAYS) -> None:
        kind = np.dtype([("horizon", "i8"), ("mark", "u8", (ways,)), ("issued", "u4", (ways,))])
        self._memory = mmap.mmap(-1, 8 * _STRIPES + kind.itemsize * buckets)
        self._used = np.ndarray((_STRIPES,), np.int64, self._memory)
        self._buckets: Any = np.ndarray((buckets,), kind, self._memory, offset=8 * _STRIPES)
        self._lock = os.memfd_create("solera-replay", os.MFD_CLOEXEC)

    def enter(self, nonce: bytes, row: int, issued: int, oldest: int) -> Entry:
        """
        Enter the label of a row of a receipt that was issued at ``issued`` (seconds since 1970).

        Labels of receipts older than ``oldest`` need not be remembered: the caller refuses them. Never waits.
        """
        digest = hashlib.blake2b(nonce + row.to_bytes(4, "big"), digest_size=16).digest()
        number = int.from_bytes(digest[:8], "big") % len(self._buckets)
        bucket, stripe = self._buckets[number], number % _STRIPES
        mark = int.from_bytes(digest[8:], "big") or 1  # 0 is an empty place
        with self._locked(stripe) as mine:
            if not mine:
                return Entry.BUSY
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
            self._used[stripe] += marks[place] == 0
            bucket["mark"][place] = 0
            bucket["issued"][place] = issued
            bucket["mark"][place] = mark
        return Entry.NEW

    @property
    def entries(self) -> int:
        """How many places are taken; those of labels that are too old are taken until another needs one."""
        return int(self._used.sum())

    @contextmanager
    def _locked(self, stripe: int) -> Iterator[bool]:
        """Hold the lock of a stripe; False where another process has it."""
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, stripe)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, stripe)
