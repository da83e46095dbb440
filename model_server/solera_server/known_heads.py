"""
Heads of requests that have been read before.

A client sends the same head with every request, or one that differs in a few values. What a head means
depends on its bytes alone, so bytes that the parser has taken once need not be parsed again. Only the
plainest heads are kept: HTTP/1.1 that keeps the connection, a body framed by Content-Length or none,
no wish for anything else, and a route that exists.
"""

from __future__ import annotations

from solera_server.message import REQUEST_ID, Head
from solera_server.router import Route

_HEADS = 256
_HEAD_BYTES = 4096
_LENGTH = b"content-length"
_REQUEST_ID = b"x-request-id"
# Values that differ from request to request, and that say nothing about how to read it: proxies write
# these names in lower case. The length is among them; it is checked as a number.
VARYING = (
    _LENGTH,
    _REQUEST_ID,
    b"traceparent",
    b"tracestate",
    b"x-forwarded-for",
    b"x-envoy-external-address",
)
_LINES = tuple((name, b"\r\n" + name + b": ") for name in VARYING)
_VISIBLE = bytes(range(0x21, 0x7F))
_NOT_KEPT = frozenset({b"transfer-encoding", b"upgrade", b"expect"})
_CUT = b"\0"
"""Stands for a value that was cut out; the parser takes no head in which it stands otherwise."""


class KnownHeads:
    """
    Remembers heads for a server; ``body_bytes`` and ``header_bytes`` are its limits.

    Bounded in number and size: what is one too many makes all be forgotten, and then costs its parsing.
    """

    def __init__(self, body_bytes: int, header_bytes: int) -> None:
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
        head = Head()
        head.method, head.target, head.route = known.method, known.target, known.route
        head.keep_alive, head.length = True, known.length
        head.subject = known.subject  # no varying value can name a unit (recording_options.py)
        head.headers = known.headers | dict(zip(names, values, strict=True))
        for name, value in zip(names, values, strict=True):
            if name == _LENGTH:
                length = _plain_number(value)
                if length is None or length > self._body_bytes:
                    return None
                head.length = length
            elif name == _REQUEST_ID:
                head.request_id = value if REQUEST_ID.fullmatch(value) else None
        if _REQUEST_ID not in names:
            head.request_id = known.request_id
        return head

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
        if all(name == _LENGTH for name in names):
            if len(self.whole) >= _HEADS:
                self.whole.clear()
            self.whole[raw] = head
        elif all(headers[name] == value for name, value in zip(names, values, strict=True)):
            # Otherwise a name comes twice, and the parser has joined the values.
            if len(self._patterns) >= _HEADS:
                self._patterns.clear()
            self._patterns[pattern] = (names, head)


def _cut(raw: bytes) -> tuple[bytes, tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the head without the varying values, their names and the values."""
    names, values = [], []
    for name, line in _LINES:
        at = raw.find(line)
        if at >= 0:
            start = at + len(line)
            end = raw.find(b"\r", start)
            value = raw[start:end]
            if value and not value.translate(None, _VISIBLE):
                names.append(name)
                values.append(value)
                raw = raw[:start] + _CUT + raw[end:]
    return raw, tuple(names), tuple(values)


def _plain_number(digits: bytes) -> int | None:
    return int(digits) if digits.isdigit() and len(digits) <= 9 and digits[:1] != b"0" else None
