"""The listening side of one port: its connections, their count, their clocks and their end."""

from __future__ import annotations

import asyncio
import logging
import random
from time import gmtime, perf_counter
from typing import TYPE_CHECKING, Protocol

from solera_server.access_log import trace_fields
from solera_server.connection import Connection
from solera_server.descriptors import Watch
from solera_server.listening import BACKLOG, bind, listen, port_of
from solera_server.message import Request, Response, good_head, internal_error
from solera_server.reader import Shared
from solera_server.router import Route

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from solera_server.access_log import Noting
    from solera_server.busy_poll import BusyPoll
    from solera_server.certificates import Certificates
    from solera_server.limits import Limits
    from solera_server.plain_turn import PlainTurn
    from solera_server.predicting import Recorder
    from solera_server.router import Router
    from solera_server.tls import TlsListener

log = logging.getLogger(__name__)

_AGE_JITTER = 0.1
_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
# At the end of the server, a connection that began or was answered just now may have sent a request.
_FRESH_SECONDS = 0.1
_MAX_TURNED_AWAY = 256
"""Connections that are told that there are too many; others beyond that are cut."""


class Observer(Protocol):
    """Told of every response, by the protocol label of its route, and its seconds since it was received."""

    def answered(self, protocol: str, status: int, seconds: float | None) -> None: ...


class _Cut(asyncio.Protocol):
    """A connection that ends when it begins."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not now: the loop is still about to begin reading.
        asyncio.get_running_loop().call_soon(transport.abort)  # type: ignore[attr-defined] # it is one of sockets


class HttpServer:
    """
    Serve ``router`` on a port; ``plain`` takes and answers what it knows without the router.

    ``draining`` makes every response end its connection. Use on one event loop only.
    """

    def __init__(
        self,
        router: Router,
        limits: Limits,
        observer: Observer | None = None,
        recorder: Recorder | None = None,
        access: Noting | None = None,
        *,
        plain: PlainTurn | None = None,
        busy_poll: BusyPoll | None = None,
    ) -> None:
        self.access = access
        self.limits = limits
        self.draining = False
        self.plain = plain
        self.busy_poll = busy_poll
        self.shared = Shared(router, limits, plain, None if recorder is None else recorder.unit_header)
        self._observer = observer
        self._recorder = recorder
        self._unread: dict[Connection, int] = {}
        """Bytes that clients have not taken, of the connections where that holds up answers."""
        self._set_date()
        self._connections: set[Connection] = set()
        if plain is not None:
            plain.connections = self._connections
        self._turned_away: set[Connection] = set()
        self._full_until = 0.0
        """Until then no connection can make room for another."""
        self._servers: list[asyncio.AbstractServer] = []
        self._tls: TlsListener | None = None
        self._descriptors = Watch()
        self._sweeper: asyncio.TimerHandle | None = None
        self._interval = min(1.0, limits.receive_seconds / 4, limits.idle_seconds / 4)

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def listen(self, host: str | None, port: int) -> int:
        """
        Begin to accept connections and return the port (of interest when ``port`` is 0).

        Raises OSError when the address cannot be had.
        """
        [sockets] = bind(host, port)
        listen([sockets])
        await self.serve(sockets)
        return port_of(sockets)

    async def serve(
        self,
        sockets: list[socket.socket],
        certificates: Certificates | None = None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Begin to accept connections on sockets that listen, with TLS if there are ``certificates``.

        ``on_failure`` is told of each handshake of TLS that came to nothing.
        """
        if certificates is not None:
            from solera_server.tls import TlsListener

            self._tls = TlsListener(
                sockets, certificates, self.accept, self.limits.receive_seconds, on_failure
            )
            self._tls.start(BACKLOG)
            self._sweep()
            return
        loop = asyncio.get_running_loop()
        for one in sockets:
            server = await loop.create_server(self.accept, sock=one, backlog=BACKLOG)
            self._servers.append(server)
        self._sweep()

    def stop_listening(self) -> None:
        for server in self._servers:
            server.close()
        if self._tls is not None:
            self._tls.close()

    async def finish(self, deadline: float) -> int:
        """
        Close idle connections and wait until the others have been answered.

        Returns the number of connections that had to be cut at ``deadline`` (of the loop's clock).
        """
        loop = asyncio.get_running_loop()
        self.draining = True
        while self._open() and loop.time() < deadline:
            now = perf_counter()
            for connection in [one for one in self._connections if one.idle_seconds(now) > _FRESH_SECONDS]:
                connection.close()
            await asyncio.sleep(0.02)
        left = len(self._connections)
        for connection in list(self._connections):
            connection.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        return left

    def _open(self) -> int:
        return len(self._connections) + (0 if self._tls is None else self._tls.under_way)

    # -- used by the connections ---------------------------------------------------------------------

    def accept(self) -> asyncio.Protocol:
        """Return what takes a new connection; a flood is cut before it costs much."""
        if (
            len(self._turned_away) >= _MAX_TURNED_AWAY
            and len(self._connections) >= self.limits.connections
            and perf_counter() < self._full_until
        ):
            return _Cut()
        return Connection(self)

    def admit(self, connection: Connection) -> bool:
        """
        Count a new connection in; False when there are as many as may be.

        Then the one that has been idle for longest makes room, if it has been so for a while: otherwise
        whoever opens connections and says nothing could keep all others out.
        """
        if len(self._connections) >= self.limits.connections:
            now = perf_counter()
            if now < self._full_until:
                self._turned_away.add(connection)
                return False
            longest = max(self._connections, key=lambda one: one.idle_seconds(now))
            missing = self.limits.spare_idle_seconds - longest.idle_seconds(now)
            if missing > 0:
                # Nobody can have been idle for long enough before that; so a flood looks but once.
                self._full_until = now + missing
                self._turned_away.add(connection)
                return False
            self._connections.discard(longest)
            longest.close()
        self._connections.add(connection)
        return True

    def held_up(self, connection: Connection, size: int) -> None:
        """
        Count the bytes that a client does not take.

        Where all together are too many, the connection with the most is cut: to let it wait would cost
        everybody else.
        """
        self._unread[connection] = size
        while sum(self._unread.values()) > self.limits.unread_bytes:
            most = max(self._unread, key=self._unread.__getitem__)
            log.warning("answers that are not taken: cut a connection", extra={"bytes": self._unread[most]})
            del self._unread[most]
            most.abort()

    def taken(self, connection: Connection) -> None:
        self._unread.pop(connection, None)

    def forget(self, connection: Connection) -> None:
        self._unread.pop(connection, None)
        self._connections.discard(connection)
        self._turned_away.discard(connection)

    def connection_deadline(self) -> float:
        """When a connection that begins now should end; spread, so that clients do not return at once."""
        spread = 1 + random.uniform(-_AGE_JITTER, _AGE_JITTER)  # noqa: S311 - no secret
        return perf_counter() + self.limits.connection_age_seconds * spread

    def handle(self, request: Request) -> Response | None:
        """Call the request's handler; whatever it raises becomes a 500 without details."""
        route = request.head.route
        if isinstance(route, Response):
            return route
        if route is None:
            raise AssertionError("a request is routed before it is handled")
        try:
            return route.handler(request)
        except Exception:
            path = request.path.decode("utf-8", "replace")[:200]
            log.exception("handler failed", extra={"path": path, **trace_fields(request)})
            return internal_error()

    def answered(self, request: Request | None, status: int, now: float) -> None:
        """
        Pass on that a request, or what could not be read as one, is answered (perf_counter).

        Does not raise: what is written already must not depend on its being counted.
        """
        observer = self._observer
        if observer is None:
            return
        route = request.head.route if request is not None else None
        try:
            if request is not None and type(route) is Route:
                protocol = route.protocol
                observer.answered(protocol, status, now - request.received)
                if self._recorder is not None:
                    self._recorder.answered(request, protocol, status, now)
            else:
                observer.answered("other", status, None)
        except Exception:
            log.exception("an answer was not counted")

    def _set_date(self) -> None:
        self.date = http_date()
        self.good_head = good_head(self.date)

    def _sweep(self) -> None:
        # First of all: whatever happens to one connection, the clocks of all go on.
        self._sweeper = asyncio.get_running_loop().call_later(self._interval, self._sweep)
        now = perf_counter()
        self._set_date()
        self._descriptors.look()
        for connection in (*self._connections, *self._turned_away):
            try:
                connection.check(now)
            except Exception:
                log.exception("a connection could not be looked after")
                connection.abort()


def http_date(seconds: float | None = None) -> bytes:
    """Return the date of a time (by default now) as HTTP writes it; ``email.utils`` is slow to import."""
    year, month, day, hour, minute, second, weekday, *_ = gmtime(seconds)
    date = b"%b, %02d %b %d" % (_DAYS[weekday], day, _MONTHS[month - 1], year)
    return b"%b %02d:%02d:%02d GMT" % (date, hour, minute, second)
