"""A server that tells what arrived, for tests of the HTTP layer by itself."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from raw_http import until

from solera_server.http_server import HttpServer
from solera_server.message import Request, Response, json_response
from solera_server.router import Route, Router

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from solera_server.limits import Limits


LARGE = b"0123456789abcdef" * (1024 * 1024)
"""16 MiB: more than the kernel takes off a server's hands."""


class Echo:
    """Paths: /echo tells what arrived, /held answers when released, /large gives LARGE, /broken raises."""

    def __init__(self, limits: Limits) -> None:
        self.held: list[Request] = []
        self.seen: list[tuple[str, int, float | None]] = []
        echo = Route(self._echo, "test", reads_json=True)
        routes = {
            b"/echo": {b"GET": Route(self._echo, "test"), b"POST": echo},
            b"/held": {b"GET": Route(self._hold, "test"), b"POST": Route(self._hold, "test")},
            b"/large": {b"GET": Route(lambda _request: Response(200, LARGE), "test")},
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
async def echoing(limits: Limits) -> AsyncIterator[Echo]:
    echo = Echo(limits)
    echo.port = await echo.server.listen("127.0.0.1", 0)
    try:
        yield echo
    finally:
        echo.server.stop_listening()
        await echo.server.finish(asyncio.get_running_loop().time() + 0.2)
