"""``GET /counters`` of the management port: the kept windows of all processes, added up."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson

from solera_core.counters import Report, Reported, Window, report_to_json, window_to_json
from solera_server.counter_memory import CLOSED_SECONDS
from solera_server.message import Request, Response, error_response, internal_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from solera_server.counter_memory import CounterMemory


log = logging.getLogger(__name__)


class CounterReport:
    """
    Answers for one served model. Closed windows never change, so each is encoded once.

    ``handle`` may take long and is for a thread, one call at a time. ``fold`` counts what waits, where this
    process counts too: on the event loop, before ``handle``.
    """

    def __init__(
        self,
        memory: CounterMemory,
        model: str,
        version: str,
        digest: str,
        fold: Callable[[], None] | None = None,
    ) -> None:
        self._memory = memory
        self.fold: Callable[[], None] = fold or (lambda: None)
        self._names = (model, version, digest)
        self._encoded: dict[int, bytes] = {}

    def handle(self, request: Request) -> Response:
        """Answer the request; ``?after=7`` leaves out the windows up to sequence 7."""
        query = parse_qs(
            request.head.target.partition(b"?")[2].decode("ascii", "replace"), keep_blank_values=True
        )
        after = query.pop("after", ["-1"])[-1]
        if query or not after.removeprefix("-").isdecimal() or len(after) > 15:
            return error_response(400, "counters take one parameter, after=N: the last sequence already read")
        try:
            return Response(200, self._document(int(after)))
        except Exception:
            log.exception("counters could not be told")
            return internal_error()

    def document(self, after: int = -1) -> bytes:
        """Count what waits and return the report as JSON; on the loop, for tests and tools."""
        self.fold()
        return self._document(after)

    def _document(self, after: int) -> bytes:
        memory = self._memory
        boot = memory.boot
        now = boot.now()
        current = memory.number(now)
        closed_before = memory.number(now - CLOSED_SECONDS)
        oldest = max(memory.first, closed_before - memory.kept)
        for number in [number for number in self._encoded if number < oldest]:
            del self._encoded[number]
        windows = []
        for number in range(max(oldest, memory.first + after + 1), current + 1):
            closed = number < closed_before
            encoded = self._encoded.get(number)
            if encoded is None:
                encoded = _encoded(self._reported(number, closed=closed))
                if closed:
                    self._encoded[number] = encoded
            windows.append(orjson.Fragment(encoded))
        report = Report(boot.pod, boot.id, int(boot.wall), *self._names, memory.seconds, memory.layout, ())
        return orjson.dumps(report_to_json(report, windows))

    def _reported(self, number: int, *, closed: bool) -> Reported:
        memory = self._memory
        partial = number == memory.first and memory.boot.wall > number * memory.seconds
        return Reported(number - memory.first, closed, partial, memory.read(number))


def _encoded(reported: Reported) -> bytes:
    """Return a window as JSON, made of small pieces: a thread that makes a large one lets nobody else run."""
    window = reported.window

    def part(**fields: Any) -> dict[str, Any]:
        small = Window(window.start, **fields)
        return window_to_json(Reported(reported.sequence, reported.closed, reported.partial, small))

    document = part(units=window.units)
    document["arms"] = [
        orjson.Fragment(orjson.dumps(part(arms={key: arrays})["arms"][0]))
        for key, arrays in sorted(window.arms.items())
    ]
    document["outcomes"] = [
        orjson.Fragment(orjson.dumps(part(outcomes={key: arrays})["outcomes"][0]))
        for key, arrays in sorted(window.outcomes.items())
    ]
    if window.features is not None and window.features.any():
        features = orjson.dumps(window.features, option=orjson.OPT_SERIALIZE_NUMPY)
        document["features"] = orjson.Fragment(features)
    return orjson.dumps(document)
