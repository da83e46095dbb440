"""What one process does on the model port: it predicts, is counted, and ends without losing a request."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from typing import TYPE_CHECKING

from solera_server import openapi
from solera_server.access_log import AccessLog, Noting
from solera_server.busy_poll import BusyPoll
from solera_server.explain import service as explain
from solera_server.health import Health, Phase
from solera_server.http_server import HttpServer
from solera_server.listening import refuse_new, waiting
from solera_server.page import service as page
from solera_server.predictor import described
from solera_server.recording import Recorder
from solera_server.scheduler import Scheduler
from solera_server.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from solera_server.certificates import Certificates
    from solera_server.grpc_server import GrpcServer
    from solera_server.load import LoadedModel
    from solera_server.metrics import Metrics
    from solera_server.options import Options
    from solera_server.recording import Recording

# For handshakes under way when the port begins to close, and at most for those that wait to be accepted.
_HANDSHAKE_SECONDS = 0.05
_QUEUE_SECONDS = 1.0


class ModelPort:
    """
    The model port of this process. Make it on the running loop.

    ``health`` answers from the beginning; requests are answered from ``open`` to the end of ``drain``.
    """

    def __init__(self, options: Options, metrics: Metrics, certificates: Certificates | None = None) -> None:
        self._options = options
        self._metrics = metrics
        self._certificates = certificates
        self._watching: asyncio.Task[None] | None = None
        self._sockets: list[socket.socket] = []
        self._access: Noting = AccessLog(options.access_share, on_drop=self._access_line_dropped)
        self._server: HttpServer | None = None
        self._grpc: GrpcServer | None = None
        self.recorder: Recorder | None = None
        self.scheduler = Scheduler(asyncio.get_running_loop(), options.limits)
        self.scheduler.start()
        self.health = Health(self.scheduler, options.stall_seconds)

    async def open(
        self, loaded: LoadedModel, sockets: list[socket.socket], recording: Recording, process: int = 0
    ) -> Serving:
        """Answer requests for a model on sockets that are bound; ``process`` is the number of this one."""
        options, metrics = self._options, self._metrics
        version = options.version_of(loaded.digest)
        metrics.identify(version, facts(loaded))
        recorder = self.recorder = Recorder(recording, process)
        loop = asyncio.get_running_loop()
        others = {
            **recorder.routes(),
            **explain.routes(options.name, version, loaded, options.limits, loop),
            **self._page(loaded, version),
        }
        self._trace(loaded, version)
        serving = Serving(
            options.name,
            version,
            loaded,
            self.scheduler,
            self.health,
            metrics,
            options.limits,
            recorder=recorder,
            extra_routes={**others, **openapi.routes(options.name, version, loaded, options.limits, others)},
        )
        busy_poll = self._busy_poll(loop)
        # Traces and lines of the access log need each request by itself.
        plain = None if self._access.on else serving.plain_turn(loop, busy_poll)
        server = self._server = HttpServer(
            serving.router(),
            options.limits,
            metrics,
            recorder,
            self._access,
            plain=plain,
            busy_poll=busy_poll,
        )
        metrics.watch("solera_server_in_flight_requests", lambda: self.scheduler.in_flight)
        metrics.watch("solera_server_queued_requests", lambda: self.scheduler.queued)
        metrics.watch("solera_server_connections", lambda: server.connections)
        self._sockets = sockets
        # The requests of one turn of the loop are more objects than the collector's default of 700, and
        # nearly none of them is in a cycle.
        gc.set_threshold(20_000, 20, 20)
        if self._certificates is not None:
            # Forked processes have what their parent read, which may be long ago.
            self._watching = asyncio.create_task(self._certificates.watch())
        await server.serve(sockets, self._certificates, self._handshake_failed)
        if options.grpc_port is not None:
            from solera_server.grpc_server import GrpcServer
            from solera_server.grpc_tls import grpc_credentials

            self._grpc = GrpcServer(serving, options.limits, metrics, self._access)
            await self._grpc.listen(
                options.host, options.grpc_port, self._certificates and grpc_credentials(self._certificates)
            )
        self.health.phase = Phase.SERVING
        return serving

    def _busy_poll(self, loop: asyncio.AbstractEventLoop) -> BusyPoll | None:
        seconds = self._options.busy_poll_seconds
        if not seconds:
            return None
        return BusyPoll(loop, seconds, self.scheduler.busy_seconds, self._busy_poll_begun)

    def _trace(self, loaded: LoadedModel, version: str) -> None:
        options = self._options
        if options.tracing is None or not isinstance(self._access, AccessLog):
            return
        from solera_server.tracing import Served, Tracing

        served = Served(
            options.name,
            version,
            loaded.predictor.kind,
            "http" if options.tls_files is None else "https",
            options.host or socket.gethostname(),
            options.grpc_port,
        )
        loop = asyncio.get_running_loop()
        self._access = Tracing(options.tracing, served, self._access, loop=loop, count=self._count_spans)

    def _page(self, loaded: LoadedModel, version: str) -> page.Routes:
        if not self._options.page:
            return {}
        return page.model_port_routes(
            self._options.name, version, loaded, lambda: page.live(self._metrics, self.health), self.health
        )

    @property
    def connections(self) -> int:
        return 0 if self._server is None else self._server.connections

    async def drain(
        self,
        hasten: asyncio.Event,
        *,
        elapsed: float = 0.0,
        close_port: Callable[[], bool] = lambda: True,
        on_closed: Callable[[], None] = lambda: None,
    ) -> int:
        """
        Answer as before until traffic has gone elsewhere, then close the port and finish what is there.

        ``hasten`` ends the wait for traffic to go. ``elapsed`` is for how many seconds the server has been
        draining already. ``close_port`` is asked when the port would be closed: if not, somebody else holds
        the sockets and goes on. ``on_closed`` is called when nobody waits at the port any more. Returns the
        number of connections that had to be cut.
        """
        options, loop, server = self._options, asyncio.get_running_loop(), self._server
        if server is None:
            return 0
        deadline = loop.time() - elapsed + options.drain_delay + options.drain_timeout
        self.health.phase = Phase.DRAINING
        server.draining = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hasten.wait(), options.drain_delay - elapsed)
        ending = (
            [] if self._grpc is None else [asyncio.ensure_future(self._grpc.finish(deadline - loop.time()))]
        )
        if close_port():
            await self._empty_queue()
            on_closed()
        server.stop_listening()
        cut = await server.finish(deadline)
        await asyncio.gather(*ending)
        self.scheduler.stop()
        if self.recorder is not None:
            await self.recorder.close()
        if self._watching is not None:
            self._watching.cancel()
        await asyncio.to_thread(self._access.close)  # which may wait a little for readers
        return cut

    def _busy_poll_begun(self) -> None:
        self._metrics.busy_polls += 1

    def _access_line_dropped(self) -> None:
        self._metrics.access_lines_dropped += 1

    def _count_spans(self, exported: int, dropped: int) -> None:
        self._metrics.spans_exported += exported
        self._metrics.spans_dropped += dropped

    def _handshake_failed(self) -> None:
        self._metrics.handshakes_failed += 1

    async def _empty_queue(self) -> None:
        loop = asyncio.get_running_loop()
        refuse_new(self._sockets)
        await asyncio.sleep(_HANDSHAKE_SECONDS)
        limit = loop.time() + _QUEUE_SECONDS
        # Nobody tells when the kernel's queue is empty.
        while waiting(self._sockets) and loop.time() < limit:  # noqa: ASYNC110 - so it is looked at
            await asyncio.sleep(0.005)


def facts(loaded: LoadedModel) -> dict[str, str]:
    """What the metrics say of a model."""
    return {
        "digest": loaded.digest,
        "sklearn": loaded.sklearn_version,
        **described(loaded.predictor),
    }
