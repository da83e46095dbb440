"""One HTTP request and one HTTP response, as the handlers see them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from solera_server.router import Route

JSON = b"application/json"
NO_BINARY_INPUT = (
    "a binary tensor, which this server does not take (GET /v2 lists its extensions); "
    "send JSON data: set_data_from_numpy(…, binary_data=False) in the clients of Triton and KServe"
)
LENGTH_HEADER = b"inference-header-content-length"
"""How many bytes of a body are JSON; binary tensors follow."""
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class Response:
    """A complete response; ``headers`` come on top of those that the connection adds itself."""

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        content_type: bytes = JSON,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers


def json_response(value: object, status: int = 200) -> Response:
    return Response(status, orjson.dumps(value))


def error_response(status: int, message: str, *headers: tuple[bytes, bytes]) -> Response:
    """The error object that both protocols use: ``{"error": message}``."""
    return Response(status, orjson.dumps({"error": message}), headers=headers)


class Request:
    """
    A request whose head has been read; ``body`` is complete when its handler is called.

    Header names are lower case. ``abandoned`` becomes True when the client has gone: work that was
    not begun for it need not be begun.
    """

    __slots__ = (
        "abandoned",
        "body",
        "headers",
        "keep_alive",
        "method",
        "received",
        "respond",
        "route",
        "target",
    )

    def __init__(self, respond: Callable[[Request, Response], None]) -> None:
        self.method = b""
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.keep_alive = False
        self.received = 0.0
        self.abandoned = False
        self.route: Route | Response | None = None
        self.respond = respond

    @property
    def path(self) -> bytes:
        """The path without the query; also from an absolute target, which a proxy may send."""
        target = self.target
        if not target.startswith(b"/"):
            scheme, separator, rest = target.partition(b"://")
            if separator and scheme.lower() in (b"http", b"https"):
                target = b"/" + rest.partition(b"/")[2]
        return target.partition(b"?")[0]


def head(response: Response, *, close: bool, date: bytes, request_id: bytes | None) -> bytes:
    """The status line and headers of a response, blank line included."""
    parts = [
        b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\ndate: %s\r\n"
        % (
            response.status,
            _REASONS[response.status],
            response.content_type,
            len(response.body),
            date,
        )
    ]
    parts.extend(b"%s: %s\r\n" % header for header in response.headers)
    if request_id is not None:
        parts.append(b"x-request-id: %s\r\n" % request_id)
    if close:
        parts.append(b"connection: close\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)
