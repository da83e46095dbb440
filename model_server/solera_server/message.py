"""One HTTP request and one HTTP response, as the handlers see them."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from solera_server.batch import Batch
    from solera_server.predictor import Outputs
    from solera_server.router import Route
    from solera_server.subjects import Subject

    Respond = Callable[["Request", "Response"], None]

JSON = b"application/json"
INTERNAL_ERROR = "internal error; the server's log says more"
LENGTH_HEADER = b"inference-header-content-length"
"""How many bytes of a body are JSON; binary tensors follow."""
RECEIPT_HEADER = b"x-solera-receipt"
"""In an answer the receipt of its prediction; in feedback the receipt that it is for."""
REQUEST_ID = re.compile(rb"[A-Za-z0-9._~+/=:@-]{1,128}")
"""What an X-Request-Id must be to be given back."""
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


def internal_error() -> Response:
    """The answer where something of ours failed: nothing beyond the fact."""
    return error_response(500, INTERNAL_ERROR)


class Head:
    """
    What stands before the body of a request. Header names are lower case.

    A head that has been read may belong to many requests (see known_heads.py): nobody changes it.
    """

    __slots__ = ("headers", "keep_alive", "length", "method", "request_id", "route", "subject", "target")

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.keep_alive = False
        self.length = 0
        """Bytes of the body, as Content-Length says."""
        self.request_id: bytes | None = None
        """The X-Request-Id that the response gives back: None where there is none, or an odd one."""
        self.route: Route | Response | None = None
        self.subject: Subject | None = None
        """Whom requests with these headers count for, once somebody has asked."""

    @property
    def path(self) -> bytes:
        """The path without the query; also from an absolute target, which a proxy may send."""
        target = self.target
        if not target.startswith(b"/"):
            scheme, separator, rest = target.partition(b"://")
            if separator and scheme.lower() in (b"http", b"https"):
                target = b"/" + rest.partition(b"/")[2]
        return target.partition(b"?")[0]


class Request:
    """
    A request; ``body`` is complete when its handler is called.

    ``received`` is when it was (perf_counter). ``abandoned`` becomes True when the client has gone: work
    that was not begun for it need not be begun. ``decoded`` is what was made of the body, if it was.
    ``respond(request, response)`` answers a request whose handler returned None, on the event loop.
    """

    __slots__ = ("abandoned", "body", "decoded", "head", "held", "last", "received", "recorded", "respond")

    def __init__(self, head: Head, body: bytes, received: float, respond: Respond) -> None:
        self.head = head
        self.body = body
        self.received = received
        self.respond = respond
        self.abandoned = False
        self.decoded: Batch | None = None
        self.last = False
        """Nothing more is read from its connection."""
        self.held = 0
        """Bytes of the body that count against the bound on bodies in all."""
        self.recorded: tuple[Subject, Batch, Outputs] | None = None
        """What was predicted for it, until its answer is counted."""

    def abandon(self) -> None:
        """Let go of the body: the request may wait in a queue, and its bytes are no longer counted."""
        self.abandoned = True
        self.body = b""
        if self.decoded is not None:
            self.decoded.forget_places()

    @property
    def headers(self) -> dict[bytes, bytes]:
        """By name in lower case; not to be changed."""
        return self.head.headers

    @property
    def method(self) -> bytes:
        return self.head.method

    @property
    def path(self) -> bytes:
        return self.head.path

    @property
    def route(self) -> Route | Response | None:
        return self.head.route


def write_head(response: Response, *, close: bool, date: bytes, request_id: bytes | None) -> bytes:
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


def good_head(date: bytes) -> bytes:
    """The head of the commonest response, 200 with JSON, up to the value of Content-Length."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ndate: %b\r\ncontent-length: " % (JSON, date)
