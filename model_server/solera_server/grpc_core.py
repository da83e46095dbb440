"""
The C core of gRPC on the event loop: calls come, their messages are read, answers are sent.

grpc.aio makes three tasks of a call and wakes the loop for each of its steps: some 200 microseconds, of which
the core itself takes a quarter. Here a thread waits for the core, and callbacks on the loop handle all that
has come. What is used of the library (cygrpc) is what its own grpc.server is made of.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import grpc
from grpc._cython import cygrpc

from solera_server.message import INTERNAL_ERROR

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    Trailing = tuple[tuple[str, str | bytes], ...]

log = logging.getLogger(__name__)

_AWAITED_CALLS = 32
"""For how many calls the core is asked at a time; further ones wait in the core."""
_EVENTS_OF_A_TURN = 256
_OK: int = grpc.StatusCode.OK.value[0]


class Call:
    """
    A call by a client.

    ``gone`` is called when the client has gone, or its deadline has passed, before the call was finished;
    ``ended`` when nothing more is sent, in either case.
    """

    __slots__ = (
        "_begun",
        "_call",
        "_finished",
        "_leave",
        "_loop",
        "cancelled",
        "ended",
        "gone",
        "held",
        "metadata",
        "unread",
    )

    def __init__(self, event: Any, loop: asyncio.AbstractEventLoop, leave: Callable[[], None]) -> None:
        self._call = event.call
        self._loop = loop
        self._leave = leave
        self._begun = self._finished = False
        self.metadata: Sequence[tuple[str, str | bytes]] = event.invocation_metadata
        self.cancelled = False
        """Nobody waits for an answer any more."""
        self.gone: Callable[[], object] | None = None
        self.ended: Callable[[Call], None] | None = None
        self.held = self.unread = 0
        """Bytes of its message and its answer that count against the bounds (grpc_arrivals.py)."""
        self._call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(0),), self._closed)

    @property
    def done(self) -> bool:
        """Whether an answer would be too late."""
        return self._finished or self.cancelled

    def peer(self) -> str:
        told: bytes = self._call.peer()
        return told.decode()

    def receive(self, then: Callable[[bytes | None], None]) -> None:
        """Read a message, and call ``then`` with it, or with None when the client sends no more."""

        def arrived(event: Any) -> None:
            self.attempt(lambda: then(event.batch_operations[0].message()))

        if self._call is not None:
            self._call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), arrived)

    def attempt(self, work: Callable[[], None]) -> None:
        """Do something for this call, which ends when that fails."""
        try:
            work()
        except Exception:
            log.exception("a call failed")
            self.fail(grpc.StatusCode.INTERNAL, INTERNAL_ERROR)

    async def read(self) -> bytes | None:
        """Return what ``receive`` gives."""
        message: asyncio.Future[bytes | None] = self._loop.create_future()
        self.receive(lambda found: None if message.done() else message.set_result(found))
        return await message

    async def write(self, message: bytes) -> None:
        """Send a message of several; raises CancelledError when the client has gone."""
        if self.done:
            raise asyncio.CancelledError
        sent: asyncio.Future[bool] = self._loop.create_future()
        operations = (*self._beginning(), cygrpc.SendMessageOperation(message, 0))
        self._call.start_server_batch(
            operations, lambda event: None if sent.done() else sent.set_result(event.success)
        )
        if not await sent:
            raise asyncio.CancelledError

    def answer(self, message: bytes, trailing: Trailing = ()) -> None:
        """Send the one message of an answer, or the last one of several, and that all went well."""
        self._finish((cygrpc.SendMessageOperation(message, 0),), trailing, _OK, b"")

    def fail(self, code: grpc.StatusCode, details: str, trailing: Trailing = ()) -> None:
        self._finish((), trailing, code.value[0], details.encode())

    def close(self) -> None:
        """End a stream of messages, all of which were sent."""
        self._finish((), (), _OK, b"")

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Have a task answer the call, which is cancelled when the client has gone."""

        def over(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None:
                log.error("a call failed", exc_info=task.exception())
                self.fail(grpc.StatusCode.INTERNAL, INTERNAL_ERROR)

        task = self._loop.create_task(work)
        task.add_done_callback(over)
        self.gone = task.cancel

    def _beginning(self) -> tuple[Any, ...]:
        if self._begun:
            return ()
        self._begun = True
        return (cygrpc.SendInitialMetadataOperation((), 0),)

    def _finish(self, last: tuple[Any, ...], trailing: Trailing, code: int, details: bytes) -> None:
        if self.done:
            return
        self._finished = True
        status = cygrpc.SendStatusFromServerOperation(trailing, code, details, 0)
        self._call.start_server_batch((*self._beginning(), *last, status), self._sent)

    def _sent(self, _event: Any) -> None:
        self._end()

    def _closed(self, event: Any) -> None:
        if self._finished or not event.batch_operations[0].cancelled():
            return
        self.cancelled = True
        if self.gone is not None:
            self.gone()
        self._end()

    def _end(self) -> None:
        self._leave()
        if self.ended is not None:
            self.ended(self)
        self.gone = self.ended = None
        self._call = None  # the core frees a call when nobody has it, and ends when all are freed


class Core:
    """
    Gives calls to ``methods``, by their full names, as they come. Make and use it on one event loop.

    ``most_calls`` are answered at a time. ``options`` are the core's channel arguments.
    """

    def __init__(
        self,
        methods: Mapping[bytes, Callable[[Call], None]],
        options: Sequence[tuple[str, int]],
        most_calls: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._methods = methods
        self._most_calls = most_calls
        self._calls = 0
        self._first: Any = None
        self._rest = threading.Semaphore(0)
        self._idle = True
        self._ending = False
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(tuple(options), False)
        self._server.register_completion_queue(self._queue)
        self._thread = threading.Thread(target=self._wait, name="grpc", daemon=True)

    def add_port(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Bind, before the start; return the port, or 0 when it cannot be had."""
        if credentials is None:
            return int(self._server.add_http2_port(address.encode()))
        return int(self._server.add_http2_port(address.encode(), credentials._credentials))  # noqa: SLF001

    def start(self) -> None:
        self._server.start()
        for _ in range(_AWAITED_CALLS):
            self._server.request_call(self._queue, self._queue, self._came)
        self._thread.start()

    async def stop(self, seconds: float) -> None:
        """Take no further call, wait for those under way, and cut what is left after ``seconds``."""
        self._ending = True
        if not self._thread.is_alive():
            return
        over: asyncio.Future[None] = self._loop.create_future()
        self._server.shutdown(self._queue, lambda _event: over.set_result(None))
        await asyncio.wait((over,), timeout=max(0.0, seconds))
        if not over.done():
            self._server.cancel_all_calls()
            await over
        self._server.destroy()
        self._queue.shutdown()
        await asyncio.to_thread(self._thread.join)  # it ends when nothing is left in the queue

    def _wait(self) -> None:
        """Wait in a thread for something to come, have the loop handle it and all else, and wait again."""
        while True:
            event = self._queue.poll()
            if event.completion_type == cygrpc.CompletionType.queue_shutdown:
                return
            self._first = event
            event = None  # the core frees a call that has ended, which it could not while this waits
            try:
                self._loop.call_soon_threadsafe(self._turn)
            except RuntimeError:  # the loop is closed
                return
            self._rest.acquire()

    def _turn(self) -> None:
        """
        Handle what has come. While something comes, the thread rests: it would take the interpreter each time
        that the core is called here.
        """
        event, self._first = self._first, None
        for _ in range(_EVENTS_OF_A_TURN):
            if event is None:
                event = self._queue.poll(0)
                if event.completion_type != cygrpc.CompletionType.operation_complete:
                    break
            try:
                event.tag(event)
            except Exception:  # it must not raise; all other calls are at stake
                log.exception("an event of gRPC was not handled")
            event = None
            self._idle = False
        if self._idle:
            self._rest.release()
        else:
            self._idle = True
            self._loop.call_soon(self._turn)  # after the predictions that were asked for

    def _came(self, event: Any) -> None:
        # Also at the end: what the core has accepted by then is lost with it unless it is answered.
        if not self._ending:
            self._server.request_call(self._queue, self._queue, self._came)
        if not event.success:
            return
        self._calls += 1
        call = Call(event, self._loop, self._left)
        method = self._methods.get(event.call_details.method)
        if method is None:
            call.fail(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        elif self._calls > self._most_calls:
            call.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")
        else:
            call.attempt(lambda: method(call))

    def _left(self) -> None:
        self._calls -= 1
