"""``GET /counters`` of the management port: the kept windows of all processes, added up."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import orjson

from solera_core.counters import Report, Reported, report_to_json, window_to_json
from solera_server.counter_memory import CLOSED_SECONDS
from solera_server.message import Request, Response, error_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from solera_server.counter_memory import CounterMemory


class CounterReport:
    """
    Answers for one served model.

    ``fold`` is called before the memory is read, where this process counts too. Closed windows never
    change, so each is encoded once.
    """

    def __init__(
        self,
        memory: CounterMemory,
        model: str,
        version: str,
        digest: str,
        fold: Callable[[], None] | None = None,
    ) -> None:
        self._memory, self._fold = memory, fold
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
        return Response(200, self.document(int(after)))

    def document(self, after: int = -1) -> bytes:
        """Return the report as JSON."""
        if self._fold is not None:
            self._fold()
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
                encoded = orjson.dumps(window_to_json(self._reported(number, closed=closed)))
                if closed:
                    self._encoded[number] = encoded
            windows.append(orjson.Fragment(encoded))
        report = Report(boot.pod, boot.id, int(boot.wall), *self._names, memory.seconds, memory.layout, ())
        return orjson.dumps(report_to_json(report, windows))

    def _reported(self, number: int, *, closed: bool) -> Reported:
        memory = self._memory
        partial = number == memory.first and memory.boot.wall > number * memory.seconds
        return Reported(number - memory.first, closed, partial, memory.read(number))
