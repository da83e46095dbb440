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
_HEAD_BYTES = 4096
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
_SPELLINGS = (*((name, name) for name in VARYING), *((name, name.title()) for name in (LENGTH, REQUEST_ID)))
_LINES = tuple((name, b"\r\n" + spelling + b": ") for name, spelling in _SPELLINGS)
_VISIBLE = bytes(range(0x21, 0x7F))
_NOT_KEPT = frozenset({b"transfer-encoding", b"upgrade", b"expect"})
_CUT = b"\0"
"""Stands for a value that was cut out; the parser takes no head in which it stands otherwise."""


class Learner(Protocol):
    """Knows heads in a way of its own."""

    def learn(self, raw: bytes, head: Head) -> None:
        """Take note of what ``raw``, the plain head of a prediction, means."""


class KnownHeads:
    """
    Remembers heads for a server; ``body_bytes`` and ``header_bytes`` are its limits. ``plain`` remembers
    those of predictions for itself.

    Bounded in number and size: what is one too many makes all be forgotten, and then costs its parsing.
    """

    def __init__(self, body_bytes: int, header_bytes: int, plain: Learner | None = None) -> None:
        self._plain = plain
        self._body_bytes = body_bytes
        self._header_bytes = min(header_bytes, _HEAD_BYTES)
        self.whole: dict[bytes, Head] = {}
        """Heads by all of their bytes, blank line included."""
        self._patterns: dict[bytes, tuple[tuple[bytes, ...], Head]] = {}

    def match(self, raw: bytes) -> Head | None:
        """Return what ``raw`` means if only varying values make it differ from a head that is known."""
        if len(raw) > self._header_bytes or not self._patterns:
            return None
        pattern, names, values = _cut(raw)
        names_known, known = self._patterns.get(pattern, (None, None))
        if known is None or names != names_known:
            return None
        head = _with_values(known, names, values)
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
        pattern, names, values = _cut(raw)
        if any(headers[name] != value for name, value in zip(names, values, strict=True)):
            return  # a name comes twice, and the parser has joined the values
        if self._plain is not None and head.route.predicts:
            self._plain.learn(raw, head)
        if all(name == LENGTH for name in names):
            if len(self.whole) >= _HEADS:
                self.whole.clear()
            self.whole[raw] = head
        else:
            if len(self._patterns) >= _HEADS:
                self._patterns.clear()
            self._patterns[pattern] = (names, head)


def varying_values(raw: bytes) -> list[tuple[bytes, int, int]]:
    """Return name, start and end of the values in a head that may vary, in their order."""
    found = []
    for name, line in _LINES:
        at = raw.find(line)
        if at >= 0:
            start = at + len(line)
            end = raw.find(b"\r", start)
            value = raw[start:end]
            if value and not value.translate(None, _VISIBLE):
                found.append((start, end, name))
    found.sort()
    return [(name, start, end) for start, end, name in found]


def varied(known: Head, raw: bytes) -> Head:
    """Return what ``raw`` means, which differs from a known head only in varying values."""
    _, names, values = _cut(raw)
    return _with_values(known, names, values)


def _cut(raw: bytes) -> tuple[bytes, tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the head without the varying values, their names and the values."""
    parts, names, values = [], [], []
    before = 0
    for name, start, end in varying_values(raw):
        parts.append(raw[before:start])
        names.append(name)
        values.append(raw[start:end])
        before = end
    parts.append(raw[before:])
    return _CUT.join(parts), tuple(names), tuple(values)


def _with_values(known: Head, names: tuple[bytes, ...], values: tuple[bytes, ...]) -> Head:
    """Return a head like a known one with other values; its length is -1 where it is no plain number."""
    head = Head()
    head.method, head.target, head.route = known.method, known.target, known.route
    head.keep_alive, head.length = True, known.length
    head.subject = known.subject  # no varying value can name a unit (recording_options.py)
    head.headers = known.headers | dict(zip(names, values, strict=True))
    head.request_id = known.request_id
    for name, value in zip(names, values, strict=True):
        if name == LENGTH:
            head.length = int(value) if value.isdigit() and len(value) <= 9 and value[:1] != b"0" else -1
        elif name == REQUEST_ID:
            head.request_id = value if REQUEST_ID_FORM.fullmatch(value) else None
    return head
