"""The rows that a version was trained on, as hashes: an evaluation counts which of its own are among them.

Two hashes of 64 bits stand for a row: of the key that decided its side of the split, and of its content,
which is the model's features and the target. The content knows a row again when its raw text has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from solera_core.canonical import sha256_digest
from solera_core.failures import ArtifactCorrupt
from solera_core.schema import Column

Hashes = npt.NDArray[np.uint64]

FILE = "training-rows.bin"
"""Beside the version's result in the store; its digest stands in the provenance."""

_MAGIC = b"SOLROWS1"
_HEADER = len(_MAGIC) + 16


@dataclass(frozen=True)
class TrainingRows:
    """Distinct hashes, ascending: of the training rows' keys, and of their contents."""

    keys: Hashes
    contents: Hashes

    @classmethod
    def of(cls, keys: Hashes, contents: Hashes) -> TrainingRows:
        """Return the training rows' hashes in their stored order."""
        return cls(np.unique(keys), np.unique(contents))

    def encode(self) -> bytes:
        """Return the file: 8 bytes that name the format, two counts, then both lists; little endian."""
        counts = np.array([len(self.keys), len(self.contents)], dtype="<u8")
        return b"".join(
            [_MAGIC, *(part.astype("<u8").tobytes() for part in (counts, self.keys, self.contents))]
        )

    @classmethod
    def decode(cls, data: bytes, digest: str) -> TrainingRows:
        """Read the file. Raises ArtifactCorrupt when it is not the one of the digest."""
        found = sha256_digest(data)
        if found != digest:
            raise ArtifactCorrupt(f"{FILE} has the digest {found}, not the provenance's {digest}.")
        whole = data.startswith(_MAGIC) and len(data) >= _HEADER and len(data) % 8 == 0
        numbers = np.frombuffer(data if whole else b"", dtype="<u8")[1:].astype(np.uint64)
        keys, contents = (int(count) for count in numbers[:2]) if whole else (0, 0)
        if not whole or len(numbers) != 2 + keys + contents:
            raise ArtifactCorrupt(f"{FILE} does not hold hashes of training rows.")
        return cls(numbers[2 : 2 + keys], numbers[2 + keys :])


def most_bytes(rows: int) -> int:
    """Return the size that the file of so many training rows has at most."""
    return _HEADER + 16 * rows


def content_hashes(columns: Mapping[str, Column], target: npt.NDArray[Any], salt: str) -> Hashes:
    """Return a hash for each row of its features and target; shape (rows,).

    Numbers count as 32-bit floats, so that data rewritten with less precision keeps its hashes.
    """
    secret = bytes.fromhex(salt)
    words = [_words(columns[name], secret) for name in sorted(columns)]
    matrix = np.ascontiguousarray(np.column_stack([*words, _words(target, secret)]))
    width = matrix.shape[1] * 8
    view = matrix.tobytes()
    digests = b"".join(
        hashlib.blake2b(view[start : start + width], digest_size=8, key=secret).digest()
        for start in range(0, len(view), width)
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _words(column: npt.NDArray[Any], secret: bytes) -> Hashes:
    """Return 64 bits for each cell that are equal when the cells are."""
    if column.dtype.kind in "OU":
        known: dict[Any, int] = {}
        for value in column.tolist():
            if isinstance(value, str) and value not in known:
                text = value.encode("utf-8", "surrogatepass")
                known[value] = int.from_bytes(hashlib.blake2b(text, digest_size=8, key=secret).digest())
        return np.array([known.get(value, 0) for value in column.tolist()], dtype=np.uint64)
    with np.errstate(over="ignore"):
        numbers = column.astype(np.float32)
    # All NaN are one; -0.0 is 0.0.
    numbers = np.where(np.isnan(numbers), np.float32(np.nan), numbers + np.float32(0))
    return numbers.astype("<f4").view("<u4").astype(np.uint64)
