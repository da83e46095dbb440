"""
Heads of requests that have been read before.

A client sends the same head with every request, or one that differs in a few values. What a head means
depends on its bytes alone, so bytes that the parser has taken once need not be parsed again. Only the
plainest heads are kept: HTTP/1.1 that keeps the connection, a body framed by Content-Length or none,
no wish for anything else, and a route that exists.
"""

from __future__ import annotations

from typing import Protocol

from solera_server.message import REQUEST_ID as REQUEST_ID_FORM
from solera_server.message import Head
from solera_server.router import Route

_HEADS = 256
HEAD_BYTES = 4096
LENGTH = b"content-length"
REQUEST_ID = b"x-request-id"
# Values that differ from request to request, and that say nothing about how to read it: proxies write
# these names in lower case, clients the first two as in the standards. The length is checked as a number.
VARYING = (
    LENGTH,
    REQUEST_ID,
    b"traceparent",
    b"tracestate",
    b"x-forwarded-for",
    b"x-envoy-external-address",
)
_VISIBLE = bytes(range(0x21, 0x7F))
_NOT_KEPT = frozenset({b"transfer-encoding", b"upgrade", b"expect"})
_LENGTH_DIGITS = 9
_CUT = b"\0"
"""Stands for a value that was cut out; the parser takes no head in which it stands otherwise."""


Value = tuple[bytes, int, int]
"""The name of a varying header, and where in a head its value starts and ends."""


class Learner(Protocol):
    """Knows heads in a way of its own."""

    def learn(self, raw: bytes, head: Head, values: list[Value]) -> bool:
        """
        Take note of what ``raw``, the plain head of a prediction, means, whatever its values are.

        Returns whether all that was known before had to be forgotten.
        """


class KnownHeads:
    """
    Remembers heads for a server; ``body_bytes`` and ``header_bytes`` are its limits.

    ``plain`` remembers those of predictions for itself. ``unit``, in lower case, is one more header whose
    value varies: it names whom a request counts for, and nothing else depends on it. Bounded in number and
    size: what is one too many makes all be forgotten, and then costs its parsing.
    """

    def __init__(
        self, body_bytes: int, header_bytes: int, plain: Learner | None = None, unit: bytes | None = None
    ) -> None:
        self._plain = plain
        self._unit = unit
        self._body_bytes = body_bytes
        self._header_bytes = min(header_bytes, HEAD_BYTES)
        names = VARYING if unit is None else (*VARYING, unit)
        titled = [(name, name.title()) for name in (LENGTH, REQUEST_ID, *names[len(VARYING) :])]
        self._lines = [
            (name, b"\r\n" + spelling + b": ")
            for name, spelling in (*zip(names, names, strict=True), *titled)
        ]
        self.whole: dict[bytes, Head] = {}
        """Heads by all of their bytes, blank line included."""
        self._patterns: dict[bytes, tuple[tuple[bytes, ...], Head]] = {}

    def match(self, raw: bytes) -> Head | None:
        """Return what ``raw`` means if only varying values make it differ from a head that is known."""
        if len(raw) > self._header_bytes or not self._patterns:
            return None
        values = self._varying(raw)
        names_known, known = self._patterns.get(_pattern(raw, values), (None, None))
        if known is None or names_known != tuple(name for name, _, _ in values):
            return None
        head = self._with_values(known, raw, values)
        return head if 0 <= head.length <= self._body_bytes else None

    def learn(self, raw: bytes, head: Head) -> None:
        """Remember what ``raw``, a complete head that the parser took, means; if it is of the plain kind."""
        headers = head.headers
        if (
            len(raw) > self._header_bytes
            or not head.keep_alive
            or type(head.route) is not Route
            or not headers.keys().isdisjoint(_NOT_KEPT)
        ):
            return
        values = self._varying(raw)
        if any(headers[name] != raw[start:end] for name, start, end in values):
            return  # a name comes twice, and the parser has joined the values
        if self._plain is not None and head.route.predicts and self._plain.learn(raw, head, values):
            # What is known here is not parsed, and so would never be learnt there again.
            self.whole.clear()
            self._patterns.clear()
        if all(name == LENGTH for name, _, _ in values):
            if len(self.whole) >= _HEADS:
                self.whole.clear()
            self.whole[raw] = head
        else:
            if len(self._patterns) >= _HEADS:
                self._patterns.clear()
            self._patterns[_pattern(raw, values)] = (tuple(name for name, _, _ in values), head)

    def varied(self, known: Head, raw: bytes) -> Head:
        """Return what ``raw`` means, which differs from a known head only in varying values."""
        return self._with_values(known, raw, self._varying(raw))

    def _varying(self, raw: bytes) -> list[Value]:
        """Return the values in a head that may vary, in their order."""
        found = []
        for name, line in self._lines:
            at = raw.find(line)
            if at >= 0:
                start = at + len(line)
                end = raw.find(b"\r", start)
                value = raw[start:end]
                if value and not value.translate(None, _VISIBLE):
                    found.append((start, end, name))
        found.sort()
        return [(name, start, end) for start, end, name in found]

    def _with_values(self, known: Head, raw: bytes, values: list[Value]) -> Head:
        """Return a head like a known one with other values; its length is -1 where it is no plain number."""
        head = Head()
        head.method, head.target, head.route = known.method, known.target, known.route
        head.keep_alive, head.length = True, known.length
        head.request_id, head.subject = known.request_id, known.subject
        head.headers = known.headers.copy()
        for name, start, end in values:
            head.headers[name] = value = raw[start:end]
            if name == LENGTH:
                plain = value.isdigit() and len(value) <= _LENGTH_DIGITS and value[:1] != b"0"
                head.length = int(value) if plain else -1
            elif name == REQUEST_ID:
                head.request_id = value if REQUEST_ID_FORM.fullmatch(value) else None
            elif name == self._unit:
                head.subject = None
        return head


def _pattern(raw: bytes, values: list[Value]) -> bytes:
    """Return the head without the varying values."""
    parts, before = [], 0
    for _, start, end in values:
        parts.append(raw[before:start])
        before = end
    parts.append(raw[before:])
    return _CUT.join(parts)
