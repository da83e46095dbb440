"""
One HTTP/1.1 connection: an asyncio protocol over httptools (llhttp in its strict mode).

Requests of a connection are answered one at a time, in order; what a client sends ahead waits, and
reading pauses meanwhile. Whatever could make two parties disagree about where a request ends is
refused, and the connection closed.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import re
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Any

import httptools

from solera_server.message import Request, Response, error_response, head
from solera_server.router import Route
from solera_server.upgrade import body_parser, framing

if TYPE_CHECKING:
    from solera_server.http_server import HttpServer

log = logging.getLogger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINGER_SECONDS = 2.0
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~+/=:@-]{1,128}")
# Two of these in one request are an attempt to be read in two ways.
_SINGLE = frozenset(
    {b"host", b"content-length", b"content-type", b"transfer-encoding", b"content-encoding", b"expect"}
)
_MAX_TARGET = 8 * 1024


class _Refused(Exception):  # noqa: N818 - stops the parser from inside a callback; it is not an error
    pass


class _State(enum.Enum):
    OPEN = enum.auto()
    LAST = enum.auto()  # answers what has been read and reads no further request
    FLUSHING = enum.auto()  # everything is written; the client has not yet taken all of it
    LINGERING = enum.auto()  # everything is sent; waits for the client to end its side
    CLOSED = enum.auto()


class Connection(asyncio.Protocol):
    """Created by HttpServer for each accepted socket; every method runs on the event loop."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limits = server.limits
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._state = _State.OPEN
        self._expires = server.connection_deadline()
        # The message that is being received.
        self._incoming: Request | None = None
        self._head_complete = False
        self._head_bytes = 0
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._body_framing: bytes | None = None  # of a body behind a head that asks for an upgrade
        # What has been received and waits, and the one that is being answered.
        self._pending: deque[Request | Response] = deque()
        self._current: Request | None = None
        self._refusal: Response | None = None
        self._reading = True
        self._writable = True
        self._since = perf_counter()

    # -- transport ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if not self._server.admit(self):
            self._write(error_response(503, "too many connections", (b"retry-after", b"1")), None, close=True)
            self._finish_writing()

    def data_received(self, data: bytes) -> None:
        if self._state is not _State.OPEN:
            return
        in_head = self._incoming is not None and not self._head_complete
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._refuse(self._refusal or error_response(400, f"not a valid HTTP request: {error}"))
        else:
            if in_head and self._incoming is not None and not self._head_complete:
                self._head_bytes += len(data)
                if self._head_bytes > self._limits.header_bytes:
                    self._refuse(self._too_large_head())
        self._advance()

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # The request asked for another protocol and gets HTTP/1.1's answer, and no other after it: a
            # proxy may by now pass on bytes that it no longer reads.
            if self._body_framing is None:
                self._state = _State.LAST
                return
            self._parser = body_parser(self, self._body_framing)
            self._body_framing = None
            self._parser.feed_data(data[upgrade.args[0] :])

    def eof_received(self) -> bool:
        """Take the end of what the client sends as its departure: work for it would be for nobody."""
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        self._state = _State.CLOSED
        if self._current is not None:
            self._current.abandoned = True
            self._current = None
        self._pending.clear()
        self._server.forget(self)

    def pause_writing(self) -> None:
        self._writable = False
        self._since = perf_counter()

    def resume_writing(self) -> None:
        self._writable = True
        self._advance()

    # -- parser callbacks --------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._state is not _State.OPEN:
            raise _Refused
        self._incoming = Request(self._respond)
        self._head_complete = False
        self._head_bytes = 0
        self._chunks = []
        self._body_bytes = 0
        if self._current is None:
            self._since = perf_counter()

    def on_url(self, url: bytes) -> None:
        request = self._receiving()
        request.target += url
        if len(request.target) > _MAX_TARGET:
            self._stop(error_response(414, f"the request target is longer than {_MAX_TARGET} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._receiving()
        self._head_bytes += len(name) + len(value) + 4
        headers = request.headers
        if self._head_bytes > self._limits.header_bytes or len(headers) >= self._limits.header_count:
            self._stop(self._too_large_head())
        if self._head_complete:
            return  # a trailer: counted, not used
        name = name.lower()
        if name not in headers:
            headers[name] = value
        elif name in _SINGLE:
            self._stop(error_response(400, f"the header {name.decode('latin-1')} was sent more than once"))
        else:
            headers[name] += b", " + value

    def on_headers_complete(self) -> None:
        request = self._receiving()
        self._head_complete = True
        request.method = self._parser.get_method()
        version = self._parser.get_http_version()
        refusal = check_head(request, version, self._limits.body_bytes)
        if refusal is not None:
            self._stop(refusal)
        # HTTP/1.0 would want a header to keep the connection, and nobody who uses it is in a hurry.
        request.keep_alive = (
            version == "1.1" and self._parser.should_keep_alive() and not self._parser.should_upgrade()
        )
        if self._parser.should_upgrade() and request.method != b"CONNECT":
            self._body_framing = framing(request.headers)
        request.route = self._server.router.resolve(request)
        if b"expect" in request.headers:
            self._expect(request, version)

    def on_body(self, chunk: bytes) -> None:
        self._body_bytes += len(chunk)
        if self._body_bytes > self._limits.body_bytes:
            self._stop(too_large_body(self._limits.body_bytes))
        if type(self._receiving().route) is Route:
            self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        if self._body_framing is not None:
            return  # the parser stops here for the upgrade, and the body is yet to come
        request = self._receiving()
        chunks = self._chunks
        request.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        request.received = perf_counter()
        self._chunks = []
        self._incoming = None
        self._pending.append(request)
        if not request.keep_alive:
            self._state = _State.LAST
        elif len(self._pending) > self._limits.pipelined:
            request.keep_alive = False
            self._state = _State.LAST

    # -- receiving ---------------------------------------------------------------------------------

    def _receiving(self) -> Request:
        if self._incoming is None:
            raise _Refused
        return self._incoming

    def _stop(self, refusal: Response) -> None:
        self._refusal = refusal
        raise _Refused

    def _refuse(self, refusal: Response) -> None:
        """Answer what was read before, then ``refusal``, then close: the rest cannot be understood."""
        if self._state is _State.OPEN:
            self._state = _State.LAST
            self._incoming = None
            self._chunks = []
            self._pending.append(refusal)

    def _too_large_head(self) -> Response:
        limits = self._limits
        return error_response(
            431, f"the headers are larger than {limits.header_bytes} bytes or more than {limits.header_count}"
        )

    def _expect(self, request: Request, version: str) -> None:
        if request.headers[b"expect"].lower() != b"100-continue":
            self._stop(error_response(417, "the only expectation known is 100-continue"))
        if isinstance(request.route, Response):
            self._stop(request.route)
        if version == "1.1" and self._current is None and not self._pending:
            self._transport.write(_CONTINUE)

    # -- answering ---------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Answer what waits, as far as that is possible now, and let reading follow."""
        pending = self._pending
        while (
            self._current is None and pending and self._writable and self._state in (_State.OPEN, _State.LAST)
        ):
            item = pending.popleft()
            if isinstance(item, Response):
                self._server.answered(None, item.status)
                self._write(item, None, close=True)
                self._finish_writing()
                return
            self._current = item
            response = self._server.handle(item)
            if response is not None:
                self._send(item, response)
        if self._state is _State.OPEN:
            self._set_reading(self._writable and not (pending and self._current is not None))

    def _respond(self, request: Request, response: Response) -> None:
        """Send the response of a handler that returned None."""
        if request is self._current:
            self._send(request, response)
            self._advance()

    def _send(self, request: Request, response: Response) -> None:
        self._current = None
        now = perf_counter()
        self._since = now
        last = self._state is _State.LAST and not self._pending
        close = last or not request.keep_alive or self._server.draining or now >= self._expires
        self._server.answered(request, response.status)
        self._write(response, request, close=close)
        if close:
            self._pending.clear()
            self._finish_writing()

    def _write(self, response: Response, request: Request | None, *, close: bool) -> None:
        request_id = None
        if request is not None:
            request_id = request.headers.get(b"x-request-id")
            if request_id is not None and _REQUEST_ID.fullmatch(request_id) is None:
                request_id = None
        data = head(response, close=close, date=self._server.date, request_id=request_id)
        if request is None or request.method != b"HEAD":
            data += response.body
        self._transport.write(data)

    def _finish_writing(self) -> None:
        # Closing a socket with unread input makes the kernel reset the connection, which may destroy
        # the response on its way. So: end our direction, and wait a little for the client to end its own.
        self._state = _State.FLUSHING
        self._since = perf_counter()
        self._set_reading(True)
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def _set_reading(self, reading: bool) -> None:
        if reading is not self._reading and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._since = perf_counter()
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # -- time --------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Nothing is being received, answered or sent."""
        return self._current is None and not self._pending and self._incoming is None

    def idle_seconds(self, now: float) -> float:
        """For how long this connection has been idle; 0 when it is not."""
        return now - self._since if self.idle and self._state is _State.OPEN else 0.0

    def check(self, now: float) -> None:
        """End what takes too long; called about once a second."""
        waited = now - self._since
        if self._state in (_State.FLUSHING, _State.LINGERING):
            self._check_end(now, waited)
        elif not self._writable:
            if waited > self._limits.write_seconds:
                self._transport.abort()
        elif self.idle:
            if waited > self._limits.idle_seconds:
                self.close()
        elif self._incoming is not None and self._current is None and waited > self._limits.receive_seconds:
            limit = self._limits.receive_seconds
            self._refuse(error_response(408, f"the request did not arrive within {limit:g} s"))
            self._advance()

    def _check_end(self, now: float, waited: float) -> None:
        if self._state is _State.LINGERING:
            if waited > _LINGER_SECONDS:
                self._transport.abort()
        elif self._transport.get_write_buffer_size() == 0:
            self._state = _State.LINGERING
            self._since = now
        elif waited > self._limits.write_seconds:
            self._transport.abort()

    def close(self) -> None:
        self._transport.close()


def too_large_body(limit: int) -> Response:
    return error_response(413, f"the body is larger than {limit} bytes; send fewer rows in a request")


def check_head(request: Request, version: str, body_limit: int) -> Response | None:
    """Return the refusal of a request whose head forbids to go on on this connection, or None."""
    headers = request.headers
    if version not in ("1.1", "1.0"):
        return error_response(505, "use HTTP/1.1")
    if version == "1.1" and b"host" not in headers:
        return error_response(400, "the header Host is missing")
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        if version == "1.0" or b"content-length" in headers:
            return error_response(400, "Transfer-Encoding is not allowed in this request")
        if coding.lower() != b"chunked":
            return error_response(501, "the only Transfer-Encoding known is chunked")
    elif int(headers.get(b"content-length", b"0")) > body_limit:
        return too_large_body(body_limit)
    return None
