"""The life of a serving process: probes first, then the model, then traffic, then a drain without losses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvloop

from solera_core.failures import Failure, Reason
from solera_server import management
from solera_server.health import Health, Phase
from solera_server.http_server import HttpServer
from solera_server.limits import Limits
from solera_server.load import LoadedModel, load
from solera_server.metrics import Metrics
from solera_server.serving import Serving
from solera_server.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

# How often a thread that computes in Python lets another one run. The default of 5 ms is what a request
# may then wait before it is even read.
_SWITCH_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Options:
    """What a serving process is told. ``host`` None means every address; times are seconds."""

    model: Path
    name: str
    version: str | None
    digest: str | None
    host: str | None
    port: int
    management_port: int
    drain_delay: float
    drain_timeout: float
    stall_seconds: float
    limits: Limits = field(default_factory=Limits)


def serve(options: Options) -> int:
    """
    Serve until a signal, and return the exit code.

    Raises Failure when the model cannot be served.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    return uvloop.run(_Process(options).run())


class _Process:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._signals = 0
        self._stop = asyncio.Event()
        self._hasten = asyncio.Event()

    async def run(self) -> int:
        options, loop = self._options, asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        worker = Worker(loop, options.limits.in_flight)
        worker.start()
        health = Health(worker, options.stall_seconds)
        metrics = Metrics(options.name, options.version or "")
        probes = HttpServer(management.router(health, metrics), options.limits)
        management_port = await _listen(probes, options.host, options.management_port, "--management-port")
        log.info("loading", extra={"directory": str(options.model), "management_port": management_port})

        loaded = await self._load_or_stop()
        if loaded is None:
            log.info("stopped while loading")
            return 0
        serving = self._serving(loaded, worker, health, metrics)
        server = HttpServer(serving.router(), options.limits, metrics)
        _gauges(metrics, server, worker, health)
        port = await _listen(server, options.host, options.port, "--port")
        health.phase = Phase.SERVING
        log.info(
            "serving",
            extra={
                "url": f"http://{options.host or 'localhost'}:{port}/v2/models/{serving.name}",
                "model": serving.name,
                "version": serving.version,
                "port": port,
                "management_port": management_port,
            },
        )
        await self._stop.wait()
        return await self._drain(server, probes, worker, health)

    def _serving(self, loaded: LoadedModel, worker: Worker, health: Health, metrics: Metrics) -> Serving:
        options = self._options
        version = options.version or loaded.digest.replace(":", "-")[:19]
        metrics.identify(
            version,
            {
                "digest": loaded.digest,
                "sklearn": loaded.sklearn_version,
                "predictor": loaded.predictor.kind,
            },
        )
        return Serving(options.name, version, loaded, worker, health, metrics, options.limits)

    async def _load_or_stop(self) -> LoadedModel | None:
        loading = _in_thread(lambda: load(self._options.model, self._options.digest))
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            return None
        stopping.cancel()
        loaded: LoadedModel = loading.result()
        return loaded

    async def _drain(self, server: HttpServer, probes: HttpServer, worker: Worker, health: Health) -> int:
        """Readiness falls; answer as before until traffic has gone elsewhere; then finish what is there."""
        options, loop = self._options, asyncio.get_running_loop()
        deadline = loop.time() + options.drain_delay + options.drain_timeout
        health.phase = Phase.DRAINING
        server.draining = True
        log.info("draining", extra={"delay_seconds": options.drain_delay, "connections": server.connections})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hasten.wait(), options.drain_delay)
        server.stop_listening()
        cut = await server.finish(deadline)
        probes.stop_listening()
        await probes.finish(loop.time() + 1.0)
        worker.stop()
        log.info("stopped", extra={"connections_cut": cut})
        return 0

    def _on_signal(self, number: signal.Signals) -> None:
        self._signals += 1
        log.info("signal", extra={"signal": signal.Signals(number).name})
        self._stop.set()
        if self._signals > 1 or number == signal.SIGINT:
            self._hasten.set()


async def _listen(server: HttpServer, host: str | None, port: int, option: str) -> int:
    try:
        return await server.listen(host, port)
    except OSError as error:
        where = f"port {port}" if host is None else f"{host}:{port}"
        raise Failure(
            Reason.ADDRESS_UNAVAILABLE,
            f"cannot listen on {where}: {error.strerror or error}; see {option} and --host.",
        ) from error


def _gauges(metrics: Metrics, server: HttpServer, worker: Worker, health: Health) -> None:
    metrics.watch("solera_server_in_flight_requests", lambda: worker.in_flight)
    metrics.watch("solera_server_queued_requests", lambda: worker.queued)
    metrics.watch("solera_server_connections", lambda: server.connections)
    metrics.gauges["solera_server_ready"] = (
        "1 while the server wants requests.",
        lambda: float(health.ready().good),
    )


def _in_thread(function: Callable[[], Any]) -> asyncio.Future[Any]:
    """Run in a daemon thread: unlike asyncio's own executor, it does not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def settle(result: Any, error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def run() -> None:
        try:
            result, error = function(), None
        except Exception as caught:  # noqa: BLE001 - handed to the waiter
            result, error = None, caught
        loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="load", daemon=True).start()
    return future
