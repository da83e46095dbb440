"""
Traces of OpenTelemetry: a span for each request that is answered.

The event loop only notes what a span needs. A thread makes spans of that and sends them (``spans.py``,
which alone imports OpenTelemetry). What that thread cannot keep up with is dropped and counted: neither a
request nor the end of the server waits for it.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from dataclasses import dataclass
from time import monotonic, thread_time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from solera_server.access_log import trace_of
from solera_server.router import Route

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from solera_server.access_log import AccessLog
    from solera_server.message import Request, Response
    from solera_server.tracing_options import TracingOptions

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 2.0
# The thread rests so many times as long as it computed: the event loop waits while it does.
_RESTS = 3
_LONGEST = 200
_LONGEST_STATE = 512
_UNTRACED = ("/", "/v2/health/live", "/v2/health/ready")
_UNTRACED_OF_MODEL = (
    "/v1/models/{model}",
    "/v2/models/{model}/ready",
    "/v2/models/{model}/versions/{version}/ready",
)
_UNTRACED_CALLS = ("ServerLive", "ServerReady", "ModelReady")


class Finished(NamedTuple):
    """An answered request, as its span needs it. Times are readings of perf_counter."""

    trace_id: int
    span_id: int
    parent_id: int | None
    parent_sampled: bool
    trace_state: str
    method: str
    path: str
    routed: bool
    protocol: str
    host: str
    request_id: str
    status: int
    rows: int | None
    begun: float
    ended: float


@dataclass(frozen=True, slots=True)
class Served:
    """What all spans of a server have in common. ``address`` and ``grpc_port`` are those of gRPC."""

    model: str
    version: str
    predictor: str
    scheme: str
    address: str
    grpc_port: int | None

    def template(self, path: str) -> str:
        """
        Return the route of a path that exists: the model's name and version are variables in it.

        However clients write it, as the router takes it: there must not be more names than routes.
        """
        if "%" in path:
            path = unquote(path)
        before, models, after = path.partition(f"/models/{self.model}")
        if not models or after[:1] not in ("", "/", ":"):
            return path
        version = f"/versions/{self.version}"
        if after == version or after.startswith(f"{version}/"):
            after = "/versions/{version}" + after[len(version) :]
        return f"{before}/models/{{model}}{after}"

    def traced(self, protocol: str, path: str) -> bool:
        """Return whether requests of a path are traced: those of probes are not."""
        if protocol == "grpc":
            return path.rpartition("/")[2] not in _UNTRACED_CALLS
        return self.template(path) not in (*_UNTRACED, *_UNTRACED_OF_MODEL)


class Tracing:
    """
    Stands in the place of an access log, and passes on to it what is to be logged.

    ``count(sent, dropped)`` is called on ``loop``. ``export`` makes what sends spans, in the thread.
    """

    on = True
    """There is something to note of every request."""

    def __init__(
        self,
        options: TracingOptions,
        served: Served,
        access: AccessLog,
        *,
        loop: asyncio.AbstractEventLoop,
        count: Callable[[int, int], None],
        export: Callable[[Served], Export] | None = None,
    ) -> None:
        self._options = options
        self._served = served
        self._access = access
        self._loop = loop
        self._count = count
        self._make = export or _exporter
        self._waiting: deque[Finished] = deque()
        self._traced: dict[tuple[str, bytes], bool] = {}
        self._wake = threading.Event()
        self._end = monotonic() + 1e9
        self._closing = threading.Event()
        self._export: Export | None = None
        self._thread = threading.Thread(target=self._run, name="tracing", daemon=True)
        self._thread.start()

    def note(self, request: Request | None, response: Response, now: float, peer: object) -> Response:
        """Trace an answer if it is to be traced, and log it if it is to be logged (see AccessLog)."""
        finished = None if request is None else self._finished(request, response.status, now)
        access = self._access
        if access.on or response.status >= 500:
            ids = None
            if finished is not None:
                ids = {"trace_id": f"{finished.trace_id:032x}", "span_id": f"{finished.span_id:016x}"}
            response = access.note(request, response, now, peer, ids)
        return response

    def close(self) -> None:
        """Send what waits, for at most a bounded time, and give up the rest."""
        self._end = monotonic() + _CLOSE_SECONDS
        self._closing.set()
        self._wake.set()
        self._thread.join(_CLOSE_SECONDS)
        if self._export is not None:
            self._export.stop()
        left = len(self._waiting)
        if left or self._thread.is_alive():
            log.warning("spans were not sent before the end", extra={"waiting": left})
        self._access.close()

    def _finished(self, request: Request, status: int, now: float) -> Finished | None:
        head = request.head
        route = head.route
        routed = type(route) is Route
        protocol = route.protocol if isinstance(route, Route) else "other"
        if routed:
            key = (protocol, head.target)
            traced = self._traced.get(key)
            if traced is None:
                traced = self._served.traced(protocol, head.path.decode("utf-8", "replace"))
                if len(self._traced) < _LONGEST:  # a query is a part of the target, and clients' to choose
                    self._traced[key] = traced
            if not traced:
                return None
        headers = head.headers
        given = headers.get(b"traceparent")
        parent = None if given is None else trace_of(given)
        trace_id = random.getrandbits(128) if parent is None else int(parent["trace_id"], 16)
        sampled = None if parent is None else parent["trace_sampled"]
        if not self._options.keeps(trace_id, sampled):
            return None
        if len(self._waiting) >= self._options.queue:
            self._count(0, 1)
            return None
        host, state = headers.get(b"host", b""), headers.get(b"tracestate", b"")
        finished = Finished(
            trace_id or 1,
            random.getrandbits(64) or 1,
            None if parent is None else int(parent["parent_span_id"], 16),
            bool(sampled),
            state.decode("latin-1") if parent is not None and len(state) <= _LONGEST_STATE else "",
            head.method.decode("latin-1"),
            # One that has a route is not long, but for escapes, and cut it would have another.
            (head.path if routed else head.path[:_LONGEST]).decode("utf-8", "replace"),
            routed,
            protocol,
            host[:_LONGEST].decode("latin-1"),
            "" if head.request_id is None else head.request_id.decode(),
            status,
            None if request.recorded is None else request.recorded[1].rows,
            request.received,
            now,
        )
        self._waiting.append(finished)
        if len(self._waiting) == self._options.batch:
            self._wake.set()
        return finished

    # -- in the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            export = self._export = self._make(self._served)
        except Exception:
            log.exception("spans cannot be sent")
            return  # what waits stays, and everything further is dropped and counted
        while not self._closing.is_set():
            if len(self._waiting) < self._options.batch:
                self._wake.wait(self._options.delay_seconds)
            self._wake.clear()
            self._send(export)
        self._send(export)

    def _send(self, export: Export) -> None:
        """Send what waits now, or, at the end, as much as there is time for."""
        left = len(self._waiting)
        while left > 0 and monotonic() < self._end:
            size, computed = min(left, self._options.batch), thread_time()
            batch = [self._waiting.popleft() for _ in range(size)]
            left -= size
            try:
                sent = export.send(batch)
            except Exception:
                log.exception("spans could not be sent")
                sent = False
            self._tell(size if sent else 0, 0 if sent else size)
            self._closing.wait(_RESTS * (thread_time() - computed))

    def _tell(self, sent: int, dropped: int) -> None:
        try:
            self._loop.call_soon_threadsafe(self._count, sent, dropped)
        except RuntimeError:  # the loop has ended, and nobody asks any more
            log.debug("spans after the end", extra={"sent": sent, "dropped": dropped})


class Export:
    """Sends spans, in one thread."""

    def send(self, batch: Sequence[Finished]) -> bool:
        """Return whether they were taken; may block."""
        raise NotImplementedError

    def stop(self) -> None:
        """Let no more be tried; on any thread."""
        raise NotImplementedError


def _exporter(served: Served) -> Export:
    from solera_server.spans import OtlpExport

    return OtlpExport(served)
