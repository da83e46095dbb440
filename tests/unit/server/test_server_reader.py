"""Bytes made into requests: heads that are known mean what the parser says they mean, however they are cut."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_server_http import SMUGGLING

from solera_server.known_heads import KnownHeads
from solera_server.limits import Limits
from solera_server.message import Head, Request, Response, error_response
from solera_server.reader import Refusal, RequestReader, Shared
from solera_server.router import Route, Router

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMITS = Limits(body_bytes=2000, header_bytes=800, header_count=20, pipelined=6)


def _no_answer(_request: Request, _response: Response | None = None) -> None:
    raise AssertionError("requests are only read here")


ECHO = Route(_no_answer, "test", reads_json=True)
ROUTER = Router({b"/echo": {b"POST": ECHO, b"GET": ECHO}}, lambda path: f"nothing at {path}")


class _Forgetful(KnownHeads):
    """Knows nothing, so that everything goes to the parser."""

    def match(self, _raw: bytes) -> Head | None:
        return None

    def learn(self, _raw: bytes, _head: Head) -> None:
        pass


def shared(known: type[KnownHeads], limits: Limits = LIMITS) -> Shared:
    result = Shared(ROUTER, limits)
    result.known = known(LIMITS.body_bytes, LIMITS.header_bytes)
    return result


def read(common: Shared, pieces: Iterable[bytes]) -> list[Any]:
    """Feed the pieces to a new connection's reader and return all that can be seen of it."""
    seen: list[Any] = []
    reader = RequestReader(common, _no_answer, lambda: seen.append("continue"))
    for piece in pieces:
        reader.feed(piece)
        while reader.pending:
            item = reader.pending.popleft()
            if isinstance(item, Refusal):
                response, request = item
                seen.append((response.status, response.body, response.headers))
                if request is not None:
                    seen.append(head_of(request))
            else:
                seen.append((head_of(item), item.body, item.last, item.head.keep_alive))
                common.bodies.give(item.held)
        seen.append((reader.last, reader.receiving))
    reader.abandon()
    assert common.bodies.used == 0, "what is counted in is counted out"
    return seen


def head_of(request: Request) -> tuple[Any, ...]:
    route = request.route.status if isinstance(request.route, Response) else request.route
    return request.method, request.head.target, request.headers, request.head.request_id, route


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(stream) + 1) for place in places}), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges) if start < end]


_VALUES = st.sampled_from([b"a", b"b", b"abc-1", b"", b" ", b"a b", b"\0", b"\xe4", b'"', b"x" * 130, b"\0a"])
_LINES = st.one_of(
    st.builds(
        lambda name, value: name + b": " + value,
        st.sampled_from(
            [b"x-request-id", b"X-Request-Id", b"traceparent", b"tracestate", b"x-forwarded-for", b"x-other"]
        ),
        _VALUES,
    ),
    st.sampled_from(
        [
            b"x-request-id:a",
            b"x-request-id:  a",
            b"x-request-id: a ",
            b"connection: close",
            b"connection: keep-alive",
            b"connection: upgrade",
            b"upgrade: h2c",
            b"content-type: application/json",
            b"content-type: text/plain",
            b"content-encoding: gzip",
            b"expect: 100-continue",
            b"transfer-encoding: chunked",
            b"content-length: 3",
            b"content-length: 03",
            b"content-length: 0",
            b"Content-Length: 5",
            b"content-length: 2001",
            b" folded: x",
            b"x: \ny",
            b"long: " + b"l" * 700,
        ]
    ),
)
_BODIES = st.sampled_from([b"", b"abc", b"[1]", b"x" * 40, b"\r\n\r\n", b"y" * 1500, b"z" * 2001])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Requests, most of them good, of few kinds, so that heads come again."""
    body = draw(_BODIES)
    first = draw(
        st.sampled_from(
            [b"POST /echo HTTP/1.1", b"GET /echo HTTP/1.1", b"POST /no HTTP/1.1", b"POST /echo HTTP/1.0"]
        )
    )
    lines = [first, b"host: a"]
    lines += draw(st.lists(_LINES, max_size=3))
    if draw(st.integers(0, 9)):
        lines.append(b"content-length: %d" % len(body))
    lines += draw(st.lists(_LINES, max_size=1))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


_PLAIN = b"POST /echo HTTP/1.1\r\nhost: a\r\nx-request-id: %b\r\ncontent-length: 3\r\n\r\nabc"
streams = st.lists(
    messages() | st.sampled_from([*SMUGGLING.values(), b"\r\n", b"\r\n\r\n", _PLAIN % b"1", _PLAIN % b"2"]),
    max_size=8,
).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(streams, st.lists(st.integers(0, 5000), max_size=6), st.lists(streams, max_size=2))
@example(_PLAIN % b"1" + b"\r\n\r\n" + _PLAIN % b"2", [], [b"\r\n\r\n"])
@example((_PLAIN % b"1") * 8, [], [])
@example(_PLAIN % b"\0", [], [_PLAIN % b"1"])
@example((_PLAIN % b"1").replace(b"host: a", b"x-request-id: \0"), [], [_PLAIN % b"1"])
@example((_PLAIN % b"1").replace(b"host: a", b"host: a\r\nx-request-id: 2") * 2, [], [])
@example((_PLAIN % b"1").replace(b"host: a", b"host: a\r\nX-Request-Id: 2") * 2, [], [])
@example((_PLAIN % b"1").replace(b"host: a", b"host: a\r\nconnection: close") * 2, [], [])
@example((_PLAIN % b"1").replace(b": 3", b": 2001") + b"x" * 2001, [], [_PLAIN % b"1"])
@example((_PLAIN % b"1").replace(b": 3", b": 03"), [], [_PLAIN % b"1"])
@example((_PLAIN % b"1").replace(b": 3", b": 3, 3"), [], [_PLAIN % b"1"])
@example((_PLAIN % b"1").replace(b": 3", b": +3"), [], [_PLAIN % b"1"])
@example(_PLAIN % (b"1" * 900), [], [_PLAIN % b"1"])
@example(_PLAIN % b'"', [], [_PLAIN % b"1"])
def test_known_heads_change_nothing(stream: bytes, places: list[int], before: list[bytes]) -> None:
    knowing, forgetful = shared(KnownHeads), shared(_Forgetful)
    for earlier in before:
        read(knowing, [earlier])
    pieces = cut(stream, places)
    expected = read(forgetful, pieces)
    for _ in range(3):
        assert read(knowing, pieces) == expected


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_known_heads_change_nothing_where_a_byte_differs(data: st.DataObject) -> None:
    """A stream is learnt, then one like it comes."""
    stream = data.draw(streams.filter(bool))
    place = data.draw(st.integers(0, len(stream) - 1))
    byte = data.draw(st.sampled_from([0, 9, 10, 13, 32, 44, 48, 49, 58, 120, 200]))
    other = stream[:place] + bytes([byte]) + stream[place + 1 :]
    knowing, forgetful = shared(KnownHeads), shared(_Forgetful)
    read(knowing, [stream])
    read(knowing, [stream])
    assert read(knowing, [other]) == read(forgetful, [other])


def heads_of(common: Shared) -> int:
    return len(common.known.whole) + len(common.known._patterns)


def test_heads_that_differ_in_identifiers_are_known_as_one() -> None:
    common = shared(KnownHeads)
    for number in range(1000):
        message = _PLAIN % b"%d" % number
        found = read(common, [message.replace(b"host: a", b"host: a\r\ntraceparent: 00-%d" % number)])
        headers = found[0][0][2]
        assert headers[b"x-request-id"] == found[0][0][3] == b"%d" % number
        assert headers[b"traceparent"] == b"00-%d" % number
    assert heads_of(common) == 1


def test_known_heads_are_bounded() -> None:
    common = shared(KnownHeads)
    for number in range(2000):
        read(common, [b"POST /echo HTTP/1.1\r\nhost: %d\r\ncontent-length: 3\r\n\r\nabc" % number])
        read(common, [(_PLAIN % b"1").replace(b"host: a", b"host: %d" % number)])
        assert heads_of(common) <= 512


@pytest.mark.parametrize(
    "line",
    [
        b"transfer-encoding: chunked",
        b"expect: 100-continue",
        b"upgrade: h2c",
        b"connection: close",
        b"x: \xe4",
    ],
)
def test_only_plain_heads_are_kept(line: bytes) -> None:
    common = shared(KnownHeads)
    read(common, [b"POST /echo HTTP/1.1\r\nhost: a\r\n" + line + b"\r\n\r\n0\r\n\r\n"])
    assert heads_of(common) == (line == b"x: \xe4")


def test_a_known_head_waits_for_its_body_without_the_parser() -> None:
    common = shared(KnownHeads)
    head = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n"
    read(common, [head + b"abc"])
    reader = RequestReader(common, _no_answer, lambda: None)
    reader.feed(head)
    begun = reader.begun
    for piece in (b"a", b"b"):
        common.known.whole.clear()  # as others' heads may have it
        reader.feed(piece)
        assert (reader.receiving, reader.begun, len(reader.pending)) == (True, begun, 0)
    assert reader.kept == head + b"ab"
    read(common, [head + b"abc"])
    reader.feed(b"c" + head)
    [request] = reader.pending
    assert isinstance(request, Request)
    assert (request.body, reader.kept, reader.receiving) == (b"abc", head, True)
    assert reader.begun > begun, "another request began"
    reader.refuse(error_response(408, "too slow"))
    [_, refusal] = reader.pending
    assert isinstance(refusal, Refusal)
    assert refusal.request is not None
    assert (refusal.request.method, refusal.request.path) == (b"POST", b"/echo")
    assert (reader.kept, reader.receiving, reader.last) == (b"", False, True)


def test_a_large_body_counts_while_it_comes() -> None:
    common = shared(KnownHeads)
    head = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1500\r\n\r\n"
    read(common, [head + b"x" * 1500])
    reader = RequestReader(common, _no_answer, lambda: None)
    reader.feed(head + b"x" * 1100)
    assert (reader.kept, common.bodies.used) == (b"", 1100)


def test_bodies_in_all_are_bounded() -> None:
    common = shared(KnownHeads, replace(LIMITS, bodies_bytes=6000))
    head = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n"
    readers = [RequestReader(common, _no_answer, lambda: None) for _ in range(4)]
    for reader in readers:
        reader.feed(head)
        reader.feed(b"x" * 1900)
    assert common.bodies.used == 5700
    refusal = readers[3].pending[0]
    assert isinstance(refusal, Refusal)
    assert refusal.response.status == 503
    assert b"bodies of all requests together are larger than 6000 bytes" in refusal.response.body
    assert (b"retry-after", b"1") in refusal.response.headers
    assert readers[3].last
    readers[0].abandon()
    readers[1].feed(b"x" * 100)
    assert isinstance(readers[1].pending[0], Request)
    whole = RequestReader(common, _no_answer, lambda: None)
    whole.feed(head + b"x" * 2000)
    assert isinstance(whole.pending[0], Request)
    assert common.bodies.used == 5900
    known = RequestReader(common, _no_answer, lambda: None)
    known.feed(head + b"x" * 2000)
    for reader in (readers[3], known):
        [(_, request)] = reader.pending
        assert request is not None
        assert (request.method, request.path, request.route) == (b"POST", b"/echo", ECHO)


def test_a_body_of_tiny_chunks_takes_the_memory_that_is_counted() -> None:
    size = 500_000
    reader = RequestReader(shared(_Forgetful, Limits()), _no_answer, lambda: None)
    reader.feed(b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    piece = b"2\r\nab\r\n" * 1000
    tracemalloc.start()
    try:
        for _ in range(size // 2000):
            reader.feed(piece)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * size, f"{held} bytes are held for a body of {size}"
    reader.feed(b"0\r\n\r\n")
    request = reader.pending[0]
    assert isinstance(request, Request)
    assert (request.body, request.held) == (b"ab" * (size // 2), size)
