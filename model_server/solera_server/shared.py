"""
Counters in memory that several processes share: each writes its own slot, a reader adds the slots up.

The memory is anonymous and made before the fork. A slot has one writer at a time, so nothing is locked;
a process that takes the place of one that died goes on where that one stopped.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

# Slots and arrays begin on lines of their own: two processors that write side by side do not wait for
# each other.
_LINE = 64


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
    new one; several that are read then may come from before and after a step.
    """

    def __init__(self, fields: Sequence[Field], slots: int) -> None:
        self.slots = slots
        self._fields = {field.name: field for field in fields}
        if len(self._fields) != len(fields):
            raise ValueError("two fields have one name")
        self._offsets: dict[str, int] = {}
        offset = 0
        for field in fields:
            if np.dtype(field.dtype).itemsize != 8:
                raise ValueError(
                    f"{field.name}: items must have 8 bytes, not those of {field.dtype.__name__}"
                )
            self._offsets[field.name] = offset
            offset += _lines(8 * prod(field.shape))
        self._stride = offset
        self._memory = mmap.mmap(-1, offset * slots)

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

    def _array(self, offset: int, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        inner = np.dtype(dtype).itemsize
        strides = [inner * prod(shape[axis + 1 :]) for axis in range(len(shape))]
        return np.ndarray(
            (self.slots, *shape), dtype, self._memory, offset=offset, strides=(self._stride, *strides)
        )


def _lines(size: int) -> int:
    return -(-size // _LINE) * _LINE
