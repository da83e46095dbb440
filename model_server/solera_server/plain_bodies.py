"""
Request bodies in their plainest forms, read by the C extension from their bytes into a batch.

It says nothing about what is wrong: where it gives up, the careful way (rows.py, tensors.py) reads the same
body, and either takes it or words the error. What it takes the careful way takes too, with the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_core.schema import BOOLEAN, FLOAT, INTEGER, STRING
from solera_server.compiled.kernels import BodyReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from solera_server.batch import Layout, Texts

    Found = tuple[int, bytearray, tuple[Texts, ...], Any, Any]
    """Rows, their numbers as float64, texts; V1: whether probabilities are wanted, None; V2: outputs, id."""

_KINDS = {FLOAT: "f", INTEGER: "i", BOOLEAN: "b", STRING: "s"}
_DEPTH = 5
"""How deep plain bodies may nest."""
_FLOAT64 = np.dtype(np.float64)


class PlainBodies:
    """
    For one schema; without effect where a feature is a DateTime, which is never plain.

    ``read_v1`` and ``read_v2`` return what a body holds, or None where it is not plain: of at most
    ``most_rows`` rows, for ``model`` and with some of ``outputs``.
    """

    def __init__(
        self, layout: Layout, most_rows: int, json_depth: int, model: str = "", outputs: tuple[str, ...] = ()
    ) -> None:
        self.width = len(layout.numbers)
        self.reader: Any = None
        """The extension's own; None where no body is plain."""
        self.read_v1: Callable[[bytes], Found | None] = _nothing
        self.read_v2: Callable[[bytes], Found | None] = _nothing
        features = layout.features
        if BodyReader is None or json_depth < _DEPTH or any(item.type not in _KINDS for item in features):
            return
        kinds = [_KINDS[item.type].upper() if item.nullable else _KINDS[item.type] for item in features]
        names = tuple(item.name for item in features)
        try:
            reader = BodyReader(names, "".join(kinds).encode(), model, outputs, most_rows)
        except UnicodeEncodeError:
            return  # half a surrogate pair in a name, which no body can hold
        self.reader = reader
        self.read_v1, self.read_v2 = reader.read_v1, reader.read_v2

    def matrix(self, rows: int, numbers: bytearray) -> NDArray[np.float64]:
        """Return the numbers in the shape that a batch has, in the same memory."""
        return np.ndarray((rows, self.width), _FLOAT64, numbers)


def _nothing(_body: bytes) -> Found | None:
    return None
