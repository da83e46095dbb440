"""
The init step of a serving pod: copy an artifact from the store into a directory and verify it.

The serving process itself reads a local directory and holds no store credentials.
"""

from __future__ import annotations

import json
import logging
import shutil
from time import perf_counter
from typing import TYPE_CHECKING, Any

from solera_core import artifact
from solera_core.failures import ArtifactCorrupt, Failure, Reason
from solera_core.job import StoreLocation
from solera_core.store import NotFound, Store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

_INCOMING = ".incoming"
_FIELDS = {"uri": "uri", "endpointUrl": "endpoint_url", "region": "region", "caFile": "ca_file"}


def fetch(uri: str, digest: str, out: Path, environ: Mapping[str, str]) -> None:
    """
    Copy the artifact at ``uri`` into ``out`` and verify every byte against ``digest``.

    ``out`` may exist (a volume's mount point) and is then filled; the manifest comes last, so that a
    directory that was written in part is never an artifact. If ``out`` is this artifact already, nothing is
    done; another artifact's files are replaced, and other files refused. The store's settings are the JSON
    object in the environment's SOLERA_STORE; without it the store is the URI's parent, and
    endpoint, region and CA are what AWS_ENDPOINT_URL, AWS_REGION and AWS_CA_BUNDLE say. Raises Failure.
    """
    if not artifact.is_digest(digest):
        raise Failure(Reason.BAD_SPEC, f'--digest "{digest}": write sha256: and 64 hexadecimal digits.')
    if _is_there(out, digest):
        log.info("already there", extra={"digest": digest, "directory": str(out)})
        return
    started = perf_counter()
    store = Store(store_location(environ, uri))
    incoming = out / _INCOMING
    out.mkdir(parents=True, exist_ok=True)
    _refuse_foreign(out)
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        manifest = store.fetch_artifact(uri.rstrip("/"), digest, incoming)
    except NotFound as error:
        shutil.rmtree(incoming, ignore_errors=True)
        raise ArtifactCorrupt(f"{uri} is not in the store, or not whole: {error}.") from error
    except Failure:
        shutil.rmtree(incoming, ignore_errors=True)
        raise
    for name in artifact.OPTIONAL:
        (out / name).unlink(missing_ok=True)
    for name in (*manifest.files, artifact.MANIFEST):
        (incoming / name).rename(out / name)
    incoming.rmdir()
    artifact.verify(out, digest)
    seconds = round(perf_counter() - started, 3)
    log.info("fetched", extra={"uri": uri, "digest": digest, "bytes": manifest.size, "seconds": seconds})


def store_location(environ: Mapping[str, str], uri: str) -> StoreLocation:
    """
    Read SOLERA_STORE; without it, the variables that every client of S3 knows.

    Raises Failure (BadSpec) with what is wrong in it.
    """
    text = environ.get("SOLERA_STORE")
    if text is None:
        return StoreLocation(
            uri.rstrip("/").rpartition("/")[0],
            endpoint_url=environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None,
            region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None,
            ca_file=environ.get("AWS_CA_BUNDLE") or None,
        )
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        raise Failure(Reason.BAD_SPEC, f"SOLERA_STORE is not JSON: {error}.") from error
    if not isinstance(document, dict) or not isinstance(document.get("uri"), str):
        raise Failure(Reason.BAD_SPEC, 'SOLERA_STORE must be an object with "uri".')
    for key, value in document.items():
        if key not in _FIELDS or not isinstance(value, str | None):
            known = ", ".join(_FIELDS)
            raise Failure(Reason.BAD_SPEC, f'SOLERA_STORE: "{key}" is not one of {known}, or no string.')
    fields: dict[str, Any] = {_FIELDS[key]: value or None for key, value in document.items()}
    return StoreLocation(**fields)


def _is_there(out: Path, digest: str) -> bool:
    try:
        artifact.verify(out, digest)
    except ArtifactCorrupt:
        return False
    return True


def _refuse_foreign(out: Path) -> None:
    ours = {*artifact.REQUIRED, *artifact.OPTIONAL, artifact.MANIFEST, artifact.RESULT, _INCOMING}
    foreign = sorted(path.name for path in out.iterdir() if path.name not in ours)
    if foreign:
        raise Failure(Reason.BAD_SPEC, f"{out} holds other files ({foreign[0]}); give an empty directory.")
