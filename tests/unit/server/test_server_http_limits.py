"""The HTTP layer's limits: sizes, times, connections, and how a connection ends."""

from __future__ import annotations

import asyncio
import socket
from time import perf_counter

import pytest
from echo_server import LARGE, Echo, echoing
from raw_http import answers, ask, error_of, get, only, post, talk, until

from solera_server.limits import Limits

POST_HEAD = b"POST /echo HTTP/1.1\r\nHost: a\r\n"


async def test_body_limit_by_length_arrives_although_the_body_is_sent() -> None:
    async with echoing(Limits(body_bytes=1000)) as echo:
        assert only(await ask(echo.port, post("/echo", b"x" * 1000))).status == 200
        answer = only(await ask(echo.port, post("/echo", b"x" * 500_000)))
        assert answer.status == 413
        assert "1000 bytes" in error_of(answer)


async def test_body_limit_of_chunks() -> None:
    async with echoing(Limits(body_bytes=1000)) as echo:
        head = POST_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
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


async def test_a_head_costs_the_same_however_it_is_cut() -> None:
    async with echoing(Limits(header_bytes=2000)) as echo:
        request = get("/echo", headers="".join(f"X-{i}: {'y' * 90}\r\n" for i in range(15)))
        pieces = [request[start : start + 100] for start in range(0, len(request), 100)]
        assert only(await ask(echo.port, *pieces)).status == 200


@pytest.mark.parametrize("begun", [b"0\r\nX: ", b"0\r\nX", b"3;extension=", b'3;extension="'])
async def test_what_follows_the_head_without_an_end_is_not_kept(begun: bytes) -> None:
    async with echoing(Limits(header_bytes=2000, receive_seconds=20)) as echo:
        head = POST_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        answer = only(await ask(echo.port, head, begun, *[b"y" * 500] * 8))
        assert answer.status == 431


@pytest.mark.parametrize(
    "parts",
    [
        (b"GET /ec",),
        (b"GET /echo HTTP/1.1\r\nHost: a\r\n", b"X: 1\r\n", b"Y: 2\r\n"),
        (POST_HEAD + b"Content-Length: 100\r\n\r\n", b"a", b"b"),
        (POST_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nab"),
    ],
)
async def test_a_request_that_does_not_arrive_is_ended(parts: tuple[bytes, ...]) -> None:
    async with echoing(Limits(receive_seconds=0.3)) as echo:
        answer = only(await ask(echo.port, *parts, seconds=3))
        assert answer.status == 408
        assert "0.3 s" in error_of(answer)


async def test_a_body_that_is_missing_behind_a_known_head_is_ended_too() -> None:
    head = POST_HEAD + b"Content-Length: 3\r\n\r\n"
    async with echoing(Limits(receive_seconds=0.4)) as echo:
        reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
        writer.write(head + b"abc" + head + b"d")
        reading = asyncio.create_task(reader.read())
        await asyncio.sleep(0.2)
        writer.write(b"e")
        async with asyncio.timeout(5):
            whole, ended = answers(await reading)
        assert (whole.status, ended.status, ended.headers["connection"]) == (200, 408, "close")
        writer.close()


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


async def test_connections_that_began_together_do_not_end_together() -> None:
    """Otherwise the clients of a server that starts would all come back at once, each time."""
    async with echoing(Limits(connection_age_seconds=1000.0)) as echo:
        began = perf_counter()
        ends = [echo.server.connection_deadline() - began for _ in range(200)]
    assert min(ends) >= 900
    assert max(ends) <= 1100 + perf_counter() - began
    assert max(ends) - min(ends) > 100, "of a range of 200: by chance fewer once in 10^50"


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
        writer.transport.pause_reading()
        for _ in range(200):
            writer.write(get("/echo", headers=f"X-Request-Id: {'x' * 128}\r\n", close=False) * 200)
        await until(lambda: not echo.server.connections)
        writer.transport.abort()
        del reader


async def connect_to_read_slowly(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect with a small receive buffer, so that what is not read stays with the server."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=client, limit=16 * 1024)


async def test_a_slow_reader_gets_the_whole_of_a_last_answer(echo: Echo) -> None:
    """The two seconds in which a client may end its side begin when it has taken the answer."""
    reader, writer = await connect_to_read_slowly(echo.port)
    writer.write(get("/large"))
    await reader.readuntil(b"\r\n\r\n")
    received = 0
    for _ in range(16):
        await asyncio.sleep(0.3)
        received += len(await reader.readexactly(len(LARGE) // 16))
    assert received == len(LARGE)
    assert await reader.read() == b""
    writer.close()


async def test_a_client_that_does_not_take_a_last_answer_is_cut() -> None:
    async with echoing(Limits(write_seconds=0.3, idle_seconds=1.0)) as echo:
        _, writer = await connect_to_read_slowly(echo.port)
        writer.transport.pause_reading()
        writer.write(get("/large"))
        await until(lambda: echo.server.connections == 1)
        await until(lambda: echo.server.connections == 0, seconds=1.8)
        writer.transport.abort()


async def test_answers_that_are_not_taken_are_bounded_in_all(caplog: pytest.LogCaptureFixture) -> None:
    """The connection that holds the most is cut; the others go on."""
    async with echoing(Limits(unread_bytes=20 * 1024 * 1024)) as echo:
        slow = [await connect_to_read_slowly(echo.port) for _ in range(2)]
        for _, writer in slow:
            writer.write(get("/large", close=False))
        await until(lambda: echo.server.connections == 1)
        assert "cut a connection" in caplog.text
        received = 0
        for reader, writer in slow:
            try:
                await reader.readuntil(b"\r\n\r\n")
                received += len(await reader.readexactly(len(LARGE)))
            except (ConnectionResetError, asyncio.IncompleteReadError):
                writer.transport.abort()
        assert received == len(LARGE)
        assert only(await ask(echo.port, get("/echo"))).status == 200
        for _, writer in slow:
            writer.close()


async def test_bodies_in_all_are_bounded() -> None:
    async with echoing(Limits(body_bytes=1000, bodies_bytes=1500)) as echo:
        slow_reader, slow = await asyncio.open_connection("127.0.0.1", echo.port)
        slow.write(post("/echo", b"x" * 1000, close=False)[:-100])
        await until(lambda: echo.server.shared.bodies.used > 0)
        answer = only(await ask(echo.port, POST_HEAD + b"Content-Length: 1000\r\n\r\n", b"y" * 900))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "bodies of all requests together" in error_of(answer)
        assert only(await ask(echo.port, post("/echo", b"small"))).status == 200
        slow.write(b"x" * 100)
        assert b"200 OK" in await slow_reader.readuntil(b"\r\n\r\n")
        slow.close()
        await until(lambda: echo.server.shared.bodies.used == 0)


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
