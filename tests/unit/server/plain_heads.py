"""What the extension's intake takes, beside what the parser reads in the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled.kernels import Intake
from solera_server.known_heads import KnownHeads, Value
from solera_server.message import Head, Request, Response
from solera_server.plain_turn import PROTOCOLS, learn
from solera_server.reader import Refusal, RequestReader, Shared
from solera_server.router import Route, Router

if TYPE_CHECKING:
    from solera_server.limits import Limits
    from solera_server.v1 import V1Codec
    from solera_server.v2 import V2Codec


def _no_answer(_request: Request, _response: Response | None = None) -> None:
    raise AssertionError("requests are only read here")


ROUTER = Router(
    {
        b"/v1": {b"POST": Route(_no_answer, "v1", reads_json=True, predicts=True)},
        b"/v2": {b"POST": Route(_no_answer, "v2", reads_json=True, reads_binary=True, predicts=True)},
        b"/e": {b"POST": Route(_no_answer, "explain", reads_json=True), b"GET": Route(_no_answer, "v1")},
    },
    lambda path: f"nothing at {path}",
)


class _Nothing(KnownHeads):
    """Knows no head, but passes on what may be learnt."""

    def match(self, _raw: bytes) -> Head | None:
        return None


class Beside:
    """An intake that learns from a parser, and the codecs of both protocols."""

    def __init__(self, v1: V1Codec, v2: V2Codec, limits: Limits) -> None:
        assert Intake is not None
        self.intake = Intake(v1.plain.reader, v2.plain.reader, limits.body_bytes, limits.header_bytes)
        self.intake.limit(1000, 10_000, 1000)
        self._codecs = (v1, v2)
        self._shared = Shared(ROUTER, limits)
        self._shared.known = _Nothing(limits.body_bytes, limits.header_bytes, self, b"x-unit")

    def learn(self, raw: bytes, head: Head, values: list[Value]) -> bool:
        return learn(self.intake, raw, head, values)

    def parsed(self, data: bytes) -> list[Request | Refusal]:
        """Return what the parser reads, on a connection of its own."""
        self._shared.known.whole.clear()
        reader = RequestReader(self._shared, _no_answer, lambda: None)
        reader.feed(data)
        found = list(reader.pending)
        complete = not reader.receiving and not reader.last
        reader.abandon()
        return found if complete else [*found, Refusal(Response(0), None)]

    def agree(self, data: bytes) -> bool:
        """Let the intake read; what it takes must be one request, and the same, to the parser and the codec."""
        if not self.intake.take(data, 1.5, "owner"):
            assert self.intake.finish() is None
            return False
        taken = self.intake.finish()
        protocol, asked, owners, heads, pieces, ids, request_ids, units, _, rows, total, numbers, texts = (
            taken
        )
        assert (owners, pieces, len(self.intake)) == (["owner"], [data], 0)
        [request] = self.parsed(data)
        assert isinstance(request, Request), request
        assert not request.last
        end = data.index(b"\r\n\r\n") + 4
        assert data[end:] == request.body
        assert _seen(self._shared.known.varied(heads[0], data[:end])) == _seen(request.head)
        assert isinstance(request.route, Route)
        assert request.route.protocol == PROTOCOLS[protocol]
        assert (None if request_ids is None else request_ids[0]) == request.head.request_id
        # Where the header is written in an odd way its value belongs to the head.
        assert units is None or units[0] == request.headers[b"x-unit"]
        codec = self._codecs[protocol]
        call = codec.decode_carefully(request.body, request.headers)
        assert int.from_bytes(rows, "little") == total == call.batch.rows
        assert bytes(numbers) == call.batch.numbers.tobytes()
        assert repr(texts) == repr(call.batch.texts)
        assert codec.wanted(asked) == call.outputs
        outputs = outputs_for(total, call.outputs)
        [body] = codec.bodies(outputs, call.outputs, None if total == 1 else [total], ids)
        assert body == call.render(outputs).body
        return True


def _seen(head: Head) -> tuple[Any, ...]:
    return head.method, head.target, head.headers, head.keep_alive, head.length, head.request_id, head.route


def outputs_for(rows: int, names: tuple[str, ...]) -> dict[str, Any]:
    """Return some outputs, with a number that JSON has not."""
    labels: list[Any] = ["a", "b\u00e9", 'c"'] if "predict_proba" in names else [0.5, np.nan, -np.inf]
    every = {
        "predict": np.array(labels * rows)[:rows],
        "predict_proba": np.array([[0.25, np.nan], [1e-9, np.inf], [0.5, 0.5]] * rows)[:rows],
    }
    return {name: every[name] for name in names}
