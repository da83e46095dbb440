"""
Accepting connections with TLS: handshakes are bounded in number and time, and leave room for requests.

The loop's own server would begin a handshake for every connection that comes, however many there are. Here
a connection waits in the kernel's queue until fewer are under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from time import monotonic
from typing import TYPE_CHECKING

from solera_server.logs import Seldom

if TYPE_CHECKING:
    from collections.abc import Callable

    from solera_server.certificates import Certificates

log = logging.getLogger(__name__)

HANDSHAKES = 128
"""Handshakes that may be under way at a time."""

_AT_ONCE = 8
# One that is older than this makes room for a new one when there are as many as may be.
_SPARE_SECONDS = 1.0
_PAUSE_SECONDS = 0.05
_SILENT_SECONDS = 10.0


class TlsListener:
    """
    Accepts on ``sockets``, which are bound, and gives each connection a protocol once its handshake is done.

    ``on_failure`` is told of each handshake that came to nothing. Use on one event loop only.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        certificates: Certificates,
        protocol: Callable[[], asyncio.Protocol],
        handshake_seconds: float,
        on_failure: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._certificates = certificates
        self._protocol = protocol
        self._handshake_seconds = handshake_seconds
        self._on_failure = on_failure
        self._under_way: dict[asyncio.Task[None], tuple[float, socket.socket]] = {}
        self._resuming: asyncio.TimerHandle | None = None
        self._closed = False
        self._refusals = Seldom(_SILENT_SECONDS)

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    def start(self, backlog: int) -> None:
        for one in self._sockets:
            one.listen(backlog)
            self._loop.add_reader(one, self._accept, one)

    def close(self) -> None:
        """Accept no more; handshakes under way go on."""
        if self._closed:
            return
        self._closed = True
        if self._resuming is not None:
            self._resuming.cancel()
        for one in self._sockets:
            self._loop.remove_reader(one)
            one.close()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            if len(self._under_way) >= HANDSHAKES and not self._make_room():
                self._pause()
                return
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # out of descriptors, most likely
                if self._refusals.due():  # it is tried again many times a second
                    log.warning("cannot accept a connection", extra={"error": str(error)})
                self._pause()
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._shake_hands(connection))
            self._under_way[task] = (monotonic(), connection)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)

    def _make_room(self) -> bool:
        oldest = next(iter(self._under_way))
        began, connection = self._under_way[oldest]
        if monotonic() - began < _SPARE_SECONDS:
            return False
        del self._under_way[oldest]
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # which the handshake sees as its end
        return True

    def _pause(self) -> None:
        for one in self._sockets:
            self._loop.remove_reader(one)
        self._resuming = self._loop.call_later(_PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        for one in self._sockets:
            self._loop.add_reader(one, self._accept, one)

    async def _shake_hands(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._certificates.pair.context,
                ssl_handshake_timeout=self._handshake_seconds,
            )
        except OSError as error:  # SSLError and TimeoutError are among them
            self._on_failure()
            log.debug("handshake failed", extra={"error": str(error)})
            connection.close()
