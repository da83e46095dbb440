"""Where data comes from: the schemes that a spec may name, matched exactly, and how each is opened.

s3://bucket/key with globs, https:// on allow-listed hosts, pvc:// on the mounted claim, sklearn:// for the
sets inside scikit-learn. Plain files are opened for `solera-train` on a laptop only, never for a Job.
"""

from __future__ import annotations

import contextlib
import io
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from solera_core.failures import Failure, Reason
from solera_core.job import DATA_CREDENTIALS, DATA_VOLUME, DataDefaults
from solera_core.nearest import did_you_mean, listed
from solera_core.object_access import Endpoint, NotFound, named_errors, read_credentials, s3_filesystem
from solera_trainer.https_source import https_file

MAX_FILES = 10_000
_BUNDLED = re.compile(r"sklearn://([a-z_]+)")
_FORMAT = re.compile(r"\.(parquet|csv|csv\.gz)$")
_SECRET = "the Secret in data.secretName"  # noqa: S105 - words for a message


@dataclass(frozen=True)
class DataAccess:
    """What the machine offers for reading data: mounted credentials and volume, defaults, plain files."""

    defaults: DataDefaults = field(default_factory=DataDefaults)
    credentials: Path | None = Path(DATA_CREDENTIALS)
    volume: Path = Path(DATA_VOLUME)
    any_https_host: bool = False
    """On a laptop its user decides; in a cluster the operator's settings list the hosts."""


@dataclass(frozen=True)
class SourceFile:
    """One file of the data: its name for messages, its format, and how to open it."""

    name: str
    format: str
    open: Callable[[], contextlib.AbstractContextManager[Any]]


def bundled_name(uri: str) -> str | None:
    """Return the name of the set inside scikit-learn, or None for another kind of URI."""
    match = _BUNDLED.fullmatch(uri)
    return match[1] if match else None


def source_files(uri: str, access: DataAccess) -> list[SourceFile]:
    """Return the files that the URI stands for, sorted by name; at least one.

    Raises Failure: BadSpec, HostNotAllowed, DataNotFound, StoreDenied or StoreUnavailable.
    """
    if "::" in uri:
        raise Failure(Reason.BAD_SPEC, f"data.uri: chained URIs (::) are not read: {uri}.")
    scheme = uri.partition("://")[0]
    if scheme == "s3":
        return _s3_files(uri, access)
    if scheme == "https":
        return [_https(uri, access)]
    if scheme == "pvc":
        path = uri.removeprefix("pvc://").partition("/")[2]
        return _local_files(uri, access.volume, path)
    message = f'data.uri: write s3://, https://, pvc:// or sklearn://, not "{scheme}".'
    raise Failure(Reason.BAD_SPEC, message)


def plain_files(paths: list[Path]) -> list[SourceFile]:
    """Return files of the laptop's own file system. Raises Failure (DataNotFound, BadSpec)."""
    files = []
    for path in paths:
        if not path.is_file():
            names = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
            hint = did_you_mean(path.name, names)
            raise Failure(Reason.DATA_NOT_FOUND, f"there is no file {path}.{hint}")
        files.append(_local_file(path, str(path)))
    return files


def _s3_files(uri: str, access: DataAccess) -> list[SourceFile]:
    defaults = access.defaults
    endpoint = Endpoint(defaults.endpoint_url, defaults.region)
    filesystem = s3_filesystem(endpoint, read_credentials(access.credentials))
    path = uri.removeprefix("s3://")
    try:
        with named_errors(uri, _SECRET):
            if "*" in path:
                paths = sorted(filesystem.glob(path))
            else:
                paths = [path] if _is_file(filesystem, path) else []
    except NotFound as error:
        raise Failure(Reason.DATA_NOT_FOUND, f"there is no data at {uri}: {error}.") from error
    if not paths:
        raise Failure(Reason.DATA_NOT_FOUND, _nothing_at(uri, filesystem, path))
    if len(paths) > MAX_FILES:
        raise Failure(Reason.BAD_SPEC, f"data.uri: {uri} matches more than {MAX_FILES} files.")

    def opener(name: str) -> Callable[[], contextlib.AbstractContextManager[Any]]:
        @contextlib.contextmanager
        def opened() -> Iterator[BinaryIO]:
            try:
                with named_errors(f"s3://{name}", _SECRET), filesystem.open(name, "rb") as stream:
                    yield io.BufferedReader(stream)  # fsspec's own readline takes no limit
            except NotFound as error:
                message = f"s3://{name} disappeared while it was read."
                raise Failure(Reason.DATA_NOT_FOUND, message) from error

        return opened

    return [SourceFile(f"s3://{name}", _format(name), opener(name)) for name in paths]


def _is_file(filesystem: Any, path: str) -> bool:
    try:
        return bool(filesystem.info(path)["type"] == "file")
    except FileNotFoundError:
        return False


def _nothing_at(uri: str, filesystem: Any, path: str) -> str:
    """Say that nothing is there, and what is nearby, as far as it may be listed."""
    folder = posixpath.dirname(path.partition("*")[0] if "*" in path else path)
    try:
        with named_errors(uri, _SECRET):
            nearby = [posixpath.basename(item) for item in filesystem.ls(folder, detail=False)]
    except (NotFound, Failure):
        return f"there is no file at {uri}, and s3://{folder} does not exist or may not be listed."
    names = [name for name in nearby if name]
    hint = did_you_mean(posixpath.basename(path), names)
    there = f" s3://{folder}/ holds {listed(sorted(names))}." if names else f" s3://{folder}/ is empty."
    return f"there is no file at {uri}.{hint}{there}"


def _local_files(uri: str, root: Path, pattern: str) -> list[SourceFile]:
    """Return files below the volume; a link that leads out of it is refused."""
    if not root.is_dir():
        raise Failure(Reason.DATA_NOT_FOUND, f"the claim of {uri} is not mounted in this pod.")
    paths = sorted(root.glob(pattern)) if "*" in pattern else [root / pattern]
    paths = [path for path in paths if path.is_file()]
    if not paths:
        folder = (root / pattern.partition("*")[0]).parent
        names = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
        hint = did_you_mean(posixpath.basename(pattern), names)
        there = f" Beside it there are {listed(names)}." if names else ""
        raise Failure(Reason.DATA_NOT_FOUND, f"there is no file at {uri}.{hint}{there}")
    for path in paths:
        if not path.resolve().is_relative_to(root.resolve()):
            raise Failure(Reason.BAD_SPEC, f"data.uri: {uri} leads out of its volume.")
    return [_local_file(path, f"{uri.split('/', 3)[2]}/{path.relative_to(root)}") for path in paths]


def _local_file(path: Path, name: str) -> SourceFile:
    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        try:
            with named_errors(name, "the rights on the file"), path.open("rb") as stream:
                yield stream
        except NotFound as error:
            raise Failure(Reason.DATA_NOT_FOUND, f"{name} disappeared while it was read.") from error

    return SourceFile(name, _format(path.name), opened)


def _https(uri: str, access: DataAccess) -> SourceFile:
    parts = urlsplit(uri)
    host = parts.netloc.lower()
    allowed = [item.lower() for item in access.defaults.allowed_hosts]
    if not access.any_https_host and host not in allowed:
        there = f"they allow {listed(allowed)}" if allowed else "they allow none"
        message = f'data.uri: the operator\'s settings do not allow the host "{host}"; {there}.'
        raise Failure(Reason.HOST_NOT_ALLOWED, message)
    return SourceFile(uri, _format(parts.path), lambda: https_file(uri, access.credentials))


def _format(name: str) -> str:
    match = _FORMAT.search(name)
    if match is None:
        message = f"data.uri: {name} is not named .parquet, .csv or .csv.gz."
        raise Failure(Reason.BAD_SPEC, message)
    return match[1]
