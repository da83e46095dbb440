"""The HTTP layer by itself: what it accepts, in which order it answers, what it refuses, when it gives up."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from raw_http import Answer, answers, ask, get, post, talk, until

from solera_server.http_server import HttpServer
from solera_server.limits import Limits
from solera_server.message import Request, Response, json_response
from solera_server.router import Route, Router

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Echo:
    """Three paths: /echo tells what arrived, /held answers when released, /broken raises."""

    def __init__(self, limits: Limits) -> None:
        self.held: list[Request] = []
        self.seen: list[tuple[str, int, float | None]] = []
        echo = Route(self._echo, "test", reads_json=True)
        routes = {
            b"/echo": {b"GET": Route(self._echo, "test"), b"POST": echo},
            b"/held": {b"GET": Route(self._hold, "test"), b"POST": Route(self._hold, "test")},
            b"/broken": {b"GET": Route(self._break, "test")},
        }
        self.server = HttpServer(Router(routes, lambda path: f"nothing at {path}"), limits, self)
        self.port = 0

    def answered(self, protocol: str, status: int, seconds: float | None) -> None:
        self.seen.append((protocol, status, seconds))

    def release(self) -> None:
        request = self.held.pop(0)
        request.respond(request, json_response({"held": len(request.body)}))

    async def holding(self, count: int = 1) -> None:
        await until(lambda: len(self.held) >= count)

    def _echo(self, request: Request) -> Response:
        return json_response(
            {
                "method": request.method.decode(),
                "path": request.path.decode(),
                "body": request.body.decode("latin-1") if len(request.body) < 100 else len(request.body),
            }
        )

    def _hold(self, request: Request) -> None:
        self.held.append(request)

    def _break(self, _request: Request) -> Response:
        raise RuntimeError("secret detail at /etc/inside")


@asynccontextmanager
async def echoing(limits: Limits | None = None) -> AsyncIterator[Echo]:
    echo = Echo(limits or Limits())
    echo.port = await echo.server.listen("127.0.0.1", 0)
    try:
        yield echo
    finally:
        echo.server.stop_listening()
        await echo.server.finish(asyncio.get_running_loop().time() + 0.2)


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echoing() as echo:
        yield echo


def only(found: list[Answer]) -> Answer:
    assert len(found) == 1, found
    return found[0]


def error_of(answer: Answer) -> str:
    assert answer.headers["content-type"] == "application/json"
    message = json.loads(answer.body)["error"]
    assert isinstance(message, str)
    return message


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
        length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
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


async def test_exception_in_a_handler_tells_nothing(echo: Echo, caplog: pytest.LogCaptureFixture) -> None:
    found = await ask(echo.port, get("/broken", close=False) + get("/echo"))
    assert [answer.status for answer in found] == [500, 200]
    assert error_of(found[0]) == "internal error; the server's log says more"
    assert "secret detail" in caplog.text


# -- limits ----------------------------------------------------------------------------------------


async def test_body_limit_by_length_arrives_although_the_body_is_sent() -> None:
    async with echoing(Limits(body_bytes=1000)) as echo:
        assert only(await ask(echo.port, post("/echo", b"x" * 1000))).status == 200
        answer = only(await ask(echo.port, post("/echo", b"x" * 500_000)))
        assert answer.status == 413
        assert "1000 bytes" in error_of(answer)


async def test_body_limit_of_chunks() -> None:
    async with echoing(Limits(body_bytes=1000)) as echo:
        head = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
        answer = only(await ask(echo.port, head, *[b"64\r\n" + b"x" * 100 + b"\r\n"] * 11))
        assert answer.status == 413


async def test_header_limits() -> None:
    async with echoing(Limits(header_bytes=2000, header_count=20)) as echo:
        assert only(await ask(echo.port, get("/echo", headers="X: " + "y" * 1500 + "\r\n"))).status == 200
        for headers in ("X: " + "y" * 3000 + "\r\n", "".join(f"X{i}: 1\r\n" for i in range(30))):
            answer = only(await ask(echo.port, get("/echo", headers=headers)))
            assert answer.status == 431
            assert "2000 bytes" in error_of(answer)
        pieces = [b"GET /echo HTTP/1.1\r\nHost: a\r\nX: "] + [b"y" * 500] * 8
        assert only(await ask(echo.port, *pieces)).status == 431, "a header that never ends"
        answer = only(await ask(echo.port, get("/" + "a" * 9000)))
        assert answer.status == 414


@pytest.mark.parametrize(
    "parts",
    [
        (b"GET /ec",),
        (b"GET /echo HTTP/1.1\r\nHost: a\r\n", b"X: 1\r\n", b"Y: 2\r\n"),
        (_POST + b"Content-Length: 100\r\n\r\n", b"a", b"b"),
        (_POST + b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nab"),
    ],
)
async def test_a_request_that_does_not_arrive_is_ended(parts: tuple[bytes, ...]) -> None:
    async with echoing(Limits(receive_seconds=0.3)) as echo:
        answer = only(await ask(echo.port, *parts, seconds=3))
        assert answer.status == 408
        assert "0.3 s" in error_of(answer)


async def test_trickled_headers_do_not_extend_the_deadline() -> None:
    async with echoing(Limits(receive_seconds=0.4)) as echo:
        reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
        writer.write(b"GET /echo HTTP/1.1\r\nHost: a\r\n")
        reading = asyncio.create_task(reader.read())
        started = asyncio.get_running_loop().time()
        while not reading.done() and asyncio.get_running_loop().time() - started < 4:
            writer.write(b"X: 1\r\n")
            await asyncio.sleep(0.05)
        assert only(answers(await reading)).status == 408
        assert asyncio.get_running_loop().time() - started < 2
        writer.close()


async def test_idle_connections_are_closed_without_a_word() -> None:
    async with echoing(Limits(idle_seconds=0.3)) as echo:
        assert await talk(echo.port, seconds=3) == b""
        found = await ask(echo.port, get("/echo", close=False), seconds=3)
        assert only(found).status == 200


async def test_a_slow_answer_is_not_an_idle_connection() -> None:
    async with echoing(Limits(idle_seconds=0.2, receive_seconds=0.2)) as echo:
        talking = asyncio.create_task(ask(echo.port, get("/held")))
        await echo.holding()
        await asyncio.sleep(0.6)
        echo.release()
        assert only(await talking).status == 200


async def test_connections_over_the_limit_are_told_and_closed() -> None:
    async with echoing(Limits(connections=3)) as echo:
        open_ones = [await asyncio.open_connection("127.0.0.1", echo.port) for _ in range(3)]
        await until(lambda: echo.server.connections == 3)
        answer = only(await ask(echo.port, get("/echo")))
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        open_ones[0][1].close()
        await until(lambda: echo.server.connections == 2)
        assert only(await ask(echo.port, get("/echo"))).status == 200
        for _, writer in open_ones:
            writer.close()


async def test_an_idle_connection_makes_room() -> None:
    async with echoing(Limits(connections=2, spare_idle_seconds=0.2)) as echo:
        held = asyncio.create_task(ask(echo.port, get("/held")))
        await echo.holding()
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", echo.port)
        await until(lambda: echo.server.connections == 2)
        await asyncio.sleep(0.3)
        assert only(await ask(echo.port, get("/echo"))).status == 200
        assert await idle_reader.read() == b""
        echo.release()
        assert only(await held).status == 200, "a connection with a request is never spared"
        idle_writer.close()


async def test_old_connections_are_ended_with_an_answer() -> None:
    async with echoing(Limits(connection_age_seconds=0.2)) as echo:
        reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
        writer.write(get("/echo", close=False))
        assert b"connection: close" not in await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(41)
        await asyncio.sleep(0.3)
        writer.write(get("/echo", close=False))
        assert only(answers(await reader.read())).headers["connection"] == "close"
        writer.close()


async def test_draining_ends_connections_after_their_answer(echo: Echo) -> None:
    idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", echo.port)
    held = asyncio.create_task(ask(echo.port, get("/held", close=False)))
    await echo.holding()
    echo.server.draining = True
    assert only(await ask(echo.port, get("/echo", close=False))).headers["connection"] == "close"
    echo.server.stop_listening()
    finishing = asyncio.create_task(echo.server.finish(asyncio.get_running_loop().time() + 5))
    assert await idle_reader.read() == b"", "the idle connection is closed"
    assert not finishing.done(), "the one in flight is waited for"
    echo.release()
    answer = only(await held)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await finishing == 0
    idle_writer.close()


async def test_a_client_that_does_not_read_is_cut() -> None:
    async with echoing(Limits(write_seconds=0.3, idle_seconds=1.0)) as echo:
        reader, writer = await asyncio.open_connection("127.0.0.1", echo.port, limit=1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(200):
            writer.write(get("/echo", headers=f"X-Request-Id: {'x' * 128}\r\n", close=False) * 200)
        await until(lambda: not echo.server.connections)
        writer.transport.abort()
        del reader


async def test_everything_answered_is_counted(echo: Echo) -> None:
    await ask(echo.port, get("/echo"))
    await ask(echo.port, get("/nothing"))
    await ask(echo.port, b"\x00\x01\r\n\r\n")
    assert [(protocol, status) for protocol, status, _ in echo.seen] == [
        ("test", 200),
        ("other", 404),
        ("other", 400),
    ]
    assert echo.seen[0][2] is not None
    assert 0 <= echo.seen[0][2] < 5
