"""What a skops file would become in memory, judged before skops builds it.

A file of a few kilobytes can declare arrays of terabytes, hold sparse matrices that are compressed a
thousandfold, or share lists so that walking through them never ends. Each is refused by what it declares.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from solera_core.failures import ArtifactCorrupt

MAX_DIRECTORY_BYTES = 16 * 1024**2
"""Of a zip archive's own list of members; 200,000 of the trainer's take 12 MB."""
MAX_PACKED_MEMBERS = 16
FREE_UNPACKED_BYTES = 256 * 1024**2
MAX_EXPANSION = 32
"""Sparse matrices may unpack to so many times the file, and to FREE_UNPACKED_BYTES beyond that."""
FREE_VISITS = 1_000_000
MAX_VISITS = 10
"""A walk that forgets where it was may visit each object so often, and FREE_VISITS beyond that."""


class BoundedFile(io.FileIO):
    """A file for `ZipFile` to open, which reads an archive's whole list of members into memory at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most `size` bytes. Raises BadZipFile for a list of members beyond the bound."""
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its list of members has more than {MAX_DIRECTORY_BYTES} bytes")
        return super().read(size) or b""


def check_contents(path: Path) -> None:
    """Refuse what would take memory or time out of proportion to the file. Reads headers, builds nothing.

    Raises ArtifactCorrupt, and what numpy, zipfile and json raise for what is none of theirs.
    """
    budget = FREE_UNPACKED_BYTES + MAX_EXPANSION * path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        check_sharing(path.name, json.loads(archive.read("schema.json")))
        for member in archive.infolist():
            with archive.open(member) as stream:
                start = stream.read(4)
            # numpy goes by what a member begins with, whatever its name.
            if start in {b"PK\x03\x04", b"PK\x05\x06"}:
                budget -= _check_packed(path.name, archive, member)
                if budget < 0:
                    raise ArtifactCorrupt(f"{path.name} has sparse matrices that unpack beyond bounds.")
            elif start == b"\x93NUM":
                with archive.open(member) as stream:
                    _check_array(path.name, member, stream)


def check_sharing(name: str, schema: Any) -> None:
    """Refuse objects that hold each other so often that a walk without memory would hardly end.

    `schema` is the content of the file's `schema.json`. Raises ArtifactCorrupt.
    """
    sizes: dict[Any, int] = {}
    objects = 0

    def size(node: Any) -> int:
        nonlocal objects
        if isinstance(node, list):
            return sum(map(size, node))
        if not isinstance(node, dict):
            return 0
        number = node.get("__id__")
        shared = isinstance(number, int) and "__loader__" in node
        if shared and number in sizes:
            return sizes[number]
        objects += 1
        if shared:
            sizes[number] = 1  # while it is being looked at: a cycle ends here, as it does in skops
        found = 1 + sum(map(size, node.values()))
        if shared:
            sizes[number] = found
        return found

    if size(schema) > FREE_VISITS + MAX_VISITS * objects:
        raise ArtifactCorrupt(f"{name} has objects that hold each other too often to be walked through.")


def array_header(
    stream: IO[bytes], refusal: Callable[[str], Exception]
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read what stands before an array's bytes: shape, whether in Fortran's order, and dtype.

    Raises what `refusal` makes of words for a version that the trainer does not write, and ValueError.
    """
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise refusal(f"an array in version {version} of numpy's format")


def _check_packed(name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Check the archive that a sparse matrix is within the model's; return the bytes that it unpacks to."""
    with zipfile.ZipFile(io.BytesIO(archive.read(member))) as packed:
        inner = packed.infolist()
        if len(inner) > MAX_PACKED_MEMBERS:
            raise ArtifactCorrupt(f"{name} has more than {MAX_PACKED_MEMBERS} parts in {member.filename}.")
        for part in inner:
            with packed.open(part) as stream:
                _check_array(name, part, stream)
    return sum(part.file_size for part in inner)


def _check_array(name: str, member: zipfile.ZipInfo, stream: IO[bytes]) -> None:
    """Compare the size that an array declares with that of its bytes."""
    shape, _, dtype = array_header(stream, lambda what: ArtifactCorrupt(f"{name} has {what}."))
    if dtype.hasobject:
        return  # which numpy refuses to read from anywhere but a pickle
    declared, found = math.prod(shape) * dtype.itemsize, member.file_size - stream.tell()
    if declared != found or min(shape, default=0) < 0 or (dtype.itemsize == 0 and math.prod(shape) > 0):
        shown = f"{member.filename} that declares the shape {str(shape)[:80]} of {str(dtype)[:40]}"
        raise ArtifactCorrupt(f"{name} has the array {shown}, and holds {found} bytes.")
