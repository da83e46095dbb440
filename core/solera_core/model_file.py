"""Loading `model.skops`: only types of a fixed list, within bounds, and never a pickle.

The list is data beside the catalogue (`catalogue/trusted_types.json`), made from what the catalogue's
estimators consist of and reviewed by a person. What a file asks for is never taken as what it may have.
"""

from __future__ import annotations

import json
import re
import zipfile
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from solera_core.failures import ArtifactCorrupt
from solera_core.model_bombs import BoundedFile, check_contents

MAX_MEMBERS = 200_000
MAX_UNPACKED_BYTES = 8 * 1024**3
MAX_SCHEMA_BYTES = 256 * 1024**2
"""Of `schema.json` in the file: 7 kB for a boosted tree, 200 bytes for a word of a vocabulary."""
MAX_SCHEMA_CONTAINERS = 6_000_000
"""Lists and objects in it; the trainer writes one for 70 bytes, and text of nothing else fills memory."""
_MEMBER = re.compile(r"schema\.json|[A-Za-z0-9_-]{1,128}\.[a-z]{1,16}")
_ENCRYPTED = 0x1
_CHUNK = 1024**2


@cache
def trusted_types() -> tuple[str, ...]:
    """Return the types that a model may consist of, beside those that skops trusts by itself."""
    source = resources.files("solera_core.catalogue") / "trusted_types.json"
    return tuple(json.loads(source.read_text(encoding="utf-8"))["types"])


def load_model(path: Path) -> Any:
    """Return the fitted pipeline. Verify the artifact's digest first.

    Imports skops and scikit-learn. Raises ArtifactCorrupt: not a skops file, too large when unpacked, or with
    a type that is not on the list.
    """
    check_archive(path)
    from skops import io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        check_contents(path)
        return io.load(path, trusted=list(trusted_types()))
    except UntrustedTypesFoundException as error:
        raise ArtifactCorrupt(f"{path.name} holds types that a model may not consist of: {error}") from error
    except (ArtifactCorrupt, MemoryError):
        raise
    except Exception as error:
        # The file is foreign until it has been built: whatever building raises says that it is not a model.
        raise ArtifactCorrupt(f"{path.name} cannot be loaded: {type(error).__name__}: {error}") from error


def check_archive(path: Path) -> None:
    """Refuse archives that would unpack beyond bounds or have compressed or odd members."""
    try:
        with BoundedFile(path) as file, zipfile.ZipFile(file) as archive:
            _check_members(path, archive.infolist())
            containers = _containers(path, archive)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ArtifactCorrupt(f"{path.name} is not a skops file: {error}.") from error
    if containers > MAX_SCHEMA_CONTAINERS:
        raise ArtifactCorrupt(
            f"{path.name} has a schema.json with more than {MAX_SCHEMA_CONTAINERS} lists and objects."
        )


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse what the list of an archive's members says already."""
    if len(members) > MAX_MEMBERS:
        raise ArtifactCorrupt(f"{path.name} has more than {MAX_MEMBERS} members.")
    names = {member.filename for member in members}
    if len(names) != len(members):
        raise ArtifactCorrupt(f"{path.name} has two members of one name.")
    if "schema.json" not in names:
        raise ArtifactCorrupt(f"{path.name} has no schema.json: it is not a skops file.")
    if sum(member.file_size for member in members) > MAX_UNPACKED_BYTES:
        raise ArtifactCorrupt(f"{path.name} unpacks to more than {MAX_UNPACKED_BYTES} bytes.")
    for member in members:
        _check_member(path, member)
        if member.filename == "schema.json" and member.file_size > MAX_SCHEMA_BYTES:
            raise ArtifactCorrupt(f"{path.name} has a schema.json of more than {MAX_SCHEMA_BYTES} bytes.")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ArtifactCorrupt(f"{path.name} has members that overlap: together they are larger than it is.")


def _containers(path: Path, archive: zipfile.ZipFile) -> int:
    """Count what may open a list or an object in `schema.json`; in texts, too."""
    found = 0
    try:
        with archive.open("schema.json") as stream:
            while chunk := stream.read(_CHUNK):
                found += chunk.count(b"{") + chunk.count(b"[")
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ArtifactCorrupt(f"{path.name} cannot be read: {error}.") from error
    return found


def _check_member(path: Path, member: zipfile.ZipInfo) -> None:
    """Refuse a member that the trainer does not write: compressed, encrypted, in a folder, oddly named."""
    if not _MEMBER.fullmatch(member.filename):
        raise ArtifactCorrupt(f"{path.name} has a member with the name {member.filename[:80]!r}.")
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        raise ArtifactCorrupt(f"{path.name} has the compressed member {member.filename}.")
    if member.flag_bits & _ENCRYPTED:
        raise ArtifactCorrupt(f"{path.name} has the encrypted member {member.filename}.")
