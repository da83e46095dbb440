"""
Counters in memory that several processes share: each writes its own slot, a reader adds the slots up.

The memory is anonymous and made before the fork. A slot has one writer at a time, so nothing is locked;
a process that takes the place of one that died goes on where that one stopped.
"""

from __future__ import annotations

import mmap
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Slots and arrays begin on lines of their own: two processors that write side by side do not wait for
# each other.
_LINE = 64
_ATTEMPTS = 1000


@dataclass(frozen=True, slots=True)
class Field:
    """
    A named array of a slot; the default is a single integer.

    ``dtype`` has items of 8 bytes (int64 or float64), which a processor reads and writes whole.
    """

    name: str
    shape: tuple[int, ...] = (1,)
    dtype: type[np.generic] = np.int64


class SharedCounters:
    """
    ``fields`` in ``slots`` copies, all zero.

    Make it before the fork; then every process uses ``slot(its own number)`` to write, and any process
    ``each`` and ``total`` to read. A single number that is read while it is written is the old or the
    new one. Where several must fit together, write within ``writing`` and read by ``snapshot``.
    """

    def __init__(self, fields: Sequence[Field], slots: int) -> None:
        self.slots = slots
        self._fields = {field.name: field for field in fields}
        if len(self._fields) != len(fields):
            raise ValueError("two fields have one name")
        self._offsets: dict[str, int] = {}
        offset = _LINE  # the first line holds the number of writes
        for field in fields:
            if np.dtype(field.dtype).itemsize != 8:
                raise ValueError(
                    f"{field.name}: items must have 8 bytes, not those of {field.dtype.__name__}"
                )
            self._offsets[field.name] = offset
            offset += _lines(8 * prod(field.shape))
        self._stride = offset
        self._memory = mmap.mmap(-1, offset * slots)
        self._writes = self._array(0, (1,), np.int64)

    def slot(self, index: int) -> dict[str, NDArray[Any]]:
        """Return the arrays of a slot by name; only the process that has this slot may write them."""
        return {name: self.each(name)[index] for name in self._fields}

    def each(self, name: str) -> NDArray[Any]:
        """Return the slots' arrays of a name as one view of shape (slots, *shape)."""
        field = self._fields[name]
        return self._array(self._offsets[name], field.shape, field.dtype)

    def total(self, name: str) -> NDArray[Any]:
        """Return the sum over the slots, of the field's shape."""
        total: NDArray[Any] = self.each(name).sum(axis=0)
        return total

    @contextmanager
    def writing(self, index: int) -> Iterator[None]:
        """Mark what is written inside as one step for those who read by ``snapshot``."""
        writes = self._writes[index]
        if writes[0] % 2:  # whoever had this slot before died while it wrote
            writes[0] += 1
        writes[0] += 1
        try:
            yield
        finally:
            writes[0] += 1

    def snapshot(self, index: int) -> dict[str, NDArray[Any]]:
        """
        Return copies of a slot's arrays as they were between two steps of its writer.

        If the writer died within a step, they are as it left them.
        """
        writes = self._writes[index]
        copies: dict[str, NDArray[Any]] = {}
        for _ in range(_ATTEMPTS):
            before = int(writes[0])
            copies = {name: array.copy() for name, array in self.slot(index).items()}
            if before % 2 == 0 and int(writes[0]) == before:
                break
        return copies

    def _array(self, offset: int, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        inner = np.dtype(dtype).itemsize
        strides = [inner * prod(shape[axis + 1 :]) for axis in range(len(shape))]
        return np.ndarray(
            (self.slots, *shape), dtype, self._memory, offset=offset, strides=(self._stride, *strides)
        )


def _lines(size: int) -> int:
    return -(-size // _LINE) * _LINE
