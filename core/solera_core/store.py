"""The artifact store: where a version's files lie, and how they get there and back.

<store>/<namespace>/<model>/artifacts/sha256-<hex>/...     the artifact, manifest.json written last
<store>/<namespace>/<model>/versions/<version>-<uid8>/result.json, evaluation-<hex8>.json   the commit marks
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from solera_core import artifact
from solera_core.failures import ArtifactCorrupt, StoreDenied, StoreUnavailable
from solera_core.job import STORE_CREDENTIALS, StoreLocation
from solera_core.object_access import (
    AlreadyThere,
    Endpoint,
    NotFound,
    is_not_implemented,
    named_errors,
    read_credentials,
    s3_filesystem,
)

__all__ = ["AlreadyThere", "NotFound", "Store", "artifact_uri", "version_uri"]

_SCHEMES = ("s3", "file")
_MULTIPART_BYTES = 64 * 1024**2
_CHUNK = 4 * 1024**2
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SECRET = "the Secret of the artifact store"  # noqa: S105 - words for a message


def artifact_uri(store_uri: str, namespace: str, model: str, digest: str) -> str:
    """Return the URI of an artifact's directory."""
    return f"{store_uri.rstrip('/')}/{namespace}/{model}/artifacts/{digest.replace(':', '-')}"


def version_uri(store_uri: str, namespace: str, model: str, version_folder: str) -> str:
    """Return the URI of the directory with a version's results."""
    return f"{store_uri.rstrip('/')}/{namespace}/{model}/versions/{version_folder}"


class Store:
    """Reads and writes under one store URI: s3://bucket/prefix, or file:///directory on a laptop.

    Every method raises StoreUnavailable (after bounded retries) or StoreDenied; ArtifactCorrupt for a URI
    outside the store.
    """

    def __init__(
        self,
        location: StoreLocation,
        credentials: Path | None = Path(STORE_CREDENTIALS),
        secret: str = _SECRET,
    ) -> None:
        """`secret` is what messages call the Secret that is mounted at `credentials`."""
        self.location = location
        self.uri = location.uri.rstrip("/")
        scheme, separator, rest = self.uri.partition("://")
        if scheme not in _SCHEMES or not separator or not rest or "::" in self.uri:
            raise StoreUnavailable(
                f'the store URI "{location.uri}" is not s3://bucket/prefix or file:///directory.'
            )
        self._scheme = scheme
        self._credentials = credentials
        self._to_check = _to_check(scheme, credentials, secret)
        self._opened: Any = None

    def read(self, uri: str, limit: int) -> bytes:
        """Return the object's bytes. Raises NotFound; ArtifactCorrupt when it has more than `limit` bytes."""
        path = self._path(uri)
        with named_errors(uri, self._to_check), self._filesystem.open(path, "rb", **self._uncached) as stream:
            data: bytes = stream.read(limit + 1)
        if len(data) > limit:
            raise ArtifactCorrupt(f"{uri} has more than {limit} bytes.")
        return data

    def write(self, uri: str, data: bytes) -> None:
        """Write an object, over what is there."""
        path = self._path(uri)
        with named_errors(uri, self._to_check), self._bucket_must_exist(uri):
            self._put(path, data, create_only=False)

    def create(self, uri: str, data: bytes) -> None:
        """Write an object where there is none. Raises AlreadyThere.

        A store without conditional puts is asked first and then written: two writers at the same instant both
        succeed there, which is harmless for what is named by its content.
        """
        path = self._path(uri)
        try:
            with named_errors(uri, self._to_check), self._bucket_must_exist(uri):
                self._put(path, data, create_only=True)
        except StoreUnavailable as error:
            if not is_not_implemented(error):
                raise
            if self.exists(uri):
                raise AlreadyThere(uri) from None
            self.write(uri, data)

    def exists(self, uri: str) -> bool:
        """Say whether there is an object."""
        path = self._path(uri)
        # isfile() would call a store that does not answer an absent file.
        try:
            with named_errors(uri, self._to_check):
                return bool(self._filesystem.info(path)["type"] == "file")
        except NotFound:
            return False

    def upload(self, uri: str, source: Path) -> None:
        """Write an object from a file, in parts when it is large."""
        path = self._path(uri)
        if source.stat().st_size <= _MULTIPART_BYTES:
            self.write(uri, source.read_bytes())
            return
        with named_errors(uri, self._to_check), self._bucket_must_exist(uri):
            self._filesystem.put_file(str(source), path)

    def download(self, uri: str, target: Path, size: int) -> None:
        """Write an object of `size` bytes into a file. Raises NotFound; ArtifactCorrupt when it has more."""
        path, seen = self._path(uri), 0
        with (
            named_errors(uri, self._to_check),
            self._filesystem.open(path, "rb", **self._uncached) as stream,
            target.open("wb") as output,
        ):
            while chunk := stream.read(_CHUNK):
                seen += len(chunk)
                if seen > size:
                    raise ArtifactCorrupt(f"{uri} has more than the {size} bytes of its manifest.")
                output.write(chunk)

    def put_artifact(self, directory: Path, namespace: str, model: str) -> tuple[str, artifact.Manifest]:
        """Write an artifact under its digest, the manifest last; return its URI.

        What is there already under that digest must have the same content: a retry reads it, and writes only
        what is missing or damaged.
        """
        manifest = artifact.verify(directory)
        uri = artifact_uri(self.uri, namespace, model, manifest.digest)
        mark = f"{uri}/{artifact.MANIFEST}"
        there = self.exists(mark)
        for name, entry in manifest.files.items():
            if not there or not self._holds(f"{uri}/{name}", entry):
                self.upload(f"{uri}/{name}", directory / name)
        if there:
            if not self._holds(mark, artifact.file_entry(directory / artifact.MANIFEST)):
                self.write(mark, manifest.encode())
            return uri, manifest
        try:
            self.create(mark, manifest.encode())
        except AlreadyThere:
            if self.read(mark, artifact.MAX_MANIFEST_BYTES) != manifest.encode():
                raise ArtifactCorrupt(f"{mark} holds another manifest than its digest says.") from None
        return uri, manifest

    def fetch_artifact(self, uri: str, digest: str, target: Path) -> artifact.Manifest:
        """Read an artifact into an empty directory and verify every byte. Raises NotFound,
        ArtifactCorrupt.
        """
        data = self.read(f"{uri}/{artifact.MANIFEST}", artifact.MAX_MANIFEST_BYTES)
        manifest = artifact.parse_manifest(data, digest)
        target.mkdir(parents=True, exist_ok=True)
        for name, entry in manifest.files.items():
            self.download(f"{uri}/{name}", target / name, entry.size)
            artifact.check_file(target / name, name, entry)
        (target / artifact.MANIFEST).write_bytes(data)
        return manifest

    def _holds(self, uri: str, entry: artifact.FileEntry) -> bool:
        """Say whether there is an object with this size and SHA-256."""
        digest, seen, path = hashlib.sha256(), 0, self._path(uri)
        try:
            with (
                named_errors(uri, self._to_check),
                self._filesystem.open(path, "rb", **self._uncached) as stream,
            ):
                while seen <= entry.size and (chunk := stream.read(_CHUNK)):
                    digest.update(chunk)
                    seen += len(chunk)
        except NotFound:
            return False
        return (digest.hexdigest(), seen) == (entry.sha256, entry.size)

    @property
    def _filesystem(self) -> Any:
        if self._opened is None:
            if self._scheme == "s3":
                location = self.location
                endpoint = Endpoint(location.endpoint_url, location.region, location.ca_file)
                self._opened = s3_filesystem(endpoint, read_credentials(self._credentials))
            else:
                from fsspec.implementations.local import LocalFileSystem

                self._opened = LocalFileSystem(auto_mkdir=True, skip_instance_cache=True)
        return self._opened

    @property
    def _uncached(self) -> dict[str, Any]:
        return {"cache_type": "readahead", "block_size": _CHUNK} if self._scheme == "s3" else {}

    def _path(self, uri: str) -> str:
        """Return the path within the file system of a URI below the store's. Raises ArtifactCorrupt."""
        prefix = self.uri + "/"
        rest = uri.removeprefix(prefix)
        if not uri.startswith(prefix) or not all(_SEGMENT.fullmatch(part) for part in rest.split("/")):
            raise ArtifactCorrupt(f"{uri} is not a place in the store {self.uri}.")
        return uri.partition("://")[2]

    def _put(self, path: str, data: bytes, *, create_only: bool) -> None:
        if self._scheme == "s3":
            self._filesystem.pipe_file(path, data, mode="create" if create_only else "overwrite")
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            if create_only:
                os.link(name, target)
            else:
                Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)

    def _bucket_must_exist(self, uri: str) -> _BucketMustExist:
        return _BucketMustExist(uri)


def _to_check(scheme: str, credentials: Path | None, secret: str) -> str:
    """Return what whoever is denied access should look at."""
    if scheme == "file":
        return "the permissions of the directory"
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
    if in_pod or (credentials is not None and credentials.is_dir()):
        return secret
    return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or the profile in AWS_PROFILE"


class _BucketMustExist:
    """On a write, "not found" is about the bucket."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            if self._uri.startswith("file://"):
                raise StoreUnavailable(f"the directory of {self._uri} cannot be made.") from error
            bucket = self._uri.partition("://")[2].partition("/")[0]
            raise StoreDenied(
                f'the bucket "{bucket}" of the store does not exist, or may not be seen.'
            ) from error
