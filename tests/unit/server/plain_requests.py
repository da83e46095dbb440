"""Plain requests to iris, and clients that send them together."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
from raw_http import Answer, answers
from request_bodies import tensor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from loopback import Served

IRIS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
ROW = [5.1, 3.5, 1.4, 0.2]
OTHER = [6.3, 3.3, 6.0, 2.5]


def v2_body(*rows: list[float], **more: Any) -> bytes:
    data = [value for row in rows for value in row]
    return orjson.dumps({"inputs": [tensor("x", [len(rows), len(rows[0])], "FP64", data)], **more})


def v1_body(*rows: Any, **more: Any) -> bytes:
    return orjson.dumps({"instances": rows, **more})


class Client:
    """Keeps a connection; ``ask`` returns the next answer, without its date."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def ask(self, request: bytes) -> Answer:
        self.writer.write(request)
        return await self.next()

    async def next(self) -> Answer:
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        [answer] = answers(head + await self._reader.readexactly(length))
        del answer.headers["date"]
        return answer


@asynccontextmanager
async def clients(port: int, count: int) -> AsyncIterator[list[Client]]:
    found = [Client(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(count)]
    try:
        yield found
    finally:
        for one in found:
            one.writer.close()


async def together(found: Sequence[Client], requests: Sequence[bytes]) -> list[Answer]:
    """Send each client's request at once, so that they come to the server in a turn or two."""
    return await asyncio.gather(*[one.ask(request) for one, request in zip(found, requests, strict=True)])


def turns_of(served: Served) -> list[int]:
    """Note how many requests each turn of a server has."""
    plain, sizes = served.server.plain, []
    assert plain is not None
    finish = plain._intake.finish

    class Noting:
        def __len__(self) -> int:
            return len(intake)

        def __getattr__(self, name: str) -> Any:
            return getattr(intake, name)

        def finish(self) -> Any:
            sizes.append(len(intake))
            return finish()

    intake = plain._intake
    plain._intake = Noting()
    return sizes
