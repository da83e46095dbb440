"""Files of the prediction log: their formats, and the store that they go to."""

from __future__ import annotations

import importlib.util
import io
import json
import tempfile
import zlib
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import orjson

from solera_core.failures import Failure, Reason
from solera_core.job import StoreLocation
from solera_core.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

SETTINGS = "SOLERA_PREDICTION_LOG"
CREDENTIALS = Path("/var/run/solera/prediction-log")
_FIELDS = {"endpointUrl": "endpoint_url", "region": "region", "caFile": "ca_file"}
_GZIP = 31
_LEVEL = 4


class LogFile:
    """
    A file that grows in memory: gzipped JSON lines, or Parquet.

    ``size`` is about the bytes that it has so far, ``began`` when it was begun (monotonic clock).
    """

    def __init__(self, kind: str, moment: datetime) -> None:
        self.moment = moment
        self.began = monotonic()
        self.records = 0
        self.size = 0
        self.suffix = "parquet" if kind == "parquet" else "jsonl.gz"
        self._parquet = kind == "parquet"
        self._rows: list[dict[str, Any]] = []
        self._compress = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._parts: list[bytes] = []

    def add(self, record: dict[str, Any]) -> None:
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
        if self._parquet:
            self._rows.append(record)
            self.size += len(line)
        else:
            part = self._compress.compress(line)
            self._parts.append(part)
            self.size += len(part)
        self.records += 1

    def finish(self) -> bytes:
        """Return the whole file."""
        if not self._parquet:
            return b"".join((*self._parts, self._compress.flush()))
        import pyarrow as pa
        from pyarrow import parquet

        stream = io.BytesIO()
        parquet.write_table(pa.Table.from_pylist(_same_fields(self._rows)), stream, compression="zstd")
        return stream.getvalue()


def _same_fields(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give every row every field: the columns of a table are those of its first row."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def check_format(kind: str) -> None:
    """Raise Failure (BadSpec) for a format that this installation cannot write."""
    if kind == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise Failure(
            Reason.BAD_SPEC,
            "--prediction-log-format parquet needs the package pyarrow, which this image does not have; "
            "write jsonl.",
        )


def log_store(url: str, environ: Mapping[str, str], credentials: Path = CREDENTIALS) -> Store:
    """
    Return the store at ``url``: s3://bucket/prefix, file:///directory, or a directory's path.

    An S3 endpoint, region and CA file stand in the environment's SOLERA_PREDICTION_LOG, a JSON object;
    credentials are files in /var/run/solera/prediction-log. Nothing is opened yet. Raises Failure (BadSpec).
    """
    if "://" not in url:
        url = f"file://{Path(url).absolute()}"
    scheme, _, rest = url.partition("://")
    if scheme not in ("s3", "file") or not rest.strip("/"):
        raise Failure(
            Reason.BAD_SPEC,
            f'--prediction-log "{url}": write s3://bucket/prefix, file:///directory, or a path.',
        )
    if scheme == "s3" and importlib.util.find_spec("s3fs") is None:
        raise Failure(Reason.BAD_SPEC, "--prediction-log s3://… needs the package s3fs.")
    location = StoreLocation(url, **_settings(environ.get(SETTINGS)))
    return Store(location, credentials, "the Secret of the prediction log")


def try_directory(url: str) -> None:
    """
    Write to the log's directory, if it is one: what cannot be kept should be known before it is served.

    Raises Failure (BadSpec).
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme != "file":
        return
    directory = Path(rest if separator else url)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise Failure(
            Reason.BAD_SPEC,
            f"--prediction-log {url}: the directory cannot be made or written to: {error.strerror or error}.",
        ) from error


def _settings(text: str | None) -> dict[str, str]:
    if not text:
        return {}
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Failure(Reason.BAD_SPEC, f"{SETTINGS} is not JSON: {error}.") from error
    if not isinstance(document, dict) or not document.keys() <= _FIELDS.keys():
        raise Failure(Reason.BAD_SPEC, f"{SETTINGS} must be an object with some of {', '.join(_FIELDS)}.")
    for name, value in document.items():
        if not isinstance(value, str):
            raise Failure(Reason.BAD_SPEC, f"{SETTINGS}: {name} must be a string.")
    return {_FIELDS[name]: value for name, value in document.items() if value}
