"""What the extension takes of the bytes that arrive: what the parser and the careful way read, and no more."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plain_heads import Beside
from plain_requests import v1_body, v2_body
from raw_http import post
from request_bodies import LIMITS, NUMBERS, v1, v2

_VALUES = st.sampled_from(
    [b"a", b"abc-1", b"", b" ", b"a b", b"\0", b"\xe4", b'"', b"x" * 130, b"{}", b"a\tb"]
)
_NAMES = st.sampled_from(
    [
        b"x-unit",
        b"X-Unit",
        b"x-request-id",
        b"X-Request-Id",
        b"traceparent",
        b"tracestate",
        b"x-forwarded-for",
        b"x-other",
        b"host",
    ]
)
_LINES = st.one_of(
    st.builds(lambda name, value: name + b": " + value, _NAMES, _VALUES),
    st.sampled_from(
        [
            b"x-request-id:a",
            b"connection: close",
            b"content-type: text/plain",
            b"content-type: application/octet-stream",
            b"inference-header-content-length: 20",
            b"expect: 100-continue",
            b"transfer-encoding: chunked",
            b"content-length: 5",
            b" folded: x",
            b"long: " + b"l" * 4100,
        ]
    ),
)
_BODIES = [
    v2_body([1, 2]),
    v2_body([1, None], [2, 3], id="a"),
    v2_body([1, 2], outputs=[{"name": "predict"}]),
    v1_body([1, 2], [3, None]),
    v1_body({"x": 1, "y": 2}),
    v1_body([1, 2], parameters={"probabilities": True}),
    v1_body([1, "a"]),
    b"",
    b"{}",
    v1_body([1, 2]) + b" " * 70_000,
]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    body = draw(st.sampled_from(_BODIES))
    first = draw(
        st.sampled_from([b"POST /v1 HTTP/1.1", b"POST /v2 HTTP/1.1", b"POST /e HTTP/1.1", b"GET /e HTTP/1.1"])
    )
    lines = [first, b"host: a", *draw(st.lists(_LINES, max_size=2))]
    length = draw(
        st.sampled_from([b"content-length: %d", b"Content-Length: %d", b"content-length: 0%d", b"x: %d"])
    )
    lines.append(length % (len(body) + draw(st.sampled_from([0, 0, 0, 0, 1, -1]))))
    lines += draw(st.lists(_LINES, max_size=1))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def beside() -> Beside:
    return Beside(v1(NUMBERS), v2(NUMBERS), LIMITS)


@settings(max_examples=400, deadline=None)
@given(st.lists(messages(), min_size=1, max_size=4), st.data())
@example([post("/v1", v1_body([1, 2]), close=False, headers="x-request-id: a\r\n")], None)
def test_what_is_taken_is_what_the_parser_and_the_careful_way_read(
    given_: list[bytes], data: st.DataObject | None
) -> None:
    both = beside()
    for message in given_:
        both.parsed(message)
    for message in given_:
        both.agree(message)
        if data is not None:
            place = data.draw(st.integers(0, len(message)))
            byte = data.draw(
                st.sampled_from([b"", b"\0", b"\t", b"\n", b"\r", b" ", b"0", b"1", b":", b"x", b"\xc8"])
            )
            both.agree(message[:place] + byte + message[place + data.draw(st.integers(0, 1)) :])
            both.agree(message[:place])
            both.agree(message + message[place:])


@pytest.mark.parametrize("name", ["content-length", "Content-Length"])
def test_heads_are_known_though_their_values_differ(name: str) -> None:
    both = beside()
    head = f"POST /v1 HTTP/1.1\r\nHost: a\r\nx-request-id: %s\r\ntraceparent: 00-%s\r\n{name}: %d\r\n\r\n"
    body = v1_body([1, 2])
    assert not both.agree((head % ("a", "b", len(body))).encode() + body), "it is not known yet"
    both.parsed((head % ("a", "b", len(body))).encode() + body)
    for number in range(20):
        body = v1_body([number, number / 7])
        assert both.agree((head % (f"id-{number}", "x" * (number + 1), len(body))).encode() + body)


def known(both: Beside, one: bytes) -> bool:
    taken = both.intake.take(one, 0.0, None)
    both.intake.finish()
    return bool(taken)


def test_too_many_heads_make_all_be_forgotten() -> None:
    both, body = beside(), v1_body([1, 2])
    posts = [post("/v1", body, close=False, headers=f"User-Agent: {number}\r\n") for number in range(300)]
    for one in posts:
        both.parsed(one)
    assert [known(both, one) for one in posts] == [False] * 256 + [True] * 44


def test_a_head_with_other_values_is_no_other_head() -> None:
    both = beside()
    posts = [post("/v1", v1_body([1, 10**number]), close=False) for number in range(15)]
    for one in [*posts * 20, post("/v2", v2_body([1, 2]), close=False)]:
        both.parsed(one)
    assert all(known(both, one) for one in posts), "300 lengths of one head are one head"


def test_limits_of_a_turn_hold() -> None:
    both = beside()
    one, three = (post("/v1", v1_body(*[[1, 2]] * rows), close=False) for rows in (1, 3))
    both.parsed(one)

    def taken(*pieces: bytes) -> list[int]:
        found = [both.intake.take(piece, 0.0, None) for piece in pieces]
        both.intake.finish()
        return found

    assert taken(one, three, one) == [2, 1, 1]
    both.intake.limit(2, 100, 100)
    assert taken(one, three, one) == [2, 0, 1], "rows of a request"
    both.intake.limit(10, 4, 100)
    assert taken(one, three, one, one) == [2, 1, 0, 0], "rows of a turn"
    both.intake.limit(10, 3, 100)
    assert taken(one, three, one, one) == [2, 0, 1, 1], "what is too large is taken out again"
    both.intake.limit(10, 100, 2)
    assert taken(one, one, one) == [2, 1, 0], "requests"
    both.intake.limit(0, 0, 0)
    assert taken(one) == [0]
    both.intake.limit(10_000, 10_000, 1000)
    large = post("/v1", v1_body([1, 2]) + b" " * 65_000, close=False)
    assert taken(*[large] * 80) == [2, *[1] * 63, *[0] * 16], "bytes of a turn"


def test_a_turn_has_requests_that_want_the_same() -> None:
    both = beside()
    labels, every = v2_body([1, 2], outputs=[{"name": "predict"}]), v2_body([1, 2], id="a")
    for path, body in (("/v1", v1_body([1, 2])), ("/v2", every)):
        both.parsed(post(path, body, close=False))
    posts = [
        post("/v2", labels, close=False),
        post("/v2", every, close=False),
        post("/v1", v1_body([1, 2]), close=False),
    ]
    for first, second, third in (posts, posts[1:] + posts[:1], posts[2:] + posts[:2]):
        assert [both.intake.take(piece, 0.0, None) for piece in (first, second, first, third)] == [2, 0, 1, 0]
        assert both.intake.finish()[10] == 2
