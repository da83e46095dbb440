"""
The body of a request that asks to change the protocol.

RFC 9110 lets a server pass over ``Upgrade``, and Java's client and ``curl --http2`` send it with requests
that have bodies. The parser ends such a message at its head. The rest of it goes to a second parser, which
has been given a head with the same framing and without the wish; it takes lengths and chunks as strictly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import httptools

if TYPE_CHECKING:
    from collections.abc import Mapping


class Receiver(Protocol):
    """What a connection does with the parts of a message; the same as httptools calls."""

    def on_message_begin(self) -> None: ...

    def on_header(self, name: bytes, value: bytes) -> None: ...

    def on_body(self, chunk: bytes) -> None: ...

    def on_message_complete(self) -> None: ...


def framing(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Return the header that says how long the body is, or None where there is no body."""
    if b"transfer-encoding" in headers:
        return b"Transfer-Encoding: chunked"
    length = int(headers.get(b"content-length", b"0"))
    return b"Content-Length: %d" % length if length else None


def body_parser(receiver: Receiver, framing_header: bytes) -> httptools.HttpRequestParser:
    """Return a parser that stands behind the head of a message, which ``receiver`` knows already."""
    parser = httptools.HttpRequestParser(_AfterHead(receiver))
    parser.feed_data(b"POST / HTTP/1.1\r\n" + framing_header + b"\r\n\r\n")
    return parser


class _AfterHead:
    """Keeps the head that was made up from the receiver; trailers and the next message it gets."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._in_head = True
        self.on_body = receiver.on_body
        self.on_message_complete = receiver.on_message_complete

    def on_message_begin(self) -> None:
        if not self._in_head:
            self._receiver.on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            self._receiver.on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
