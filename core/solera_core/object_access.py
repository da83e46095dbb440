"""Opening S3 and local files by fsspec, with bounded waits, and naming what went wrong.

Used for the artifact store and for users' data. Imports s3fs only when an s3 URI is opened.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solera_core.failures import Failure, StoreDenied, StoreUnavailable

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 30
ATTEMPTS = 3
CREDENTIAL_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
)
_MAX_CREDENTIAL_BYTES = 16 * 1024


class NotFound(Exception):  # noqa: N818 - the store's answer, which the caller turns into a failure of its own
    """There is nothing at the URI."""


class AlreadyThere(Exception):  # noqa: N818 - see NotFound
    """A conditional put found something at the URI."""


@dataclass(frozen=True)
class Endpoint:
    """Where an S3 API answers: URL (None: AWS), region, file with the CA of its certificate."""

    url: str | None = None
    region: str | None = None
    ca_file: str | None = None


def read_credentials(directory: Path | None, keys: tuple[str, ...] = CREDENTIAL_KEYS) -> dict[str, str]:
    """Return the credentials that lie as files in a mounted Secret, by key; empty when there is none."""
    found = {}
    for key in keys:
        path = directory / key if directory is not None else None
        if path is not None and path.is_file():
            with path.open(encoding="utf-8") as stream:
                found[key] = stream.read(_MAX_CREDENTIAL_BYTES).strip()
    return found


def s3_filesystem(endpoint: Endpoint, credentials: Mapping[str, str]) -> Any:
    """Return an s3fs file system.

    Region and endpoint in the credentials win. Without keys, boto's own chain is asked (a service account's
    web identity, for one).
    """
    from s3fs import S3FileSystem

    url = credentials.get("AWS_ENDPOINT_URL") or endpoint.url
    client: dict[str, Any] = {}
    if url:
        client["endpoint_url"] = url
    region = credentials.get("AWS_REGION") or endpoint.region
    # A store of one's own has no regions, but a signature needs one.
    if region or url:
        client["region_name"] = region or "us-east-1"
    if endpoint.ca_file:
        client["verify"] = endpoint.ca_file
    config: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "read_timeout": READ_TIMEOUT_SECONDS,
        "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
    }
    if url:
        # Stores other than AWS: names of buckets are not host names, and not all know the newer checksums.
        config["s3"] = {"addressing_style": "path"}
        config["request_checksum_calculation"] = "when_required"
        config["response_checksum_validation"] = "when_required"
    filesystem = S3FileSystem(
        key=credentials.get("AWS_ACCESS_KEY_ID"),
        secret=credentials.get("AWS_SECRET_ACCESS_KEY"),
        token=credentials.get("AWS_SESSION_TOKEN"),
        client_kwargs=client,
        config_kwargs=config,
        use_listings_cache=False,
        skip_instance_cache=True,
        default_fill_cache=False,
    )
    filesystem.retries = ATTEMPTS
    return filesystem


@contextmanager
def named_errors(uri: str, secret: str) -> Iterator[None]:
    """Turn what fsspec, botocore and the operating system raise into NotFound, AlreadyThere and failures.

    `secret` says where the credentials come from, for the message.
    """
    try:
        yield
    except (Failure, NotFound, AlreadyThere, MemoryError):
        raise
    except FileNotFoundError as error:
        raise NotFound(_reason(error, uri)) from error
    except FileExistsError as error:
        raise AlreadyThere(uri) from error
    except PermissionError as error:
        raise StoreDenied(f"access to {uri} was denied ({_reason(error, uri)}): check {secret}.") from error
    except OSError as error:
        code = _code(error)
        if code in {"PreconditionFailed", "412", "ConditionalRequestConflict"}:
            raise AlreadyThere(uri) from error
        raise StoreUnavailable(f"{uri} cannot be reached: {_reason(error, uri)}.") from error
    except Exception as error:
        if not _is_transport_error(error):
            raise
        if type(error).__name__ in {
            "NoCredentialsError",
            "PartialCredentialsError",
            "CredentialRetrievalError",
        }:
            raise StoreDenied(f"there are no credentials for {uri}: check {secret}.") from error
        raise StoreUnavailable(f"{uri} cannot be reached: {_reason(error, uri)}.") from error


def is_not_implemented(error: StoreUnavailable) -> bool:
    """Say whether the store answered that it does not know conditional puts."""
    cause = error.__cause__
    return isinstance(cause, OSError) and (
        cause.errno == errno.ENOSYS or _code(cause) in {"NotImplemented", "501"}
    )


def _is_transport_error(error: Exception) -> bool:
    module = type(error).__module__.partition(".")[0]
    return module in {"botocore", "aiobotocore", "aiohttp", "fsspec"} or isinstance(
        error, TimeoutError | ssl.SSLError
    )


def _code(error: BaseException) -> str | None:
    response = getattr(error.__cause__, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


def _reason(error: BaseException, uri: str) -> str:
    """Return the first line of an error's own text, without a repetition of the URI."""
    lines = str(error).strip().splitlines()
    text = lines[0].rstrip(".") if lines else type(error).__name__
    return type(error).__name__ if not text or text in uri else text[:300]
