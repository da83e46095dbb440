"""
Tensors as bytes: little-endian, row-major, without padding.

V2's binary tensor data extension puts them behind the JSON of a body, gRPC in its raw contents. A BOOL is one
byte, 0 or 1; an element of BYTES is its length as an unsigned integer of 4 bytes and then its UTF-8 text.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.batch import InputError
from solera_server.encode import datatype
from solera_server.json_input import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MEDIA_TYPE = b"application/octet-stream"

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("u1"),
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
DATATYPES = (*_DTYPES, "BYTES")
"""What may come as bytes. BF16 can come in no other way."""


class Appendix:
    """What follows the JSON in a body; tensors take their bytes from it in the order of the inputs."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._taken = 0

    def take(self, size: int, where: str) -> memoryview:
        """Return the next ``size`` bytes; raises InputError when there are fewer."""
        left = len(self._data) - self._taken
        if size > left:
            raise InputError(f"{where}: {size} bytes are announced, and {left} are left in the body")
        self._taken += size
        return self._data[self._taken - size : self._taken]

    def check_end(self) -> None:
        """Raise InputError when there are bytes that no tensor has taken."""
        left = len(self._data) - self._taken
        if left:
            raise InputError(
                f"the body has {left} bytes more than its JSON and the binary_data_size of its inputs"
            )


def split_body(body: bytes, announced: bytes) -> tuple[bytes, Appendix]:
    """Split a body by the header Inference-Header-Content-Length; raises InputError."""
    length = int(announced) if announced.isdigit() and len(announced) < 20 else -1
    if not 0 <= length <= len(body):
        raise InputError(
            "Inference-Header-Content-Length: expected the bytes of the JSON at the beginning of the body "
            f"of {len(body)} bytes, got {shown(announced.decode('latin-1'))}"
        )
    return body[:length], Appendix(memoryview(body)[length:])


def read(
    datatype: str, shape: Sequence[int], raw: bytes | memoryview, where: str
) -> NDArray[Any] | list[str]:
    """
    Return the elements of a tensor, flat: numbers and booleans as an array over ``raw``, texts as a list.

    BF16 becomes float32, which holds all its values. Raises InputError when the bytes are not what datatype
    and shape mean.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        return _texts(count, shape, raw, where)
    dtype = _DTYPES[datatype]
    if len(raw) != count * dtype.itemsize:
        raise InputError(
            f"{where}: the shape {list(shape)} of {datatype} means {count * dtype.itemsize} bytes, "
            f"got {len(raw)}"
        )
    values: NDArray[Any] = np.frombuffer(raw, dtype=dtype)
    if datatype == "BOOL":
        wrong = np.flatnonzero(values > 1)
        if len(wrong):
            index = int(wrong[0])
            raise InputError(f"{where}.data[{index}]: expected BOOL, a byte of 0 or 1, got {values[index]}")
        return values.view(np.bool_)
    if datatype == "BF16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values


def _texts(count: int, shape: Sequence[int], raw: bytes | memoryview, where: str) -> list[str]:
    # Every element has at least its length; so the loop is bounded by the bytes that came.
    texts: list[str] = []
    position, end = 0, len(raw)
    while position < end and len(texts) < count:
        start = position + 4
        position = start + int.from_bytes(raw[position:start], "little")
        if position > end:
            break
        texts.append(text(raw[start:position], where, len(texts)))
    if len(texts) != count or position != end:
        raise InputError(
            f"{where}: the shape {list(shape)} of BYTES means {count} elements, each behind its length in 4 "
            f"bytes (little-endian), that together fill {end} bytes; they do not"
        )
    return texts


def text(element: bytes | memoryview, where: str, index: int) -> str:
    """Return an element of BYTES as the text that it must be; raises InputError."""
    try:
        return str(element, "utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{where}.data[{index}]: expected a text in UTF-8") from None


def write(array: NDArray[Any]) -> bytes:
    """Return the elements of an output as bytes, in the datatype that ``encode.datatype`` names for it."""
    kind = datatype(array.dtype)
    if kind == "BYTES":
        elements = [str(value).encode() for value in array.ravel().tolist()]
        return b"".join(len(element).to_bytes(4, "little") + element for element in elements)
    return array.astype(_DTYPES[kind], copy=False).tobytes()
