"""
Open-loop load: requests leave at times fixed beforehand, whatever the server does, as many clients' would.

Arrivals are a Poisson process. A request goes out on an idle connection or a new one; with ``most`` connections
busy it counts as unsent. A client gives up at its deadline and closes the connection. Latency runs from the
time at which the request was due, so that a generator that falls behind shows, in latencies and in ``lag``.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import random
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import uvloop

if TYPE_CHECKING:
    from collections.abc import Sequence

GAVE_UP, BROKEN, UNSENT = 0, -1, -2


@dataclass(frozen=True)
class Phase:
    """``rate`` requests a second for ``seconds``."""

    rate: float
    seconds: float


@dataclass
class Outcome:
    """What became of one request: ``due`` in seconds since the start, ``status`` of HTTP or one of the above."""

    phase: int
    due: float
    sent: float = math.nan
    latency: float = math.nan
    status: int = UNSENT


@dataclass(frozen=True)
class Played:
    """All requests of a run, how late the generator was (p99, seconds), and its share of its CPU."""

    outcomes: list[Outcome]
    lag_p99: float
    cpu_share: float
    most_connections: int = field(default=0)


def play(
    port: int,
    path: str,
    bodies: Sequence[bytes],
    phases: Sequence[Phase],
    *,
    deadline: float,
    most: int = 900,
) -> Played:
    """Play the phases one after another against 127.0.0.1 and return what became of every request."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    requests = [head.encode() + str(len(body)).encode() + b"\r\n\r\n" + body for body in bodies]
    player = _Player(port, requests, schedule(phases), deadline, most)
    gc.collect()
    gc.disable()
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        uvloop.run(player.run())
    finally:
        gc.enable()
    share = (time.process_time() - cpu) / (time.perf_counter() - wall)
    lags = sorted(one.sent - one.due for one in player.outcomes if not math.isnan(one.sent))
    return Played(player.outcomes, quantile(lags, 0.99), share, player.opened_most)


def schedule(phases: Sequence[Phase], seed: int = 1) -> list[Outcome]:
    """Return a request for each arrival, in the order of time."""
    arrivals = random.Random(seed)
    made, begin = [], 0.0
    for number, phase in enumerate(phases):
        due = begin + arrivals.expovariate(phase.rate)
        while due < begin + phase.seconds:
            made.append(Outcome(number, due))
            due += arrivals.expovariate(phase.rate)
        begin += phase.seconds
    return made


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of an ordered sequence lies; 0 for none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class _Player:
    def __init__(
        self, port: int, requests: list[bytes], outcomes: list[Outcome], deadline: float, most: int
    ) -> None:
        self.outcomes = outcomes
        self.opened_most = 0
        self._port = port
        self._requests = requests
        self._deadline = deadline
        self._most = most
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._sent: deque[tuple[Outcome, _Connection]] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._begin = 0.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self._begin = time.perf_counter() + 0.05
        expiry = loop.create_task(self._expire())
        for number, outcome in enumerate(self.outcomes):
            ahead = outcome.due - self.now()
            if ahead > 0.0005:
                await asyncio.sleep(ahead)
            elif number % 20 == 0:
                await asyncio.sleep(0)
            self._send(outcome, self._requests[number % len(self._requests)])
        # Looked at in steps: an event would have to be kept at each answer, while it is measured.
        while any(one.outcome is not None for one in self._open) or self._opening:  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)
        expiry.cancel()
        for one in list(self._open):
            one.abort()

    def now(self) -> float:
        # uvloop's own clock has steps of a millisecond.
        return time.perf_counter() - self._begin

    def released(self, connection: _Connection) -> None:
        self._idle.append(connection)

    def closed(self, connection: _Connection) -> None:
        self._open.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    def _send(self, outcome: Outcome, request: bytes) -> None:
        if self._idle:
            connection = self._idle.pop()
            self._sent.append((outcome, connection))
            connection.send(outcome, request)
        elif len(self._open) + len(self._opening) < self._most:
            task = asyncio.get_running_loop().create_task(self._open_and_send(outcome, request))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
            self.opened_most = max(self.opened_most, len(self._open) + len(self._opening))

    async def _open_and_send(self, outcome: Outcome, request: bytes) -> None:
        outcome.status = GAVE_UP
        outcome.sent = self.now()
        try:
            async with asyncio.timeout(self._deadline):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self), "127.0.0.1", self._port
                )
        except TimeoutError:
            return
        except OSError:
            outcome.status = BROKEN
            return
        self._open.add(connection)
        self._sent.append((outcome, connection))
        connection.send(outcome, request)

    async def _expire(self) -> None:
        """Give up what has passed its deadline; requests are in the order of their sending, nearly of their due time."""
        while True:
            await asyncio.sleep(0.02)
            now = self.now()
            while self._sent and now - self._sent[0][0].due > self._deadline:
                outcome, connection = self._sent.popleft()
                if connection.outcome is outcome:
                    connection.give_up()


class _Connection(asyncio.Protocol):
    """One connection of HTTP/1.1, one request at a time; reads no more of an answer than where it ends."""

    def __init__(self, player: _Player) -> None:
        self.outcome: Outcome | None = None
        self._player = player
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport

    def send(self, outcome: Outcome, request: bytes) -> None:
        self.outcome = outcome
        outcome.status = GAVE_UP
        outcome.sent = self._player.now()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received = received = self._received + data
        end = received.find(b"\r\n\r\n")
        if end < 0 or self.outcome is None:
            return
        head = received[:end].lower()
        length = head.find(b"content-length:")
        stop = head.find(b"\r\n", length)
        size = int(head[length + 15 : stop if stop > 0 else end])
        if len(received) < end + 4 + size:
            return
        self.outcome.status = int(received[9:12])
        self.outcome.latency = self._player.now() - min(self.outcome.due, self.outcome.sent)
        self.outcome = None
        self._received = b""
        if b"connection: close" in head:
            self._transport.close()
        else:
            self._player.released(self)

    def connection_lost(self, _error: Exception | None) -> None:
        if self.outcome is not None:
            self.outcome.status = BROKEN
            self.outcome = None
        self._player.closed(self)

    def give_up(self) -> None:
        self.outcome = None
        self.abort()

    def abort(self) -> None:
        self._transport.abort()
