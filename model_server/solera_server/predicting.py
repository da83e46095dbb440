"""A request of a protocol as a job: decoded by its codec, answered with a response."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from solera_server.access_log import trace_fields
from solera_server.batch import InputError
from solera_server.message import JSON, RECEIPT_HEADER, Request, Response, error_response
from solera_server.request_size import TOO_LARGE
from solera_server.router import Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solera_server.batch import Batch
    from solera_server.codec import Call, Codec
    from solera_server.message import Head
    from solera_server.metrics import Metrics
    from solera_server.predictor import Outputs

log = logging.getLogger(__name__)


class Recorder(Protocol):
    """Is told of every prediction, on the event loop; what takes long it puts off."""

    @property
    def plain(self) -> bool:
        """Whether nothing is added to an answer, so that ``turn`` is all that needs to be called."""

    @property
    def unit_header(self) -> bytes | None:
        """Name of the header, lower case, by which clients say whom a request counts for."""

    def turn(
        self,
        heads: Sequence[Head],
        units: Sequence[bytes | None] | None,
        rows: Sequence[int],
        batch: Batch,
        outputs: Outputs,
        *,
        since: Sequence[float],
        now: float,
    ) -> None:
        """
        Is told of requests that were answered together, ``since`` seconds after they came.

        ``units`` are the values of the unit's header where these vary; None where they do not.
        """

    def record(self, request: Request, batch: Batch, outputs: Outputs) -> tuple[tuple[bytes, bytes], ...]:
        """Return further headers of the response. ``outputs`` are those that the request asked for."""

    def answered(self, request: Request, protocol: str, status: int, now: float) -> None:
        """Is told of every answered request, with a reading of perf_counter; ``record`` came before."""


class Prediction:
    """
    The job of one request.

    ``short`` reads the same as ``codec``, within the limits of what is decoded on the event loop; None where
    no body of a size that comes there is long work.
    """

    __slots__ = ("_codec", "_metrics", "_recorder", "_short", "call", "outputs", "request", "since", "size")

    def __init__(
        self,
        request: Request,
        codec: Codec,
        metrics: Metrics,
        recorder: Recorder | None,
        short: Codec | None = None,
    ) -> None:
        self.request = request
        self.size = len(request.body)
        self.since = request.received
        self.call: Call | None = None
        self.outputs: Outputs | None = None
        self._codec = codec
        self._short = short
        self._metrics = metrics
        self._recorder = recorder

    @property
    def abandoned(self) -> bool:
        return self.request.abandoned

    def decode_short(self) -> Call | None:
        if self._short is None:
            return self.decode()
        try:
            return self._keep(self._short.decode(self.request.body, self.request.head.headers))
        except InputError as error:
            if error.status == TOO_LARGE:
                return None  # whether it is too large for a request as well is seen in the thread
            raise

    def decode(self) -> Call:
        return self._keep(self._codec.decode(self.request.body, self.request.head.headers))

    def _keep(self, call: Call) -> Call:
        self.request.decoded = call.batch
        if self.request.abandoned:  # while a thread decoded; whoever comes second lets go
            call.batch.forget_places()
        return call

    def succeed(self, call: Call, outputs: Outputs) -> Response:
        return call.render(outputs)

    def fail(self, error: Exception) -> Response:
        """Word the answer: what the client did wrong, or nothing beyond the fact."""
        if isinstance(error, InputError):
            return error_response(error.status, error.message)
        extra = {"body_bytes": self.size, **trace_fields(self.request)}
        log.error("prediction failed", exc_info=error, extra=extra)
        return error_response(500, "the prediction failed; the server's log says why")

    def deliver(self, answer: Response) -> None:
        call, outputs = self.call, self.outputs
        if call is not None and outputs is not None:
            self._metrics.rows += call.batch.rows
            if self._recorder is not None:
                try:
                    headers = self._recorder.record(self.request, call.batch, outputs)
                    if headers:
                        self._add(answer, headers)
                except Exception:
                    log.exception("recording failed")
        self.request.respond(self.request, answer)

    def _add(self, answer: Response, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        """Add headers; a receipt stands in the parameters of V2's JSON as well, where clients look."""
        answer.headers += headers
        route = self.request.head.route
        if type(route) is Route and route.protocol == "v2" and answer.content_type == JSON:
            for name, value in headers:
                if name == RECEIPT_HEADER:
                    answer.body = b'{"parameters":{"receipt":"%b"},' % value + answer.body[1:]
