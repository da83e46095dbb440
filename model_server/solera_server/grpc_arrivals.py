"""What messages of gRPC may take in all, as the bounds on bodies and unread answers do for HTTP."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import grpc

from solera_server.message import error_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from solera_server.grpc_core import Call
    from solera_server.limits import Limits
    from solera_server.message import Response

_SLOW_SECONDS = 1.0
"""A message that has been arriving for so long gives way to those that wait for room."""
_WAIT_SECONDS = 3.0
_LOOK_SECONDS = 0.2
_SMALL_ANSWER = 16 * 1024
"""Such answers are sent however much others do not read: calls and connections bound them."""


class _Arrival:
    """A message that is awaited since ``begun``, or waits for room since then."""

    __slots__ = ("begun", "call", "then")

    def __init__(self, begun: float, call: Call, then: Callable[[bytes], None]) -> None:
        self.begun, self.call, self.then = begun, call, then


class Arrivals:
    """
    Bounds the bytes of messages that arrive or wait for their answer, and of answers that are not read.

    How large a message is going to be nobody says before gRPC has it. So it counts as the largest that may be
    until it is there, and as what it is from then on. gRPC takes the bytes of a message only while somebody
    reads it, beyond a window of some KiB.
    """

    def __init__(self, limits: Limits) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = limits.receive_seconds
        self._room = limits.bodies_bytes
        self._largest = min(limits.body_bytes, limits.bodies_bytes)
        self._unread_room, self._unread = limits.unread_bytes, 0
        self._taken = 0
        self._reading: dict[_Arrival, None] = {}
        self._waiting: deque[_Arrival] = deque()
        self._looking = False

    @property
    def taken(self) -> int:
        """Bytes of messages that count now."""
        return self._taken

    def message(self, call: Call, then: Callable[[bytes], None]) -> None:
        """
        Call ``then`` with the one message of a call, which counts until the call is answered or has ended.

        It is not called when the message does not come, which the client is told.
        """
        call.ended = self._ended
        arrival = _Arrival(self._loop.time(), call, then)
        if self._taken + self._largest > self._room:
            self._waiting.append(arrival)
        else:
            self._read(arrival)
        if not self._looking:
            self._looking = True
            self._loop.call_later(_LOOK_SECONDS, self._look)

    def refusal(self, size: int) -> Response | None:
        """Return what is said instead of an answer of ``size`` bytes where too much is not read, or None."""
        if size <= _SMALL_ANSWER or self._unread + size <= self._unread_room:
            return None
        return error_response(429, "too many answers are not read by their clients; try again")

    def answered(self, call: Call, size: int) -> None:
        """Count an answer until it is sent, and the message that it is for no longer."""
        self._give(call.held)
        call.held = 0
        if not call.done:
            call.unread = size
            self._unread += size

    def _read(self, arrival: _Arrival) -> None:
        self._taken += self._largest
        arrival.call.held = self._largest
        self._reading[arrival] = None
        arrival.call.receive(lambda body: self._arrived(arrival, body))

    def _arrived(self, arrival: _Arrival, body: bytes | None) -> None:
        call = arrival.call
        self._reading.pop(arrival, None)
        if call.done:
            return
        if body is None:
            call.fail(grpc.StatusCode.INVALID_ARGUMENT, "the call came without its message")
            return
        self._give(call.held - len(body))
        call.held = len(body)
        arrival.then(body)

    def _ended(self, call: Call) -> None:
        self._give(call.held)
        self._unread -= call.unread
        call.held = call.unread = 0

    def _give(self, size: int) -> None:
        self._taken -= size
        while self._waiting and self._taken + self._largest <= self._room:
            arrival = self._waiting.popleft()
            if not arrival.call.done:
                arrival.begun = self._loop.time()
                self._read(arrival)

    def _look(self) -> None:
        """End what arrives or waits for too long, and what arrives slowly while others wait for room."""
        now = self._loop.time()
        for arrival in self._begun_before(now - self._seconds):
            self._refuse(
                arrival, "DEADLINE_EXCEEDED", f"the message did not arrive within {self._seconds:g} s"
            )
        # Those first that came first, and as many as wait.
        for arrival in self._begun_before(now - _SLOW_SECONDS)[: len(self._waiting)]:
            words = "the message came slowly while others waited for room; try again"
            self._refuse(arrival, "RESOURCE_EXHAUSTED", words)
        patience = min(_WAIT_SECONDS, self._seconds)
        while self._waiting and (self._waiting[0].call.done or now - self._waiting[0].begun > patience):
            words = f"messages of {self._room} bytes arrive or wait, and no more may; try again"
            self._refuse(self._waiting.popleft(), "RESOURCE_EXHAUSTED", words)
        self._looking = bool(self._reading or self._waiting)
        if self._looking:
            self._loop.call_later(_LOOK_SECONDS, self._look)

    def _begun_before(self, time: float) -> list[_Arrival]:
        found = []
        for arrival in self._reading:  # in the order in which they began
            if arrival.begun > time:
                break
            found.append(arrival)
        return found

    def _refuse(self, arrival: _Arrival, code: str, words: str) -> None:
        self._reading.pop(arrival, None)
        arrival.call.fail(grpc.StatusCode[code], words)
