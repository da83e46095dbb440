"""Streams that no client library sends, to a model's port: cuts, resets, other protocols, names of no model."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from raw_http import Answer, ask, error_of, get, only, post, talk, until

if TYPE_CHECKING:
    from loopback import Served

PATH = "/v1/models/iris:predict"
BODY = b'{"instances":[[5.1,3.5,1.4,0.2]]}'
ANSWER = b'{"predictions":["setosa"]}'
PLAIN = post(PATH, BODY)
CHUNKED = (
    f"POST {PATH} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY)
    + b"0\r\nX-Trailer: 1\r\n\r\n"
)


@pytest.mark.parametrize("request_", [PLAIN, CHUNKED], ids=["plain", "chunked"])
async def test_a_request_may_be_cut_at_every_byte(iris_server: Served, request_: bytes) -> None:
    async def cut(at: int) -> Answer:
        return only(await ask(iris_server.port, request_[:at], request_[at:]))

    async with asyncio.timeout(30):
        found = await asyncio.gather(*[cut(at) for at in range(1, len(request_))])
    assert {(answer.status, answer.body) for answer in found} == {(200, ANSWER)}


async def test_resets_in_the_middle_cost_nobody_else_anything(iris_server: Served) -> None:
    held = iris_server.server.shared.bodies
    loop = asyncio.get_running_loop()
    for part in (
        PLAIN[:10],
        PLAIN[:-5],
        PLAIN,
        CHUNKED[:-60],
        PLAIN.replace(b": close", b": keep-alive") * 30,
    ):
        for _ in range(20):
            client = socket.socket()
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", iris_server.port))
            await loop.sock_sendall(client, part)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
    assert only(await ask(iris_server.port, PLAIN)).body == ANSWER
    await until(lambda: held.used == 0)


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500, 400),
        (b"GET /v2\r\n\r\n", 505),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + PLAIN, 400),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"\1" * 12 + PLAIN, 400),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 400),
        (PLAIN.replace(b"HTTP/1.1", b"http/1.1"), 400),
        (bytes(range(256)), 400),
    ],
)
async def test_other_protocols_get_one_refusal(iris_server: Served, stream: bytes, status: int) -> None:
    answer = only(await ask(iris_server.port, stream + get("/v2")))
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert error_of(answer)


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "%252e%252e%252f",
        "..%5c..%5cwindows",
        "iris%00",
        "iris%0d%0aX:%20y",
        "%ff%fe",
        "%",
        "file:%2f%2f%2fetc%2fpasswd",
    ],
)
async def test_a_name_is_only_ever_compared(iris_server: Served, name: str) -> None:
    for request_ in (
        post(f"/v1/models/{name}:predict", BODY),
        post(f"/v2/models/{name}/infer", BODY),
        get(f"/v2/models/{name}"),
        get(f"/v2/models/iris/versions/{name}"),
        get(f"/v1/models/{name}"),
    ):
        answer = only(await ask(iris_server.port, request_))
        assert answer.status == 404, request_
        assert error_of(answer)
        assert b"root:" not in answer.body


async def test_a_length_of_many_digits_is_refused_by_what_is_wrong(iris_server: Served) -> None:
    length = f"Content-Length: {len(BODY)}".encode()
    for zeros, status in ((10, 200), (30, 400), (6000, 400)):
        stream = PLAIN.replace(length, b"Content-Length: %s%d" % (b"0" * zeros, len(BODY)))
        answer = only(await ask(iris_server.port, stream))
        assert answer.status == status
        if status == 400:
            assert error_of(answer) == "Content-Length has more than 20 digits"


async def test_empty_lines_before_a_request_are_no_request(iris_server: Served) -> None:
    assert (await talk(iris_server.port, b"\r\n" * 3000, PLAIN)).endswith(ANSWER)
