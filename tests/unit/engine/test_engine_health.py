"""Probes over real sockets."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from solera_operator.engine.health import HealthServer
from solera_operator.engine.metrics import Metrics


class Site:
    def __init__(self) -> None:
        self.trouble: dict[str, str | None] = {"live": None, "ready": None}
        self.metrics = Metrics(process=True)
        self.server = HealthServer(
            self.metrics,
            live=[lambda: self.trouble["live"]],
            ready=[lambda: None, lambda: self.trouble["ready"]],
        )
        self.port = 0

    async def ask(self, request: str) -> tuple[str, str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request.encode())
        async with asyncio.timeout(10):
            answer = (await reader.read()).decode()
        writer.close()
        head, _, body = answer.partition("\r\n\r\n")
        return head.partition("\r\n")[0], body


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    made.port = await made.server.start("127.0.0.1", 0)
    yield made
    await made.server.stop()


async def test_probes_say_what_is_wrong(site: Site):
    assert await site.ask("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") == ("HTTP/1.1 200 OK", "ok\n")
    assert await site.ask("GET /readyz?verbose HTTP/1.1\r\n\r\n") == ("HTTP/1.1 200 OK", "ok\n")
    site.trouble["ready"] = "cache of pods is not synced"
    assert await site.ask("GET /readyz HTTP/1.1\r\n\r\n") == (
        "HTTP/1.1 503 Service Unavailable",
        "cache of pods is not synced\n",
    )
    assert (await site.ask("GET /livez HTTP/1.1\r\n\r\n"))[0] == "HTTP/1.1 200 OK"
    site.trouble["live"] = "stuck"
    assert (await site.ask("HEAD /livez HTTP/1.1\r\n\r\n")) == ("HTTP/1.1 503 Service Unavailable", "")


async def test_metrics_are_prometheus_text(site: Site):
    site.metrics.leader.set(1)
    status, body = await site.ask("GET /metrics HTTP/1.1\r\n\r\n")
    assert status == "HTTP/1.1 200 OK"
    assert "\nsolera_leader 1.0\n" in body
    assert "process_resident_memory_bytes" in body


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found"),
        ("POST /livez HTTP/1.1\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
        ("\x00\x01\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
        ("GET /" + "x" * 40_000 + " HTTP/1.1\r\n\r\n", ""),
    ],
)
async def test_nonsense_is_answered_or_dropped(site: Site, request_: str, status: str):
    try:
        assert (await site.ask(request_))[0] == status
    except ConnectionResetError:
        assert status == ""
    assert (await site.ask("GET /livez HTTP/1.1\r\n\r\n"))[0] == "HTTP/1.1 200 OK"
