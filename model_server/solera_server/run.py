"""The life of a server: probes first, then the model, then traffic, then a drain without losses."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import uvloop

from solera_server import management
from solera_server.compiled import kernels
from solera_server.descriptors import make_room, ports_of_a_process
from solera_server.health import Phase
from solera_server.http_server import HttpServer
from solera_server.listening import GrpcHold, bind_or_fail, listen_or_fail, port_of
from solera_server.load import LoadedModel, load
from solera_server.metrics import Metrics
from solera_server.model_port import ModelPort
from solera_server.options import Options
from solera_server.page.guard import Guard
from solera_server.page.service import ManagementPage, live
from solera_server.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from solera_server.certificates import Certificates
    from solera_server.counter_report import CounterReport
    from solera_server.source import Source

log = logging.getLogger(__name__)

# How often a thread that computes in Python lets another one run. The default of 5 ms is what a request
# may then wait before it is even read.
SWITCH_SECONDS = 0.001


def serve(source: Source, options: Options) -> int:
    """
    Serve until a signal, and return the exit code.

    ``source`` is where the model in ``options.model`` comes from. Raises Failure when it cannot be served,
    FetchFailed when it cannot be had.
    """
    try:
        return _serve(options, source)
    finally:
        source.discard()


def _serve(options: Options, source: Source) -> int:
    sys.setswitchinterval(SWITCH_SECONDS)
    if kernels.WHY_NOT_NATIVE:
        log.warning("numpy computes, several times slower", extra={"reason": kernels.WHY_NOT_NATIVE})
    ports = ports_of_a_process(options.workers, grpc=options.grpc_port is not None)
    options = replace(options, limits=make_room(options.limits, ports))
    if options.recording.log is not None:
        from solera_server.log_files import try_directory

        try_directory(options.recording.log.url)
    grpc = None
    if options.grpc_port is not None:
        grpc = GrpcHold(options.host, options.grpc_port)
        options = replace(options, grpc_port=grpc.port)
    certificates = None
    if options.tls_files is not None:
        from solera_server.certificates import Certificates

        certificates = Certificates(*options.tls_files)
    if options.workers > 1:
        from solera_server.supervisor import Supervisor

        return Supervisor(options, source, certificates, grpc).run()
    return uvloop.run(_Process(options, source, certificates, grpc).run())


class _Process:
    """Both ports in one process; the model is loaded in a thread, so that probes are answered meanwhile."""

    def __init__(
        self, options: Options, source: Source, certificates: Certificates | None, grpc: GrpcHold | None
    ) -> None:
        self._options = options
        self._grpc = grpc
        self._source = source
        self._certificates = certificates
        self._signals = 0
        self._report: CounterReport | None = None
        self._stop = asyncio.Event()
        self._hasten = asyncio.Event()

    async def run(self) -> int:
        options, loop = self._options, asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        metrics = Metrics(options.name, options.version or "")
        model = ModelPort(options, metrics, self._certificates)
        if self._certificates is not None:
            metrics.gauges["solera_server_certificate_expires_seconds"] = self._certificates.gauge()
        metrics.gauges["solera_server_ready"] = (
            "1 while the server wants requests.",
            lambda: float(model.health.ready().good),
        )
        guard = Guard(options.page_hosts)
        page = ManagementPage(options.name, options.limits, lambda: live(metrics, model.health), loop, guard)
        management_routes = management.router(
            model.health, metrics, lambda: self._report, page.routes(), guard
        )
        probes = HttpServer(management_routes, options.limits)
        [management_sockets] = bind_or_fail(options.host, options.management_port, "--management-port")
        [sockets] = bind_or_fail(options.host, options.port, "--port")
        listen_or_fail([management_sockets], options.host, "--management-port")
        await probes.serve(management_sockets)
        management_port = port_of(management_sockets)
        log.info("loading", extra={"model": self._source.text, "management_port": management_port})

        loaded = await self._load_or_stop()
        if loaded is None:
            log.info("stopped while loading")
            return 0
        recording = Recording(options, loaded)
        self._source.discard()
        listen_or_fail([sockets], options.host, "--port")
        if self._grpc is not None:
            self._grpc.claim()
        await model.open(loaded, sockets, recording)
        if self._grpc is not None:
            self._grpc.give()
        self._report = recording.report(model.recorder)
        page.open(loaded, options.version_of(loaded.digest))
        metrics.sources.append(recording.families)
        gc.freeze()  # the model stays: what collects garbage later need not look through it
        log.info("serving", extra=serving_event(options, loaded, port_of(sockets), management_port))
        await self._stop.wait()
        model.health.phase = Phase.DRAINING
        extra = {"delay_seconds": options.drain_delay, "connections": model.connections}
        log.info("draining", extra=extra)
        cut = await model.drain(self._hasten)
        probes.stop_listening()
        await probes.finish(loop.time() + 1.0)
        log.info("stopped", extra={"connections_cut": cut})
        return 0

    async def _load_or_stop(self) -> LoadedModel | None:
        def fetch_and_load() -> LoadedModel:
            self._source.fetch()
            return load(self._options.model, self._options.digest)

        loading = _in_thread(fetch_and_load)
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            return None
        stopping.cancel()
        loaded: LoadedModel = loading.result()
        return loaded

    def _on_signal(self, number: signal.Signals) -> None:
        self._signals += 1
        log.info("signal", extra={"signal": signal.Signals(number).name})
        self._stop.set()
        if self._signals > 1 or number == signal.SIGINT:
            self._hasten.set()


def serving_event(
    options: Options, loaded: LoadedModel, port: int, management_port: int
) -> dict[str, str | int]:
    """What the log says when the server begins to serve."""
    scheme = "http" if options.tls_files is None else "https"
    grpc = {} if options.grpc_port is None else {"grpc_port": options.grpc_port}
    return {
        **grpc,
        "url": f"{scheme}://{options.host or 'localhost'}:{port}/v2/models/{options.name}",
        "model": options.name,
        "version": options.version_of(loaded.digest),
        "port": port,
        "management_port": management_port,
        "workers": options.workers,
    }


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
