"""The artifact: a directory of files, named by the digest of its manifest.

`manifest.json` lists every file with size and SHA-256; the artifact's digest is the SHA-256 of the manifest's
bytes. `docs/artifact-format.md` says what the files hold.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solera_core.canonical import canonical_json, sha256_digest
from solera_core.failures import ArtifactCorrupt

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
MODEL = "model.skops"
SCHEMA = "schema.json"
EXAMPLES = "examples.json"
METRICS = "metrics.json"
PROVENANCE = "provenance.json"
BASELINE = "baseline.json"
EXPLANATION = "explanation.json"
RESULT = "result.json"
"""Beside the manifest in a store, for a restore; not part of the artifact."""

REQUIRED = (MODEL, SCHEMA, EXAMPLES, METRICS, PROVENANCE)
OPTIONAL = (BASELINE, EXPLANATION)
"""Files that artifacts of earlier trainers lack; EXPLANATION is there for linear models only."""
MAX_FILES = 64
MAX_MANIFEST_BYTES = 64 * 1024
MAX_FILE_BYTES = 8 * 1024**3
MAX_DOCUMENT_BYTES = 64 * 1024**2
"""Of a JSON file. 64 examples of 10,000 features, or their 10,000 histograms, take about half of it."""
MAX_DOCUMENT_CONTAINERS = 1_000_000
"""Lists and objects in a JSON file, which take twenty times their text in memory."""

_NAME = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class FileEntry:
    """One file of an artifact: its SHA-256 in hex, its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """The files of an artifact, by name."""

    files: Mapping[str, FileEntry]

    @property
    def size(self) -> int:
        """Sum of the sizes of the files, in bytes, without the manifest's own."""
        return sum(entry.size for entry in self.files.values())

    def encode(self) -> bytes:
        """Return the bytes of `manifest.json`."""
        files = {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in self.files.items()}
        return canonical_json({"formatVersion": FORMAT_VERSION, "files": files})

    @property
    def digest(self) -> str:
        """The digest of the artifact."""
        return sha256_digest(self.encode())


def is_digest(text: str) -> bool:
    """Say whether the text has the form of a digest."""
    return _DIGEST.fullmatch(text) is not None


def write_manifest(directory: Path) -> Manifest:
    """Write `manifest.json` for the files that the directory holds, and return it.

    Raises ArtifactCorrupt when a name, a size or the set of files is not an artifact's.
    """
    names = sorted(path.name for path in directory.iterdir() if path.name not in {MANIFEST, RESULT})
    files = {}
    for name in names:
        path = directory / name
        if path.is_symlink() or not path.is_file():
            raise ArtifactCorrupt(f"{name} is not a regular file.")
        files[name] = file_entry(path)
    manifest = Manifest(files)
    encoded = manifest.encode()
    parse_manifest(encoded, manifest.digest)
    (directory / MANIFEST).write_bytes(encoded)
    return manifest


def parse_manifest(data: bytes, digest: str) -> Manifest:
    """Check the manifest's bytes against the artifact's digest and read them.

    Raises ArtifactCorrupt.
    """
    if not is_digest(digest):
        raise ArtifactCorrupt(f'"{digest}" is not a digest: write sha256: and 64 hexadecimal digits.')
    if len(data) > MAX_MANIFEST_BYTES:
        raise ArtifactCorrupt(f"{MANIFEST} has more than {MAX_MANIFEST_BYTES} bytes.")
    found = sha256_digest(data)
    if found != digest:
        raise ArtifactCorrupt(f"{MANIFEST} has the digest {found}, not {digest}.")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ArtifactCorrupt(f"{MANIFEST} is not JSON: {error}.") from error
    if not isinstance(document, dict) or document.get("formatVersion") != FORMAT_VERSION:
        raise ArtifactCorrupt(f"{MANIFEST} has not the format version {FORMAT_VERSION}.")
    files = document.get("files")
    if set(document) != {"formatVersion", "files"} or not isinstance(files, dict):
        raise ArtifactCorrupt(f"{MANIFEST} has other fields than formatVersion and files.")
    if len(files) > MAX_FILES:
        raise ArtifactCorrupt(f"{MANIFEST} lists more than {MAX_FILES} files.")
    manifest = Manifest({name: _entry(name, item) for name, item in files.items()})
    missing = [name for name in REQUIRED if name not in files]
    if missing:
        raise ArtifactCorrupt(f"{MANIFEST} does not list {', '.join(missing)}.")
    if manifest.encode() != data:
        raise ArtifactCorrupt(f"{MANIFEST} is not canonical JSON.")
    return manifest


def file_entry(path: Path) -> FileEntry:
    """Return a file's size and SHA-256."""
    return FileEntry(*_hash_file(path))


def check_file(path: Path, name: str, entry: FileEntry) -> None:
    """Check one file of an artifact by size and SHA-256.

    Raises ArtifactCorrupt.
    """
    if path.is_symlink() or not path.is_file():
        raise ArtifactCorrupt(f"{name} is missing or not a regular file.")
    size = path.stat().st_size
    if size != entry.size:
        raise ArtifactCorrupt(f"{name} has {size} bytes, not the manifest's {entry.size}.")
    sha256, _ = _hash_file(path)
    if sha256 != entry.sha256:
        raise ArtifactCorrupt(f"{name} has the SHA-256 {sha256}, not the manifest's {entry.sha256}.")


def verify(directory: Path, digest: str | None = None) -> Manifest:
    """Check the artifact in the directory and return its manifest.

    `digest` None takes the manifest at its word: for a laptop, where nobody promised a digest.
    Raises ArtifactCorrupt: wrong digest, a file that is missing, changed, or not listed.
    """
    path = directory / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise ArtifactCorrupt(f"there is no {MANIFEST} in {directory}: it is not an artifact.")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise ArtifactCorrupt(f"{MANIFEST} has more than {MAX_MANIFEST_BYTES} bytes.")
    data = path.read_bytes()
    manifest = parse_manifest(data, sha256_digest(data) if digest is None else digest)
    extra = sorted({item.name for item in directory.iterdir()} - set(manifest.files) - {MANIFEST, RESULT})
    if extra:
        raise ArtifactCorrupt(f"{directory} holds files that the manifest does not list: {', '.join(extra)}.")
    for name, entry in manifest.files.items():
        check_file(directory / name, name, entry)
    return manifest


def read_json(directory: Path, name: str) -> Any:
    """Read one of the artifact's JSON files; verify first.

    Raises ArtifactCorrupt when it is not JSON, or beyond the bounds of a document.
    """
    try:
        with (directory / name).open("rb") as stream:
            data = stream.read(MAX_DOCUMENT_BYTES + 1)
        if len(data) > MAX_DOCUMENT_BYTES:
            raise ArtifactCorrupt(f"{name} has more than {MAX_DOCUMENT_BYTES} bytes.")
        if data.count(b"[") + data.count(b"{") > MAX_DOCUMENT_CONTAINERS:
            raise ArtifactCorrupt(f"{name} has more than {MAX_DOCUMENT_CONTAINERS} lists and objects.")
        return json.loads(data)
    except RecursionError as error:
        raise ArtifactCorrupt(f"{name} is nested too deeply.") from error
    except (OSError, ValueError) as error:
        raise ArtifactCorrupt(f"{name} is not readable JSON: {error}.") from error


def _entry(name: Any, item: Any) -> FileEntry:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in {MANIFEST, RESULT}:
        raise ArtifactCorrupt(
            f"{MANIFEST} lists a file with the name {name!r}, which an artifact cannot have."
        )
    sha256 = item.get("sha256") if isinstance(item, dict) else None
    size = item.get("size") if isinstance(item, dict) else None
    if not isinstance(sha256, str) or not is_digest(f"sha256:{sha256}"):
        raise ArtifactCorrupt(f"{MANIFEST} gives no SHA-256 for {name}.")
    if type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
        raise ArtifactCorrupt(f"{MANIFEST} gives {name} a size that is not from 0 to {MAX_FILE_BYTES} bytes.")
    if name.endswith(".json") and size > MAX_DOCUMENT_BYTES:
        raise ArtifactCorrupt(
            f"{MANIFEST} gives {name} a size of {size} bytes: at most {MAX_DOCUMENT_BYTES}."
        )
    return FileEntry(sha256, size)


def _hash_file(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size
