"""What messages of gRPC may take in all, as the bounds on bodies and unread answers do for HTTP."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from solera_server.message import error_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from solera_server.limits import Limits
    from solera_server.message import Response

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

_SLOW_SECONDS = 1.0
"""A message that has been arriving for so long gives way to those that wait for room."""
_WAIT_SECONDS = 3.0
_LOOK_SECONDS = 0.2
_SMALL_ANSWER = 16 * 1024
"""Such answers are sent however much others do not read: calls and connections bound them."""


class _Reading:
    """A message that is arriving, which may be ended for another's sake."""

    __slots__ = ("begun", "limit", "yielded")

    def __init__(self, begun: float, limit: asyncio.Timeout) -> None:
        self.begun, self.limit, self.yielded = begun, limit, False


class Arrivals:
    """
    Bounds the bytes of messages that arrive or wait for their answer, and of answers that are not read.

    How large a message is going to be nobody says before gRPC has it. So it counts as the largest that may be
    until it is there, and as what it is from then on. gRPC takes the bytes of a message only while somebody
    reads it, beyond a window of some KiB.
    """

    def __init__(self, limits: Limits) -> None:
        self._seconds = limits.receive_seconds
        self._room = limits.bodies_bytes
        self._largest = min(limits.body_bytes, limits.bodies_bytes)
        self._unread_room, self._unread = limits.unread_bytes, 0
        self._taken = 0
        self._reading: dict[_Reading, None] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._looking = False

    @property
    def taken(self) -> int:
        """Bytes of messages that count now."""
        return self._taken

    @asynccontextmanager
    async def message(self, context: Context) -> AsyncIterator[bytes]:
        """Give the one message of a call, which counts for as long as the block runs."""
        if self._taken + self._largest > self._room:
            await self._wait(context)
        else:
            self._taken += self._largest
        held = self._largest
        try:
            body = await self._read(context)
            self._give(held - len(body))
            held = len(body)
            yield body
        finally:
            self._give(held)

    def refusal(self, size: int) -> Response | None:
        """Return what is said instead of an answer of ``size`` bytes where too much is not read, or None."""
        if size <= _SMALL_ANSWER or self._unread + size <= self._unread_room:
            return None
        return error_response(429, "too many answers are not read by their clients; try again")

    def answer(self, context: Context, body: bytes) -> bytes:
        """Count an answer until it is sent, and return it."""
        size = len(body)
        self._unread += size

        def sent(_context: object) -> None:
            self._unread -= size

        context.add_done_callback(sent)
        return body

    async def _read(self, context: Context) -> bytes:
        body: Any = None
        reading = None
        try:
            async with asyncio.timeout(self._seconds) as limit:
                reading = _Reading(asyncio.get_running_loop().time(), limit)
                self._reading[reading] = None
                body = await context.read()
        except TimeoutError:
            if reading is not None and reading.yielded:
                await context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "the message came slowly while others waited for room; try again",
                )
            await context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"the message did not arrive within {self._seconds:g} s"
            )
        finally:
            if reading is not None:
                del self._reading[reading]
        if body is grpc.aio.EOF:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call came without its message")
        found: bytes = body
        return found

    async def _wait(self, context: Context) -> None:
        """Wait for room, which is then taken."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        if not self._looking:
            self._looking = True
            loop.call_soon(self._look)
        try:
            async with asyncio.timeout(min(_WAIT_SECONDS, self._seconds)):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # room came at the same moment
                self._give(self._largest)
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if not isinstance(error, TimeoutError):
                raise
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"messages of {self._room} bytes arrive or wait, and no more may; try again",
            )

    def _give(self, size: int) -> None:
        self._taken -= size
        while self._waiting and self._taken + self._largest <= self._room:
            turn = self._waiting.popleft()
            if not turn.done():
                self._taken += self._largest
                turn.set_result(None)

    def _look(self) -> None:
        """End what arrives slowly, as long as others wait: as many as wait, those first that came first."""
        if not self._waiting:
            self._looking = False
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        loop.call_later(_LOOK_SECONDS, self._look)
        slow = [one for one in self._reading if not one.yielded and now - one.begun > _SLOW_SECONDS]
        for one in slow[: len(self._waiting)]:
            if not one.limit.expired():
                one.yielded = True
                one.limit.reschedule(now)
