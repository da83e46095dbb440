"""Speaking HTTP by hand, for what no client library would send."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition that another task brings about."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"did not come true within {seconds} s")


async def talk(port: int, *parts: bytes, seconds: float = 5.0) -> bytes:
    """Send the parts one after the other, and return what comes until the server ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        async with asyncio.timeout(seconds):
            return await reader.read()
    finally:
        writer.close()


async def ask(port: int, *parts: bytes, seconds: float = 5.0) -> list[Answer]:
    return answers(await talk(port, *parts, seconds=seconds))


def answers(raw: bytes) -> list[Answer]:
    """Split the bytes of one connection into responses; 100 Continue counts as one without body."""
    found = []
    while raw:
        head, separator, raw = raw.partition(b"\r\n\r\n")
        assert separator, f"a truncated response: {head!r}"
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        assert len(raw) >= length, f"a body of {len(raw)} instead of {length} bytes: {raw!r}"
        found.append(Answer(int(status_line.split()[1]), headers, raw[:length]))
        raw = raw[length:]
    return found


def post(path: str, body: bytes, *, close: bool = True, headers: str = "") -> bytes:
    connection = "Connection: close\r\n" if close else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n{connection}{headers}"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def get(path: str, *, close: bool = True, headers: str = "") -> bytes:
    connection = "Connection: close\r\n" if close else ""
    return f"GET {path} HTTP/1.1\r\nHost: test\r\n{connection}{headers}\r\n".encode()


def only(found: list[Answer]) -> Answer:
    assert len(found) == 1, found
    return found[0]


def error_of(answer: Answer) -> str:
    assert answer.headers["content-type"] == "application/json"
    message = json.loads(answer.body)["error"]
    assert isinstance(message, str)
    return message
