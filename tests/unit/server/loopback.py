"""The server's parts put together on loopback, in the running event loop."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from solera_server.explain import service as explain
from solera_server.health import Health, Phase
from solera_server.http_server import HttpServer
from solera_server.limits import Limits
from solera_server.metrics import Metrics
from solera_server.scheduler import Scheduler
from solera_server.serving import Serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from solera_server.load import LoadedModel


class Served:
    """A model served on a free port of loopback, with its parts at hand."""

    def __init__(self, serving: Serving, server: HttpServer, port: int) -> None:
        self.serving = serving
        self.server = server
        self.port = port
        self.url = f"http://127.0.0.1:{port}"


@asynccontextmanager
async def serve(
    loaded: LoadedModel, name: str, limits: Limits | None = None, *, turns: bool = True
) -> AsyncIterator[Served]:
    """Serve on the running loop, as a process does, without its signals; with or without plain turns."""
    limits = limits or Limits()
    scheduler = Scheduler(asyncio.get_running_loop(), limits)
    scheduler.start()
    health = Health(scheduler, stall_seconds=60.0)
    health.phase = Phase.SERVING
    metrics = Metrics(name, f"{name}-v1")
    routes = explain.routes(name, f"{name}-v1", loaded, limits, asyncio.get_running_loop())
    serving = Serving(name, f"{name}-v1", loaded, scheduler, health, metrics, limits, extra_routes=routes)
    plain = serving.plain_turn(asyncio.get_running_loop()) if turns else None
    server = HttpServer(serving.router(), limits, metrics, plain=plain)
    port = await server.listen("127.0.0.1", 0)
    try:
        yield Served(serving, server, port)
    finally:
        server.stop_listening()
        await server.finish(asyncio.get_running_loop().time() + 5)
        scheduler.stop()
