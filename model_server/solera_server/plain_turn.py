"""
The plain requests of a turn of the loop: taken as they arrive, predicted in one call, answered one by one.

The extension takes what is plainly a head that the parser has read before with a plain body behind it
(native/intake.c), straight into the batch of the turn. It refuses nothing: what it does not take goes the
ordinary way, from the same bytes; so do all requests of a turn that the model fails on.
"""

from __future__ import annotations

import logging
from itertools import accumulate, compress
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from solera_server.batch import Batch, InputError, nowhere
from solera_server.compiled.kernels import Intake
from solera_server.known_heads import HEAD_BYTES, LENGTH, REQUEST_ID, VARYING
from solera_server.message import LENGTH_HEADER
from solera_server.router import Route

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence, Sized

    from numpy.typing import NDArray

    from solera_server.batch import Texts
    from solera_server.busy_poll import BusyPoll
    from solera_server.known_heads import Value
    from solera_server.limits import Limits
    from solera_server.message import Head
    from solera_server.metrics import Metrics
    from solera_server.plain_bodies import PlainBodies
    from solera_server.predicting import Recorder
    from solera_server.predictor import Outputs
    from solera_server.scheduler import Scheduler

log = logging.getLogger(__name__)

PROTOCOLS = ("v1", "v2")
FIRST = 2
"""What ``take`` returns for the first request of a turn."""
_FLOAT64 = np.dtype(np.float64)
_KINDS = {**dict.fromkeys(VARYING, 0), LENGTH: 1, REQUEST_ID: 2}
_UNIT = 3


class PlainCodec(Protocol):
    """What answers the plain requests of a protocol."""

    plain: PlainBodies

    def wanted(self, asked: Any) -> tuple[str, ...]:
        """Return the outputs that are wanted, from what a body says. Raises InputError."""

    def bodies(
        self,
        outputs: Outputs,
        wanted: tuple[str, ...],
        stops: Sequence[int] | None,
        ids: Sequence[str | None] | None,
    ) -> list[bytes]:
        """
        Return the bodies of the answers to requests that were predicted together and want the same.

        ``stops`` has the end of each request's rows; None where each has one. ``ids`` are what clients call
        their requests, where any of them does.
        """


class Owner(Protocol):
    """A connection that waits for the answer of a plain request."""

    def answer(self, body: bytes, request_id: bytes | None, now: float) -> bool:
        """Send an answer; False where nobody waits for it any more. Does not raise."""

    def go_carefully(self, known: Head, piece: bytes, received: float) -> None:
        """Handle in the ordinary way a request whose head is like a known one. Does not raise."""

    def cut(self) -> None:
        """End the connection: there will be no answer."""


class PlainTurn:
    """
    For the connections of one port.

    ``take(bytes, received, owner)`` is called with what arrived where a request may begin. It returns 0 where
    that is not taken, and FIRST for the first of a turn: then ``begin`` is to be called.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scheduler: Scheduler,
        codecs: tuple[PlainCodec, PlainCodec],
        metrics: Metrics,
        recorder: Recorder | None,
        *,
        limits: Limits,
        busy_poll: BusyPoll | None = None,
    ) -> None:
        v1, v2 = (codec.plain.reader for codec in codecs)
        if Intake is None or v1 is None or v2 is None:
            raise AssertionError("without the extension, or where no body is plain, there are no plain turns")
        self._intake = Intake(v1, v2, limits.body_bytes, min(limits.header_bytes, HEAD_BYTES))
        self._loop = loop
        self._scheduler = scheduler
        self._codecs = codecs
        self._width = codecs[0].plain.width
        self._metrics = metrics
        self._recorder = recorder
        self._busy_poll = busy_poll
        self._failed_before = False
        self.connections: Sized = ()
        """Those of the port."""
        self.take = self._intake.take
        scheduler.plain = self
        self.refresh()

    def __len__(self) -> int:
        return len(self._intake)

    def refresh(self) -> None:
        """Follow the scheduler in what may be taken."""
        self._intake.limit(*self._scheduler.room())

    def learn(self, raw: bytes, head: Head, values: list[Value]) -> bool:
        """
        Know a head that the parser took, and all that differ in nothing but varying values.

        Returns whether all others had to be forgotten: there are at most 256.
        """
        return learn(self._intake, raw, head, values)

    def begin(self) -> None:
        """See to it that the turn ends."""
        if self._busy_poll is not None:
            self._busy_poll.arrived(perf_counter())
        if len(self.connections) == 1:
            self.run()  # nobody else can add to it
        else:
            self._loop.call_soon(self.run)

    def run(self) -> None:
        """Predict and answer what was taken."""
        try:
            taken = self._intake.finish()
        except Exception:
            log.exception("a turn was lost")
            for owner in self._intake.abandon():
                owner.cut()
            return
        if taken is not None:
            self._run(_Turn(*taken))

    def _run(self, turn: _Turn) -> None:
        codec = self._codecs[turn.protocol]
        try:
            numbers = np.ndarray((turn.total, self._width), _FLOAT64, turn.numbers)
            batch = Batch(turn.total, numbers, turn.texts, nowhere)
            wanted = codec.wanted(turn.asked)
            outputs = self._scheduler.predict(batch, wanted)
            bodies = codec.bodies(outputs, wanted, turn.stops(), turn.ids)
        except Exception as error:  # noqa: BLE001 - whose it is shows when each goes the ordinary way
            self._tell(error)
            self._go_carefully(turn)
        else:
            self._answer(turn, batch, outputs, bodies)

    def _tell(self, error: Exception) -> None:
        """Log a failure that is no refusal: it may not come again where each request goes by itself."""
        if not isinstance(error, InputError):
            level = logging.DEBUG if self._failed_before else logging.ERROR
            self._failed_before = True
            log.log(level, "a turn failed; its requests go the ordinary way", exc_info=error)

    def _answer(self, turn: _Turn, batch: Batch, outputs: Outputs, bodies: list[bytes]) -> None:
        now = perf_counter()
        if turn.request_ids is None:
            sent = [owner.answer(body, None, now) for owner, body in zip(turn.owners, bodies, strict=True)]
        else:
            answers = zip(turn.owners, bodies, turn.request_ids, strict=True)
            sent = [owner.answer(body, request_id, now) for owner, body, request_id in answers]
        if self._busy_poll is not None:
            self._busy_poll.answered(now)
        self._metrics.rows += turn.total
        since = [now - received for received in turn.received]
        heads, units, rows = turn.heads, turn.units, turn.rows
        if not all(sent):
            # Who has gone is answered nothing, and counts as little as in an ordinary turn.
            batch, outputs = _kept(np.repeat(sent, rows), batch, outputs)
            since, heads, rows = [*compress(since, sent)], [*compress(heads, sent)], [*compress(rows, sent)]
            units = units and [*compress(units, sent)]
        if not since:
            return
        try:
            self._metrics.answered_together(PROTOCOLS[turn.protocol], 200, since)
            if self._recorder is not None:
                self._recorder.turn(heads, units, rows, batch, outputs, since=since, now=now)
        except Exception:  # what is raised from here may end a connection whose answer waits to be sent
            log.exception("recording failed")

    def _go_carefully(self, turn: _Turn) -> None:
        for owner, known, piece, since in zip(
            turn.owners, turn.heads, turn.pieces, turn.received, strict=True
        ):
            owner.go_carefully(known, piece, since)


def learn(intake: Any, raw: bytes, head: Head, values: list[Value]) -> bool:
    """Let an intake know a head of a prediction, if it says how long its body is, all of it JSON."""
    route = head.route
    lengths = sum(name == LENGTH for name, _, _ in values)
    if LENGTH_HEADER in head.headers or not isinstance(route, Route) or lengths != 1:
        return False
    cuts = tuple((start, stop, _KINDS.get(name, _UNIT)) for name, start, stop in values)
    # A name that is written in an odd way does not vary; its value belongs to the head.
    varies = any(name == REQUEST_ID for name, _, _ in values)
    fixed = None if varies else head.request_id
    forgot: bool = intake.learn(raw, cuts, head, fixed, PROTOCOLS.index(route.protocol))
    return forgot


class _Turn(NamedTuple):
    """What the extension took, as it gives it: see native/intake.c."""

    protocol: int
    asked: Any
    owners: list[Owner]
    heads: list[Head]
    pieces: list[bytes]
    ids: list[str | None] | None
    request_ids: list[bytes | None] | None
    units: list[bytes | None] | None
    received: list[float]
    rows: list[int]
    total: int
    numbers: bytearray
    texts: tuple[Texts, ...]

    def stops(self) -> list[int] | None:
        """The end of each request's rows in the batch; None where each has one row."""
        if self.total == len(self.owners):
            return None
        return [*accumulate(self.rows)]


def _kept(rows: NDArray[np.bool_], batch: Batch, outputs: Outputs) -> tuple[Batch, Outputs]:
    texts = tuple([*compress(column, rows)] for column in batch.texts)
    numbers = batch.numbers[rows]
    return Batch(len(numbers), numbers, texts, nowhere), {
        name: array[rows] for name, array in outputs.items()
    }
