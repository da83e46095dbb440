"""
Requests of gRPC in their plainest form, which are not parsed again: one tensor of numbers, as bytes of FP64.

A client that sends as many rows as before sends the same bytes before its numbers. What the careful way
(grpc_codec.py) read in those is kept: all that it checked holds again, and only the numbers are new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import DecodeError

from solera_core.schema import FLOAT
from solera_server.batch import Batch
from solera_server.open_inference import open_inference_pb2 as pb
from solera_server.tensors import matrix_place

if TYPE_CHECKING:
    from solera_server.batch import Layout

_FP64 = np.dtype("<f8")
_KEPT = 256
_LARGEST = 64 * 1024
_OTHER_BYTES = bytes(byte ^ 0xFF for byte in range(256))


class _Known:
    """``head`` is what stands before the numbers; ``where`` the place of the tensor, for messages."""

    __slots__ = ("head", "rows", "wanted", "where")

    def __init__(self, head: bytes, rows: int, wanted: tuple[str, ...], where: str) -> None:
        self.head, self.rows, self.wanted, self.where = head, rows, wanted, where


class PlainRequests:
    """For models all of whose features are Float, of which there are several; without effect for others."""

    def __init__(self, layout: Layout) -> None:
        self._features = layout.features
        self._plain = len(self._features) > 1 and all(item.type == FLOAT for item in self._features)
        self._strict = not all(item.nullable for item in self._features)
        self._by_length: dict[int, _Known] = {}

    def read(self, body: bytes) -> tuple[Batch, tuple[str, ...]] | None:
        """Return the rows and the outputs wanted; or None, and the careful way must read the body."""
        known = self._by_length.get(len(body))
        if known is None or not body.startswith(known.head):
            return None
        # A copy, so that the numbers are aligned in memory.
        numbers = np.frombuffer(body[len(known.head) :], _FP64)
        if self._strict and np.isnan(numbers).any():
            return None  # the careful way says whether it may be missing, and where it is
        features, where = self._features, known.where
        matrix = numbers.reshape(known.rows, len(features))
        batch = Batch(
            known.rows,
            matrix,
            (),
            lambda row, column: matrix_place(where, features[column], row, column),
        )
        return batch, known.wanted

    def remember(
        self, body: bytes, request: pb.ModelInferRequest, wanted: tuple[str, ...], where: str
    ) -> None:
        """Keep what stands before the numbers of a request that was read and found right, if it is plain."""
        if not self._plain or len(body) > _LARGEST or request.id or len(request.raw_input_contents) != 1:
            return
        [tensor], [raw] = request.inputs, request.raw_input_contents
        head = body[: len(body) - len(raw)]
        if tensor.datatype != "FP64" or not _ends_with_its_numbers(request, head, raw):
            return
        if len(self._by_length) >= _KEPT:
            self._by_length.clear()
        self._by_length[len(body)] = _Known(head, tensor.shape[0], wanted, where)


def _ends_with_its_numbers(request: pb.ModelInferRequest, head: bytes, raw: bytes) -> bool:
    """
    Whether a body that begins with ``head`` has its numbers after that, and nothing else.

    Fields may come in any order, and unknown ones may look like anything: so the same head is parsed with
    other numbers, which must be what is different then.
    """
    other = raw.translate(_OTHER_BYTES)
    expected = pb.ModelInferRequest()
    expected.CopyFrom(request)
    expected.raw_input_contents[0] = other
    try:
        return bool(pb.ModelInferRequest.FromString(head + other) == expected)
    except DecodeError:
        return False
