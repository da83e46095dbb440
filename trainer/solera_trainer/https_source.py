"""Reading a file from an https host: same host from beginning to end, bounded in size and time."""

from __future__ import annotations

import base64
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib.parse import urlsplit

from solera_core.failures import Failure, Reason, StoreDenied, StoreUnavailable
from solera_core.object_access import READ_TIMEOUT_SECONDS, read_credentials

MAX_BYTES = 16 * 1024**3
_CHUNK = 1024 * 1024


class _SameHostRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to the same https host only: another host was not allowed, nor given the password."""

    def redirect_request(  # noqa: PLR0917 - urllib's signature
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (new.scheme, new.netloc.lower()) != (old.scheme, old.netloc.lower()):
            fp.close()
            message = f"{req.full_url} redirects to another host, {new.netloc}: name that URI in data.uri."
            raise Failure(Reason.HOST_NOT_ALLOWED, message)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def https_file(uri: str, credentials: Path | None, context: Any = None) -> Iterator[BinaryIO]:
    """Open a temporary copy of the file at the URI.

    `credentials` may hold `token`, or `username` and `password`. Raises Failure: DataNotFound, StoreDenied,
    StoreUnavailable, HostNotAllowed, DataUnreadable when it is too large.
    """
    if urlsplit(uri).scheme != "https":
        raise Failure(Reason.BAD_SPEC, f"data.uri: {uri} is not https.")
    handlers: list[urllib.request.BaseHandler] = [_SameHostRedirects()]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)
    request = urllib.request.Request(uri, headers=_headers(credentials))  # noqa: S310 - https, checked above
    with tempfile.TemporaryFile() as copy:
        try:
            with opener.open(request, timeout=READ_TIMEOUT_SECONDS) as answer:
                _copy(uri, answer, copy)
        except urllib.error.HTTPError as error:
            error.close()
            raise _refused(uri, error) from error
        except (urllib.error.URLError, OSError) as error:
            raise StoreUnavailable(f"{uri} cannot be reached: {error}.") from error
        except HTTPException as error:
            message = f"{uri} cannot be read to its end: {type(error).__name__}: {error}."
            raise StoreUnavailable(message) from error
        copy.seek(0)
        yield copy


def _copy(uri: str, answer: Any, copy: Any) -> None:
    seen = 0
    while chunk := answer.read(_CHUNK):
        seen += len(chunk)
        if seen > MAX_BYTES:
            raise Failure(Reason.DATA_UNREADABLE, f"{uri} has more than {MAX_BYTES} bytes.")
        copy.write(chunk)
    # The library takes the end of the connection for the end of the file.
    promised = answer.headers.get("Content-Length")
    if promised is not None and promised.isdecimal() and seen != int(promised):
        raise StoreUnavailable(f"{uri} ended after {seen} of {promised} bytes.")


def _headers(credentials: Path | None) -> dict[str, str]:
    found = read_credentials(credentials, ("token", "username", "password"))
    if "token" in found:
        return {"Authorization": f"Bearer {found['token']}"}
    if "username" in found:
        pair = f"{found['username']}:{found.get('password', '')}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return {}


def _refused(uri: str, error: urllib.error.HTTPError) -> Failure:
    status = error.code
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return Failure(Reason.DATA_NOT_FOUND, f"there is no file at {uri}: the host answered {status}.")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return StoreDenied(f"access to {uri} was denied ({status}): check the Secret in data.secretName.")
    return StoreUnavailable(f"{uri} cannot be read: the host answered {status}.")
