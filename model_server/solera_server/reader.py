"""
The bytes of one connection made into requests, by httptools (llhttp in its strict mode).

Whatever could make two parties disagree about where a request ends is refused, and nothing after it is
read. Heads that are known already are taken without the parser, which then stands between two messages.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import httptools

from solera_server.buffers import Budget
from solera_server.known_heads import KnownHeads
from solera_server.message import REQUEST_ID, Head, Request, Response, error_response
from solera_server.router import Route
from solera_server.upgrade import body_parser, framing

if TYPE_CHECKING:
    from collections.abc import Callable

    from solera_server.limits import Limits
    from solera_server.message import Respond
    from solera_server.plain_turn import PlainTurn
    from solera_server.router import Router

# Two of these in one request are an attempt to be read in two ways.
_SINGLE = frozenset(
    {b"host", b"content-length", b"content-type", b"transfer-encoding", b"content-encoding", b"expect"}
)
_MAX_TARGET = 8 * 1024
_LENGTH_DIGITS = 20
"""Of 2^64, the parser's bound on the value; it takes any number of zeros before it, and int() does not."""
SMALL_BODY = 1024
"""A body behind a known head counts against the bound on all of them when it is larger, bytes."""


class _Refused(Exception):  # noqa: N818 - stops the parser from inside a callback; it is not an error
    pass


class Refusal(NamedTuple):
    """
    What is answered last: the rest cannot be understood, or is not wanted.

    ``request`` has no body. It is None where not even the line with method and path could be read.
    """

    response: Response
    request: Request | None


class Shared:
    """What the readers of a port's connections have in common."""

    def __init__(
        self, router: Router, limits: Limits, plain: PlainTurn | None = None, unit: bytes | None = None
    ) -> None:
        self.router = router
        self.limits = limits
        self.known = KnownHeads(limits.body_bytes, limits.header_bytes, plain, unit)
        self.bodies = Budget(max(limits.bodies_bytes, limits.body_bytes))


class RequestReader:
    """
    Feed it what arrives; take requests, and at most one refusal as the last, from ``pending``.

    ``last`` becomes True when nothing more is read: after a refusal, and after a request that ends its
    connection. ``go_on`` is called when a client that sent ``Expect: 100-continue`` should send its body.
    Who takes a request from ``pending`` gives ``request.held`` back to the budget when it is answered.
    """

    def __init__(self, shared: Shared, respond: Respond, go_on: Callable[[], None]) -> None:
        self.pending: deque[Request | Refusal] = deque()
        self.last = False
        self.receiving = False
        """A request has begun to arrive."""
        self.begun = 0.0
        """When it began."""
        self.kept = b""
        """A known head whose body has not come yet, or not all of it: the parser has not seen them."""
        self._kept_head = Head()
        self._kept_size = 0  # that the request will have
        self._router = shared.router
        self._limits = shared.limits
        self._known = shared.known
        self._whole = shared.known.whole
        self._bodies = shared.bodies
        self._respond = respond
        self._go_on = go_on
        self._parser = httptools.HttpRequestParser(self)
        # The message that the parser is in.
        self._head = Head()
        self._head_complete = False
        self._head_bytes = 0
        self._unread_bytes = 0  # that arrived since the parser last had something to say
        self._body: bytes | bytearray = b""
        self._body_bytes = 0
        self._held = 0
        self._body_framing: bytes | None = None  # of a body behind a head that asks for an upgrade
        self._refusal: Response | None = None

    def feed(self, data: bytes) -> None:
        """Read the bytes that arrived; nothing after the ``last`` request."""
        if self.last:
            return
        try:
            if self.kept:
                data = self._take_kept(data)
            elif not self.receiving:
                data = self._take_known(data)
            if data:
                before = self._progress()
                self._parse(data)
                if self.receiving:
                    # A header or trailer that does not end would be kept by the parser, however long.
                    self._unread_bytes = self._unread_bytes + len(data) if before == self._progress() else 0
                    if self._head_bytes + self._unread_bytes > self._limits.header_bytes:
                        self.refuse(self._too_large_head())
        except httptools.HttpParserError as error:
            self.refuse(self._refusal or error_response(400, f"not a valid HTTP request: {error}"))

    def refuse(self, refusal: Response, head: Head | None = None) -> None:
        """Let ``refusal`` follow on what was read before; ``head`` is that of a known request."""
        if self.last:
            return
        if head is None and self.kept:
            head = self._kept_head
        elif head is None and self.receiving and (self._head_complete or self._head.headers):
            head = self._head
            self._name(head)
        self.abandon()
        # As if it had been received now: for how long a client was sending says nothing of this server.
        request = None if head is None else Request(head, b"", perf_counter(), self._respond)
        self.pending.append(Refusal(refusal, request))

    def abandon(self) -> None:
        """Read no more; a request that has not arrived as a whole is forgotten."""
        self.last = True
        self.forget()
        self._body = b""
        self._bodies.give(self._held)
        self._held = 0

    def forget(self) -> None:
        """Forget what was ``kept``: a request may begin here."""
        self.kept = b""
        self.receiving = False

    def _take_kept(self, data: bytes) -> bytes:
        """Join what arrived to what was kept, and take it once it is whole; return what is left to parse."""
        self.kept = data = self.kept + data
        head, size = self._kept_head, self._kept_size
        if len(data) < size:
            return b""
        self.forget()
        self._complete(Request(head, data[size - head.length : size], perf_counter(), self._respond))
        return self._take_known(data[size:]) if len(data) > size and not self.last else b""

    def _take_known(self, data: bytes) -> bytes:
        """Take complete requests with known heads; return the rest, for the parser."""
        start, size = 0, len(data)
        while True:
            end = data.find(b"\r\n\r\n", start) + 4
            if end == 3:
                break
            raw = data[start:end]
            head = self._whole.get(raw)
            if head is None:
                head = self._known.match(raw)
                if head is None:
                    return self._learn(raw, data[end:])
            length = head.length
            stop = end + length
            if stop > size:
                if length > SMALL_BODY:
                    break
                # Many clients send head and body apart.
                self.kept, self._kept_head, self._kept_size = data[start:], head, stop - start
                self.receiving, self.begun = True, perf_counter()
                return b""
            request = Request(head, data[end:stop], perf_counter(), self._respond)
            if length > SMALL_BODY:
                if not self._bodies.take(length):
                    self.refuse(self._bodies.refusal, head)
                    return b""
                request.held = length
            self._complete(request)
            start = stop
            if start == size or self.last:
                return b""
        return data[start:] if start else data

    def _learn(self, raw: bytes, rest: bytes) -> bytes:
        """Parse a head that is not known, and remember it where the parser then stands behind it."""
        before = self._head
        self._parse(raw)
        if self.last:
            return b""
        if self._head is not before and self._head_complete:  # and not just empty lines before a request
            self._known.learn(raw, self._head)
            if not self.receiving and rest:
                return self._take_known(rest)
        return rest

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # The request asked for another protocol and gets HTTP/1.1's answer, and no other after it: a
            # proxy may by now pass on bytes that it no longer reads.
            if self._body_framing is None:
                self.last = True
                return
            self._parser = body_parser(self, self._body_framing)
            self._body_framing = None
            self._parser.feed_data(data[upgrade.args[0] :])

    # -- parser callbacks --------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.last:
            raise _Refused
        self.receiving = True
        self.begun = perf_counter()
        self._head = Head()
        self._head_complete = False
        self._head_bytes = self._unread_bytes = 0
        self._body = b""
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._expect_receiving()
        head = self._head
        head.target += url
        if len(head.target) > _MAX_TARGET:
            self._stop(error_response(414, f"the request target is longer than {_MAX_TARGET} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._expect_receiving()
        self._head_bytes += len(name) + len(value) + 4
        headers = self._head.headers
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
        self._expect_receiving()
        head, parser = self._head, self._parser
        self._name(head)
        self._head_complete = True
        version = parser.get_http_version()
        refusal = _check_head(head, version, self._limits.body_bytes)
        # 501 and 505 are the client's affair: they must not count as failures of what the route answers with.
        if refusal is None or refusal.status < 500:
            head.route = self._router.resolve(head)
        if refusal is not None:
            self._stop(refusal)
        head.length = int(head.headers.get(b"content-length", b"0"))  # short enough: _check_head
        # HTTP/1.0 would want a header to keep the connection, and nobody who uses it is in a hurry.
        head.keep_alive = version == "1.1" and parser.should_keep_alive() and not parser.should_upgrade()
        if parser.should_upgrade() and head.method != b"CONNECT":
            self._body_framing = framing(head.headers)
        if b"expect" in head.headers:
            self._expect(head, version)

    def on_body(self, chunk: bytes) -> None:
        self._expect_receiving()
        size = len(chunk)
        self._body_bytes += size
        if self._body_bytes > self._limits.body_bytes:
            self._stop(too_large_body(self._limits.body_bytes))
        if type(self._head.route) is Route:
            if not self._bodies.take(size):
                self._stop(self._bodies.refusal)
            self._held += size
            if not self._body:
                self._body = chunk
                return
            # Not a list of chunks: an object costs many times a chunk of a byte or two.
            if type(self._body) is bytes:
                self._body = bytearray(self._body)
            self._body += chunk

    def on_message_complete(self) -> None:
        if self._body_framing is not None:
            return  # the parser stops here for the upgrade, and the body is yet to come
        self._expect_receiving()
        request = Request(self._head, bytes(self._body), perf_counter(), self._respond)
        request.held, self._held = self._held, 0
        self._body = b""
        self.receiving = False
        self._complete(request)

    # -- the rest ----------------------------------------------------------------------------------

    def _complete(self, request: Request) -> None:
        pending = self.pending
        pending.append(request)
        if not request.head.keep_alive or len(pending) > self._limits.pipelined:
            request.last = True
            self.last = True

    def _name(self, head: Head) -> None:
        """Note by what a request is known, which may be refused before its head is complete."""
        if self._head_complete:
            return  # and the parser may be another one, behind an upgrade
        head.method = self._parser.get_method()
        request_id = head.headers.get(b"x-request-id")
        if request_id is not None and REQUEST_ID.fullmatch(request_id):
            head.request_id = request_id

    def _progress(self) -> tuple[Head, int, int, bool]:
        """Return what changes when the parser has something to say of the message that it is in."""
        return self._head, self._head_bytes, self._body_bytes, self._head_complete

    def _expect_receiving(self) -> None:
        if not self.receiving:
            raise _Refused

    def _stop(self, refusal: Response) -> None:
        self._refusal = refusal
        raise _Refused

    def _too_large_head(self) -> Response:
        limits = self._limits
        return error_response(
            431, f"the headers are larger than {limits.header_bytes} bytes or more than {limits.header_count}"
        )

    def _expect(self, head: Head, version: str) -> None:
        if head.headers[b"expect"].lower() != b"100-continue":
            self._stop(error_response(417, "the only expectation known is 100-continue"))
        if isinstance(head.route, Response):
            self._stop(head.route)
        if version == "1.1" and not self.pending:
            self._go_on()


def too_large_body(limit: int) -> Response:
    return error_response(413, f"the body is larger than {limit} bytes; send fewer rows in a request")


def _check_head(head: Head, version: str, body_limit: int) -> Response | None:
    """Return the refusal of a request whose head forbids to go on on this connection, or None."""
    headers = head.headers
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
    length = headers.get(b"content-length", b"0")
    if len(length) > _LENGTH_DIGITS:
        return error_response(400, f"Content-Length has more than {_LENGTH_DIGITS} digits")
    return too_large_body(body_limit) if int(length) > body_limit else None
