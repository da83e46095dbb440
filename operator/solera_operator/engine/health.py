"""
Probes and metrics over HTTP.

`/livez` fails when a part says that it is stuck (a blocked event loop answers nothing at all), `/readyz`
until the caches are synced and the process leads or stands by, `/metrics` is for Prometheus.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable

import structlog

from solera_operator.engine.metrics import Metrics

Check = Callable[[], str | None]  # what is wrong, in words; None when all is well

_REQUEST_SECONDS = 5.0
_HEAD_LIMIT = 16 * 1024
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PLAIN = "text/plain; charset=utf-8"

log = structlog.get_logger(__name__)


class HealthServer:
    """Answers GET and HEAD on three paths; one request a connection."""

    def __init__(self, metrics: Metrics, *, live: Iterable[Check] = (), ready: Iterable[Check] = ()) -> None:
        self._metrics = metrics
        self._live = tuple(live)
        self._ready = tuple(ready)
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (useful when 0 was asked for). Raises OSError when it is taken."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=_HEAD_LIMIT)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
                writer.write(self._answer(method, rest.partition(" ")[0].partition("?")[0]))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that does not talk HTTP, or has gone
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _answer(self, method: str, path: str) -> bytes:
        if method not in {"GET", "HEAD"}:
            return _response(method, "405 Method Not Allowed", b"use GET\n")
        if path == "/metrics":
            return _response(method, "200 OK", self._metrics.text(), _METRICS_TYPE)
        if path == "/livez":
            return self._judge(method, self._live)
        if path == "/readyz":
            return self._judge(method, self._ready)
        return _response(method, "404 Not Found", b"/livez, /readyz and /metrics are here\n")

    def _judge(self, method: str, checks: Iterable[Check]) -> bytes:
        troubles = [trouble for trouble in (check() for check in checks) if trouble is not None]
        if not troubles:
            return _response(method, "200 OK", b"ok\n")
        log.debug("probe failed", troubles=troubles)
        return _response(method, "503 Service Unavailable", ("\n".join(troubles) + "\n").encode())


def _response(method: str, status: str, body: bytes, content_type: str = _PLAIN) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (b"" if method == "HEAD" else body)
