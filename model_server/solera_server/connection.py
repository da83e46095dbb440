"""
One HTTP/1.1 connection: an asyncio protocol that answers requests one at a time, in order.

What a client sends ahead waits, and reading pauses meanwhile. What requests are is reader.py's affair.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from time import perf_counter
from typing import TYPE_CHECKING, Any

from solera_server.message import JSON, Head, Request, Response, error_response, write_head
from solera_server.plain_turn import FIRST
from solera_server.reader import SMALL_BODY, Refusal, RequestReader

if TYPE_CHECKING:
    from solera_server.busy_poll import BusyPoll
    from solera_server.http_server import HttpServer
    from solera_server.plain_turn import PlainTurn

log = logging.getLogger(__name__)

_HEAD_END = b"\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINGER_SECONDS = 2.0


class _State(enum.Enum):
    OPEN = enum.auto()
    FLUSHING = enum.auto()  # everything is written; the client has not yet taken all of it
    LINGERING = enum.auto()  # everything is sent; waits for the client to end its side
    CLOSED = enum.auto()


_OPEN = _State.OPEN  # an attribute of an enum class costs a look-up more
_PLAIN = Request(Head(), b"", 0.0, lambda _request, _response: None)
"""Stands for a request that the plain turn has taken."""


class Connection(asyncio.Protocol):
    """Created by HttpServer for each accepted socket; every method runs on the event loop."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limits = server.limits
        self._reader = RequestReader(server.shared, self._respond, self._go_on)
        self._pending = self._reader.pending
        self._plain: PlainTurn | None = server.plain
        self._busy_poll: BusyPoll | None = server.busy_poll
        self._transport: Any = None
        self._state = _OPEN
        self._expires = server.connection_deadline()
        self._current: Request | None = None
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
        if self._state is _OPEN:
            plain, reader = self._plain, self._reader
            if (
                plain is not None
                and self._current is None
                and (reader.kept or not reader.receiving)
                and not (self._pending or reader.last)
                and self._writable
            ):
                taken = plain.take(reader.kept + data, perf_counter(), self)
                if taken:
                    if reader.kept:
                        reader.forget()
                    self._current = _PLAIN
                    if taken == FIRST:
                        plain.begin()
                    return
            reader.feed(data)
            if self._pending:
                if self._busy_poll is not None:
                    self._busy_poll.arrived(perf_counter())
                self._advance()

    def eof_received(self) -> bool:
        """Take the end of what the client sends as its departure: work for it would be for nobody."""
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        self._state = _State.CLOSED
        if self._current is not None and self._current is not _PLAIN:
            self._current.abandon()
            self._release(self._current)
        self._current = None
        self._drop()
        self._server.forget(self)

    def pause_writing(self) -> None:
        self._writable = False
        self._since = perf_counter()
        self._server.held_up(self, self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._writable = True
        self._server.taken(self)
        self._advance()

    # -- answering ---------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Answer what waits, as far as that is possible now, and let reading follow."""
        pending = self._pending
        while self._current is None and pending and self._writable and self._state is _OPEN:
            item = pending.popleft()
            if isinstance(item, Refusal):
                self._refuse(item)
                return
            self._current = item
            response = self._server.handle(item)
            if response is not None:
                self._send(item, response)
        if self._state is _OPEN and not self._reader.last:
            reading = self._writable and not (pending and self._current is not None)
            if reading is not self._reading:
                self._set_reading(reading)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal, and nothing after it."""
        response, request = refusal
        server, now = self._server, perf_counter()
        response = self._noted(request, response, now)
        try:
            self._write(response, None if request is None else request.head, close=True)
            self._finish_writing()
        except Exception:
            log.exception("an answer was not delivered")
            self._cut()
            return
        server.answered(request, response.status, now)

    def _respond(self, request: Request, response: Response) -> None:
        """Send the response of a handler that returned None."""
        if request is self._current:
            self._send(request, response)
            if self._pending or not self._reading:
                self._advance()

    def _send(self, request: Request, response: Response) -> None:
        server, head = self._server, request.head
        self._current = None
        now = self._since = perf_counter()
        close = request.last or server.draining or now >= self._expires
        if request.held:
            self._release(request)
        access = server.access
        if access is not None and (access.on or response.status >= 500):
            response = self._noted(request, response, now)
        try:
            if (
                not close
                and response.status == 200
                and not response.headers
                and response.content_type is JSON
                and head.request_id is None
                and head.method != b"HEAD"
            ):
                body = response.body
                self._transport.write(b"%b%d\r\n\r\n%b" % (server.good_head, len(body), body))
            else:
                self._write(response, head, close=close)
                if close:
                    self._drop()
                    self._finish_writing()
        except Exception:
            log.exception("an answer was not delivered")
            self._cut()
            return
        if self._busy_poll is not None:
            self._busy_poll.answered(now)
        server.answered(request, response.status, now)

    def _noted(self, request: Request | None, response: Response, now: float) -> Response:
        """Tell the access log, and return the response to send; an answer does not depend on its line."""
        access = self._server.access
        if access is None:
            return response
        try:
            return access.note(request, response, now, self._transport.get_extra_info("peername"))
        except Exception:
            log.exception("an answer was not logged")
            return response

    def _cut(self) -> None:
        """End a connection that misses an answer: its client would wait, or take the next one for it."""
        self._state = _State.CLOSED
        self._drop()
        self._transport.abort()

    def answer(self, body: bytes, request_id: bytes | None, now: float) -> bool:
        """Send the answer to what the plain turn has taken; False where the client has gone."""
        if self._current is not _PLAIN:
            return False
        try:
            server = self._server
            self._current = None
            self._since = now
            if server.draining or now >= self._expires:
                head = Head()
                head.request_id = request_id
                self._write(Response(200, body), head, close=True)
                self._drop()
                self._finish_writing()
            elif request_id is None:
                self._transport.write(b"%b%d\r\n\r\n%b" % (server.good_head, len(body), body))
            else:
                named = (server.good_head, len(body), request_id, body)
                self._transport.write(b"%b%d\r\nx-request-id: %b\r\n\r\n%b" % named)
            if self._pending or not self._reading:
                self._advance()
        except Exception:  # it must not raise: other connections wait for their answers
            log.exception("an answer was not delivered")
            self._cut()
            return False
        return True

    def go_carefully(self, known: Head, piece: bytes, received: float) -> None:
        """Handle in the ordinary way what the plain turn has taken, ``piece`` with a head like a known."""
        if self._current is not _PLAIN:
            return
        self._current = None
        try:
            shared = self._server.shared
            end = piece.index(_HEAD_END) + len(_HEAD_END)
            request = Request(shared.known.varied(known, piece[:end]), piece[end:], received, self._respond)
            size = len(request.body)
            if size > SMALL_BODY:
                if not shared.bodies.take(size):
                    request.body = b""
                    self._drop()
                    self._refuse(Refusal(shared.bodies.refusal, request))
                    return
                request.held = size
            self._pending.appendleft(request)
            self._advance()
        except Exception:  # it must not raise: other connections wait for their turn
            log.exception("an answer was not delivered")
            self._cut()

    def cut(self) -> None:
        """End the connection, whose request the plain turn has lost."""
        self._cut()

    def _write(self, response: Response, head: Head | None, *, close: bool) -> None:
        request_id = None if head is None else head.request_id
        data = write_head(response, close=close, date=self._server.date, request_id=request_id)
        if head is None or head.method != b"HEAD":
            data += response.body
        self._transport.write(data)

    def _finish_writing(self) -> None:
        # Closing a socket with unread input makes the kernel reset the connection, which may destroy
        # the response on its way. So: end our direction, and wait a little for the client to end its own.
        self._state = _State.FLUSHING
        self._since = perf_counter()
        self._set_reading(True)
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            # TLS cannot end one direction; its close sends all, says so, and waits for the client's word.
            self._transport.close()

    def _go_on(self) -> None:
        if self._current is None:
            self._transport.write(_CONTINUE)

    def _set_reading(self, reading: bool) -> None:
        if reading is not self._reading and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._since = perf_counter()
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _drop(self) -> None:
        """Forget what was received and will not be answered."""
        self._reader.abandon()
        for item in self._pending:
            if isinstance(item, Request):
                self._release(item)
        self._pending.clear()

    def _release(self, request: Request) -> None:
        self._server.shared.bodies.give(request.held)
        request.held = 0

    # -- time --------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Nothing is being received, answered or sent."""
        return self._current is None and not self._pending and not self._reader.receiving

    def idle_seconds(self, now: float) -> float:
        """For how long this connection has been idle; 0 when it is not."""
        return now - self._since if self.idle and self._state is _OPEN else 0.0

    def held_up_seconds(self, now: float) -> float:
        """For how long the client has not taken what was written; 0 when it takes it."""
        return 0.0 if self._writable else now - self._since

    def check(self, now: float) -> None:
        """End what takes too long; called about once a second."""
        waited = now - self._since
        if self._state is not _OPEN:
            self._check_end(now, waited)
        elif not self._writable:
            if waited > self._limits.write_seconds:
                self._transport.abort()
        elif self.idle:
            if waited > self._limits.idle_seconds:
                self.close()
        elif self._reader.receiving and self._current is None:
            limit = self._limits.receive_seconds
            if now - max(self._since, self._reader.begun) > limit:
                self._reader.refuse(error_response(408, f"the request did not arrive within {limit:g} s"))
                self._advance()

    def _check_end(self, now: float, waited: float) -> None:
        if self._state is _State.LINGERING:
            if waited > _LINGER_SECONDS:
                self._transport.abort()
        elif self._state is _State.FLUSHING:
            if self._transport.get_write_buffer_size() == 0:
                self._state = _State.LINGERING
                self._since = now
            elif waited > self._limits.write_seconds:
                self._transport.abort()

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        """Cut the connection, with what was written and not taken."""
        self._transport.abort()
