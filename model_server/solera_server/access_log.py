"""
The access log: a line of JSON for each request, or for a sample, written by a thread of its own.

It is off unless asked for. Answers of 500 and above are logged in any case: without an access log a few a
second, among the events of the server.
"""

from __future__ import annotations

import logging
import os
import random
import re
import sys
import threading
from collections import deque
from datetime import UTC, datetime
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from solera_server import logs
from solera_server.message import Response
from solera_server.router import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from solera_server.message import Request

log = logging.getLogger(__name__)

WAITING_LINES = 10_000
"""Lines that may wait to be written; further ones are dropped, and counted."""

_WRITE_SECONDS = 0.2
_FAILURES_A_SECOND = 10
_NOT_OURS = (501, 505)
"""Of 500 and above, what says that the client asked for something that there is not."""
_LONGEST_PATH = 200
# version, trace id, parent id, flags: as the recommendation of W3C, Trace Context, has it.
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Noting(Protocol):
    """What is told of every answered request, and may add headers to the response: see AccessLog."""

    on: bool

    def note(self, request: Request | None, response: Response, now: float, peer: object) -> Response: ...

    def close(self) -> None: ...


class AccessLog:
    """
    Told of every request that is answered, on the event loop.

    ``share`` is how many of the requests are logged, from 0 to 1. ``write`` takes bytes, and may block.
    """

    def __init__(
        self,
        share: float,
        write: Callable[[bytes], None] | None = None,
        on_drop: Callable[[], None] = lambda: None,
    ) -> None:
        self.on = share > 0
        """Whether there is anything to say of a request that went well."""
        self._share = share
        self._write = write or _to_stdout
        self._on_drop = on_drop
        self._lines: deque[bytes] = deque()
        self._ids = count(1)
        self._prefix = f"{random.getrandbits(64):016x}"  # unlikely to be another process's
        self._failures = _Rate(_FAILURES_A_SECOND)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        if self.on:
            self._thread.start()

    def note(
        self,
        request: Request | None,
        response: Response,
        now: float,
        peer: object,
        span: dict[str, str] | None = None,
    ) -> Response:
        """
        Log an answer if it is to be logged, and return the response to send.

        That one has an X-Request-Id by which its line is found, where the client sent none. ``request`` is
        None for what could not be read as one; ``now`` is a reading of perf_counter. ``span`` has the ids of
        the span that is made of it, if there is one.
        """
        failed = response.status >= 500
        if not self.on:
            # Whoever sends HTTP/2.0 a thousand times must not keep real failures out of the log.
            if failed and response.status not in _NOT_OURS and self._failures.allows(monotonic()):
                extra = _fields(request, response, now, peer) | (span or {})
                log.error("answered with an error", extra={**extra, **self._failures.suppressed()})
            return response
        if not failed and self._share < 1 and random.random() >= self._share:  # noqa: S311 - no secret
            return response
        fields = _fields(request, response, now, peer) | (span or {})
        if request is not None and "request_id" not in fields:
            made = f"{self._prefix}-{next(self._ids):x}"
            fields["request_id"] = made
            header = (b"x-request-id", made.encode())
            # A new one: responses that never change are shared.
            response = Response(
                response.status, response.body, response.content_type, (*response.headers, header)
            )
        if len(self._lines) >= WAITING_LINES:
            self._on_drop()
        else:
            self._lines.append(_line(fields))
        return response

    def close(self, seconds: float = 1.0) -> None:
        """Write what waits, for at most so long."""
        self._end.set()
        if self.on:
            self._thread.join(seconds)

    def _run(self) -> None:
        ended = False
        while not ended:
            ended = self._end.wait(_WRITE_SECONDS)
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if not lines:
                continue
            try:
                self._write(b"".join(lines))
            except OSError as error:  # nobody reads it any more
                log.warning("the access log cannot be written", extra={"error": str(error)})
                return


class _Rate:
    """Allows ``limit`` events in each second, and counts the others."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._second = -1
        self._allowed = 0
        self._missed = 0

    def allows(self, now: float) -> bool:
        if int(now) != self._second:
            self._second, self._allowed = int(now), 0
        if self._allowed >= self._limit:
            self._missed += 1
            return False
        self._allowed += 1
        return True

    def suppressed(self) -> dict[str, int]:
        """Return how many were not allowed since the last time, if any."""
        missed, self._missed = self._missed, 0
        return {"suppressed_before": missed} if missed else {}


def trace_fields(request: Request) -> dict[str, Any]:
    """Return what a line of the log about a request says of its trace, where the caller named one."""
    traceparent = request.head.headers.get(b"traceparent")
    return {} if traceparent is None else trace_of(traceparent) or {}


def trace_of(traceparent: bytes) -> dict[str, Any] | None:
    """Return the trace's id, the caller's span, and whether it is sampled; None if it is no traceparent."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == b"ff" or not int(trace, 16) or not int(span, 16) or (version == b"00" and more):
        return None
    return {
        "trace_id": trace.decode(),
        "parent_span_id": span.decode(),
        "trace_sampled": bool(int(flags, 16) & 1),
    }


def _fields(request: Request | None, response: Response, now: float, peer: object) -> dict[str, Any]:
    fields: dict[str, Any] = {"status": response.status, "bytes": len(response.body)}
    if isinstance(peer, tuple) and len(peer) >= 2:
        fields["peer"] = f"[{peer[0]}]:{peer[1]}" if ":" in str(peer[0]) else f"{peer[0]}:{peer[1]}"
    elif peer is not None:
        fields["peer"] = str(peer)
    if request is None:
        return {**fields, "protocol": "other"}
    head, route = request.head, request.head.route
    fields |= {
        "method": head.method.decode("latin-1"),
        "path": head.path.decode("utf-8", "replace")[:_LONGEST_PATH],
        "seconds": round(now - request.received, 6),
        "protocol": route.protocol if type(route) is Route else "other",
        "request_bytes": len(request.body),
    }
    if request.recorded is not None:
        fields["rows"] = request.recorded[1].rows
    if head.request_id is not None:
        fields["request_id"] = head.request_id.decode()
    return fields | trace_fields(request)


def _line(fields: dict[str, Any]) -> bytes:
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    return orjson.dumps({"time": time, "event": "request", **logs.identity(), **fields}) + b"\n"


def _to_stdout(data: bytes) -> None:
    view, descriptor = memoryview(data), sys.stdout.fileno()
    while view:
        view = view[os.write(descriptor, view) :]
