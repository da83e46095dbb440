"""The HTTP layer by itself: what it accepts, in which order it answers, what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re

import pytest
from echo_server import Echo, echoing
from raw_http import answers, ask, error_of, get, only, post, talk, until

from solera_server.limits import Limits
from solera_server.message import Response

# -- what is served --------------------------------------------------------------------------------


async def test_get(echo: Echo) -> None:
    answer = only(await ask(echo.port, get("/echo?a=b")))
    assert answer.status == 200
    assert json.loads(answer.body) == {"method": "GET", "path": "/echo", "body": ""}
    assert answer.headers["connection"] == "close"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"])


async def test_head_has_the_headers_of_get_and_no_body(echo: Echo) -> None:
    request = get("/echo").replace(b"GET", b"HEAD", 1)
    raw = await talk(echo.port, request)
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"content-length: 42" in head, "the length of the body that GET would get"
    assert rest == b""


async def test_body_in_pieces(echo: Echo) -> None:
    whole = post("/echo", b'{"a":1}')
    answer = only(await ask(echo.port, *[whole[i : i + 1] for i in range(len(whole))]))
    assert json.loads(answer.body)["body"] == '{"a":1}'


async def test_chunked_body(echo: Echo) -> None:
    request = (
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nConnection: close\r\n\r\n"
        b"3;x=y\r\nabc\r\n4\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n"
    )
    answer = only(await ask(echo.port, request))
    assert json.loads(answer.body)["body"] == "abcdefg"


async def test_absolute_target_and_escapes(echo: Echo) -> None:
    assert only(await ask(echo.port, get("http://proxy.example/echo?x"))).status == 200
    assert only(await ask(echo.port, get("/%65cho"))).status == 200
    assert only(await ask(echo.port, get("/echo/../../etc/passwd"))).status == 404
    assert only(await ask(echo.port, get("/%2e%2e/echo"))).status == 404


async def test_http_10_gets_one_answer(echo: Echo) -> None:
    for headers in (b"", b"Connection: keep-alive\r\n"):
        request = b"GET /echo HTTP/1.0\r\n" + headers + b"\r\n"
        answer = only(await ask(echo.port, request * 2))
        assert (answer.status, answer.headers["connection"]) == (200, "close")


async def test_keep_alive_serves_many_requests(echo: Echo) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    for number in range(50):
        body = f"[{number}]".encode()
        writer.write(post("/echo", body, close=False))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        assert json.loads(await reader.readexactly(length))["body"] == body.decode()
    writer.close()


async def test_pipelined_requests_are_answered_in_order(echo: Echo) -> None:
    requests = (
        post("/held", b"12345", close=False)
        + post("/echo", b"[1]", close=False)
        + get("/nothing", close=False)
        + post("/held", b"1", close=False)
        + get("/echo")
    )
    talking = asyncio.create_task(ask(echo.port, requests))
    await echo.holding()
    assert len(echo.held) == 1, "the next request is not handled before the first is answered"
    echo.release()
    await echo.holding()
    echo.release()
    found = await talking
    assert [answer.status for answer in found] == [200, 200, 404, 200, 200]
    assert json.loads(found[0].body) == {"held": 5}
    assert json.loads(found[1].body)["body"] == "[1]"
    assert json.loads(found[3].body) == {"held": 1}


async def test_too_many_pipelined_requests_end_the_connection_after_the_last_answer() -> None:
    async with echoing(Limits(pipelined=4)) as echo:
        talking = asyncio.create_task(
            ask(echo.port, get("/held", close=False) + get("/echo", close=False) * 50)
        )
        await echo.holding()
        echo.release()
        found = await talking
        assert 1 < len(found) <= 6
        assert found[-1].headers["connection"] == "close"
        assert {answer.status for answer in found} == {200}


async def test_request_of_a_client_that_has_gone_is_marked(echo: Echo) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(get("/held", close=False))
    await echo.holding()
    writer.close()
    await until(lambda: echo.held[0].abandoned)
    echo.release()


async def test_expect_continue(echo: Echo) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    head, body = post("/echo", b"[1]", headers="Expect: 100-continue\r\n").split(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert only(answers(await reader.read())).status == 200
    writer.close()


async def test_expect_continue_is_answered_by_the_refusal_when_there_is_one(echo: Echo) -> None:
    for path, headers, status in (
        ("/nothing", "Expect: 100-continue\r\n", 404),
        ("/echo", "Expect: 100-continue\r\nContent-Encoding: gzip\r\n", 415),
        ("/echo", "Expect: 200-maybe\r\n", 417),
    ):
        head = post(path, b"[1]", headers=headers).split(b"\r\n\r\n")[0]
        assert only(await ask(echo.port, head + b"\r\n\r\n")).status == status
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
    assert only(await ask(echo.port, head)).status == 413


async def test_request_id_is_given_back(echo: Echo) -> None:
    answer = only(await ask(echo.port, get("/echo", headers="X-Request-Id: abc-123/7\r\n")))
    assert answer.headers["x-request-id"] == "abc-123/7"
    for odd in ('a"b', "ä", "x" * 129, "a b"):
        raw = get("/echo", headers=f"X-Request-Id: {odd}\r\n")
        assert "x-request-id" not in only(await ask(echo.port, raw)).headers


async def test_upgrade_is_answered_as_http_11(echo: Echo) -> None:
    request = get("/echo", headers="Connection: Upgrade\r\nUpgrade: h2c\r\n", close=False)
    answer = only(await ask(echo.port, request + get("/echo")))
    assert answer.status == 200
    assert answer.headers["connection"] == "close"


_UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAA\r\n"


@pytest.mark.parametrize("size", [1, 7, 300, 100_000])
async def test_the_body_of_a_request_for_an_upgrade_is_read(echo: Echo, size: int) -> None:
    """As Java's client and ``curl --http2`` send it."""
    body = b"[" + b"1" * 5 + b"]"
    chunks = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in body) + b"0\r\nTrailer: x\r\n\r\n"
    chunked = f"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{_UPGRADE}\r\n".encode()
    for whole in (post("/echo", body, close=False, headers=_UPGRADE), chunked + chunks):
        request = whole + get("/echo")
        pieces = [request[start : start + size] for start in range(0, len(request), size)]
        answer = only(await ask(echo.port, *pieces, seconds=20))
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert json.loads(answer.body)["body"] == body.decode()


async def test_expect_continue_beside_an_upgrade(echo: Echo) -> None:
    request = post("/echo", b"[1]", close=False, headers=_UPGRADE + "Expect: 100-continue\r\n")
    head, body = request.split(b"\r\n\r\n")
    found = await ask(echo.port, head + b"\r\n\r\n", body)
    assert [answer.status for answer in found] == [100, 200]
    assert json.loads(found[1].body)["body"] == "[1]"


# -- what is refused -------------------------------------------------------------------------------

_POST = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
SMUGGLING = {
    "both lengths": _POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "both lengths, other order": _POST + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
    "two lengths": _POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "equal lengths": _POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "list of lengths": _POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "signed length": _POST + b"Content-Length: +3\r\n\r\nabc",
    "negative length": _POST + b"Content-Length: -3\r\n\r\nabc",
    "hexadecimal length": _POST + b"Content-Length: 0x3\r\n\r\nabc",
    "endless length": _POST + b"Content-Length: 99999999999999999999999\r\n\r\nabc",
    "empty length": _POST + b"Content-Length: \r\n\r\nabc",
    "coding after chunked": _POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "two codings": _POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding with a tab": _POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "coding in HTTP/1.0": b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before the colon": _POST + b"Content-Length : 3\r\n\r\nabc",
    "folded header": _POST + b"X: a\r\n Content-Length: 3\r\n\r\nabc",
    "bare LF": b"POST /echo HTTP/1.1\nHost: a\n\n",
    "bare LF in headers": _POST + b"X: a\nContent-Length: 3\r\n\r\nabc",
    "bare CR": _POST + b"X: a\rContent-Length: 3\r\n\r\nabc",
    "NUL in a header": _POST + b"X: a\0b\r\n\r\n",
    "chunk size with prefix": _POST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "chunk size negative": _POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n",
    "chunk size endless": _POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n",
    "chunk with bare LF": _POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
    "chunk longer than said": _POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
    "two hosts": b"GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET /echo HTTP/1.1\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "unknown method": b"FROB /echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.7": b"GET /echo HTTP/1.7\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("case", SMUGGLING)
async def test_ambiguous_requests_are_refused_and_the_connection_ends(echo: Echo, case: str) -> None:
    """Behind each stands a request that a mistaken server would answer."""
    found = await ask(echo.port, SMUGGLING[case] + get("/echo"))
    answer = only(found)
    assert answer.status == 400, answer
    assert answer.headers["connection"] == "close"
    assert error_of(answer)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (_POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (_POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (_POST + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", 501),
        (b"GET /echo HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /echo\r\n\r\n", 505),
        (b"CONNECT /echo:80 HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    ],
)
async def test_what_is_understood_and_not_offered(echo: Echo, request_: bytes, status: int) -> None:
    answer = only(await ask(echo.port, request_ + get("/echo")))
    assert (answer.status, answer.headers["connection"]) == (status, "close")


@pytest.mark.parametrize("case", [case for case in SMUGGLING if SMUGGLING[case].startswith(_POST)])
async def test_an_upgrade_makes_no_ambiguous_request_acceptable(echo: Echo, case: str) -> None:
    request = SMUGGLING[case].replace(_POST, _POST + _UPGRADE.encode())
    answer = only(await ask(echo.port, request + get("/echo")))
    assert (answer.status, answer.headers["connection"]) == (400, "close"), answer


async def test_limits_hold_for_the_body_behind_an_upgrade() -> None:
    async with echoing(Limits(body_bytes=100, receive_seconds=0.3)) as echo:
        head = _POST + _UPGRADE.encode()
        chunks = [b"a\r\n" + b"x" * 10 + b"\r\n"] * 11
        answer = only(await ask(echo.port, head + b"Transfer-Encoding: chunked\r\n\r\n", *chunks))
        assert answer.status == 413
        assert only(await ask(echo.port, head + b"Content-Length: 101\r\n\r\n")).status == 413
        assert only(await ask(echo.port, head + b"Content-Length: 50\r\n\r\nx")).status == 408


async def test_a_refusal_waits_for_the_answers_before_it(echo: Echo) -> None:
    requests = post("/held", b"1", close=False) + SMUGGLING["two lengths"]
    talking = asyncio.create_task(ask(echo.port, requests))
    await echo.holding()
    echo.release()
    assert [answer.status for answer in await talking] == [200, 400]


async def test_not_found_and_method_keep_the_connection(echo: Echo) -> None:
    requests = (
        post("/nothing", b"[1]", close=False)
        + b"DELETE /echo HTTP/1.1\r\nHost: a\r\n\r\n"
        + post("/echo", b"[1]", close=False, headers="Content-Encoding: gzip\r\n")
        + get("/echo")
    )
    found = await ask(echo.port, requests)
    assert [answer.status for answer in found] == [404, 405, 415, 200]
    assert error_of(found[0]) == "nothing at /nothing"
    assert found[1].headers["allow"] == "GET, HEAD, POST"
    assert "DELETE" in error_of(found[1])


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=UTF-8", 200),
        ('application/json;charset="utf-8"', 200),
        (None, 200),
        ("application/json; charset=latin-1", 415),
        ("application/x-www-form-urlencoded", 200),
        ("application/octet-stream", 415),
        ("text/json", 415),
    ],
)
async def test_content_type(echo: Echo, content_type: str | None, status: int) -> None:
    line = f"Content-Type: {content_type}\r\n" if content_type else ""
    request = f"POST /echo HTTP/1.1\r\nHost: a\r\n{line}Connection: close\r\nContent-Length: 2\r\n\r\n[]"
    answer = only(await ask(echo.port, request.encode()))
    assert answer.status == status
    if status == 415:
        assert "Content-Type: application/json" in error_of(answer)


async def test_a_body_with_binary_tensors_is_told_from_bad_json(echo: Echo) -> None:
    request = post("/echo", b"{}\x00\x01", headers="Inference-Header-Content-Length: 2\r\n")
    for sent in (request, request.replace(b"application/json", b"application/octet-stream")):
        answer = only(await ask(echo.port, sent))
        assert answer.status == 415
        assert "binary tensor" in error_of(answer)


async def test_exception_in_a_handler_tells_nothing(echo: Echo, caplog: pytest.LogCaptureFixture) -> None:
    found = await ask(echo.port, get("/broken", close=False) + get("/echo"))
    assert [answer.status for answer in found] == [500, 200]
    assert error_of(found[0]) == "internal error; the server's log says more"
    assert "secret detail" in caplog.text


# -- what fails while an answer is on its way ------------------------------------------------------


class _Broken:
    """An access log, and what counts, with a defect."""

    on = True

    def note(self, *_: object) -> Response:
        raise RuntimeError("a defect of the log")

    def close(self) -> None: ...


@pytest.mark.parametrize("part", ["an answer was not counted", "an answer was not logged"])
async def test_an_answer_does_not_depend_on_its_counts_and_its_line(
    echo: Echo, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if "counted" in part:
        monkeypatch.setattr(echo, "answered", lambda *_: 1 / 0)
    else:
        echo.server.access = _Broken()
    talking = asyncio.create_task(
        ask(echo.port, get("/held", close=False), get("/echo", close=False), SMUGGLING["two lengths"])
    )
    await echo.holding()
    echo.release()
    assert [answer.status for answer in await talking] == [200, 200, 400]
    assert caplog.text.count(part) == 3


async def test_an_answer_that_cannot_be_written_ends_its_connection(
    echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    """The client would wait for it, or take the answer to its next request for it."""
    requests = post("/held", b"x" * 2000, close=False) + post("/echo", b"y" * 2000, close=False)
    talking = asyncio.create_task(talk(echo.port, requests))
    await echo.holding()
    request = echo.held.pop()
    request.respond(request, Response(299))
    with contextlib.suppress(ConnectionResetError):
        assert await talking == b""
    await until(lambda: echo.server.connections == 0)
    assert echo.server.shared.bodies.used == 0
    assert "an answer was not delivered" in caplog.text
    assert only(await ask(echo.port, get("/echo"))).status == 200


async def test_a_refusal_that_cannot_be_written_ends_its_connection(echo: Echo) -> None:
    """Who answered the request before it hears nothing of that."""
    talking = asyncio.create_task(talk(echo.port, get("/held", close=False) + SMUGGLING["two lengths"]))
    await echo.holding()
    echo.server.date = None  # type: ignore[assignment] # of which the head of a refusal is made
    echo.release()
    with contextlib.suppress(ConnectionResetError):
        await talking
    await until(lambda: echo.server.connections == 0)
