"""The operator's process: settings, event source, caches, leadership, two controllers, probes."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from solera_operator.controllers.caches import MODEL_VERSIONS, TRAINED_MODELS, Caches
from solera_operator.controllers.modelversion import ModelVersionController
from solera_operator.controllers.trainedmodel import TrainedModelController
from solera_operator.engine import logs
from solera_operator.engine.client import KubeClient
from solera_operator.engine.clock import SystemClock
from solera_operator.engine.events import EventRecorder
from solera_operator.engine.health import HealthServer
from solera_operator.engine.leadership import Leadership, new_identity
from solera_operator.engine.metrics import Metrics
from solera_operator.engine.queue import WorkQueue
from solera_operator.engine.runner import Controller
from solera_operator.engine.source import KopfSource
from solera_operator.engine.store import Key
from solera_operator.engine.tasks import cancel_and_wait
from solera_operator.settings import Settings, SettingsError

log = structlog.get_logger(__name__)

LEASE_NAME = "solera-operator"
EXIT_SETTINGS = 64


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    settings: Path
    namespace: str
    kubeconfig: Path | None
    host: str
    port: int
    log_format: str


def parse_arguments(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; ends the process with a message where it is wrong."""
    parser = argparse.ArgumentParser(prog="solera-operator", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, help="settings file (docs/operating.md)")
    parser.add_argument(
        "--namespace",
        default=os.environ.get("POD_NAMESPACE", "solera-system"),
        help="namespace of the Lease (default: $POD_NAMESPACE, else solera-system)",
    )
    parser.add_argument("--kubeconfig", type=Path, help="for running outside a cluster")
    parser.add_argument("--host", default="0.0.0.0", help="address of probes and metrics")  # noqa: S104 a pod's own
    parser.add_argument("--port", type=int, default=8082, help="port of probes and metrics")
    parser.add_argument("--log-format", choices=("json", "console", "auto"), default="auto")
    return Options(**vars(parser.parse_args(arguments)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the operator until it is told to stop; exit code 64 for wrong settings, 75 for a lost Lease."""
    options = parse_arguments(arguments)
    try:
        settings = Settings.load(options.settings)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_SETTINGS)
    logs.configure(settings.log_level.lower(), options.log_format)  # type: ignore[arg-type]  # argparse has checked it
    asyncio.run(Operator(settings, options).run())


class Operator:
    """All parts of the process and the order in which they start and stop."""

    def __init__(self, settings: Settings, options: Options) -> None:
        self._settings = settings
        self._options = options
        self._clock = SystemClock()
        self._metrics = Metrics(process=True)
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Start, lead or stand by, stop gracefully."""
        client = await KubeClient.connect(
            kubeconfig=self._options.kubeconfig,
            resources=(TRAINED_MODELS, MODEL_VERSIONS),
            metrics=self._metrics,
        )
        # The Lease has a connection of its own: no other request may stand before its renewal.
        lease_client = await KubeClient.connect(
            kubeconfig=self._options.kubeconfig, request_timeout=3.0, metrics=self._metrics
        )
        async with client, lease_client:
            await self._run(client, lease_client)

    async def _run(self, client: KubeClient, lease_client: KubeClient) -> None:
        self._install_signals()
        identity = new_identity()
        leadership = Leadership(lease_client, self._options.namespace, LEASE_NAME, identity=identity)
        events = EventRecorder(client, instance=identity)
        source, caches, queues = self._caches(client)
        controllers = self._controllers(client, caches, events, queues)
        health = HealthServer(
            self._metrics,
            live=[controller.trouble for controller in controllers],
            ready=[_unsynced(caches), _unled(leadership)],
        )
        port = await health.start(self._options.host, self._options.port)
        log.info("started", probes=port, identity=identity, namespaces=list(self._settings.watch_namespaces))
        tasks = [
            asyncio.create_task(source.run(), name="event source"),
            asyncio.create_task(caches.run(), name="caches"),
            asyncio.create_task(events.run(), name="events"),
            asyncio.create_task(leadership.run(), name="leadership"),
        ]
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            starting = asyncio.create_task(_start(caches, leadership, controllers), name="start")
            await _first([stopping, *tasks], starting)
        finally:
            log.info("stopping")
            await asyncio.gather(*(controller.stop() for controller in controllers))
            await events.drain()
            await leadership.release()
            await cancel_and_wait(stopping, starting, *tasks)
            await health.stop()

    def _caches(self, client: KubeClient) -> tuple[KopfSource, Caches, tuple[WorkQueue[Key], WorkQueue[Key]]]:
        namespaces = self._settings.watch_namespaces
        models_queue: WorkQueue[Key] = WorkQueue("trainedmodel", metrics=self._metrics)
        versions_queue: WorkQueue[Key] = WorkQueue("modelversion", metrics=self._metrics)
        source = KopfSource(client, namespaces=namespaces, install_signals=self._install_signals)
        caches = Caches(
            client,
            source,
            wake_model=models_queue.add,
            wake_version=versions_queue.add,
            namespaces=namespaces,
        )
        return source, caches, (models_queue, versions_queue)

    def _controllers(
        self,
        client: KubeClient,
        caches: Caches,
        events: EventRecorder,
        queues: tuple[WorkQueue[Key], WorkQueue[Key]],
    ) -> tuple[Controller, ...]:
        parts = (client, caches, self._settings, events, self._clock)
        reconciles = (TrainedModelController(*parts).reconcile, ModelVersionController(*parts).reconcile)
        return tuple(
            Controller(queue.name, reconcile, queue, metrics=self._metrics)
            for queue, reconcile in zip(queues, reconciles, strict=True)
        )

    def _install_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)


async def _start(caches: Caches, leadership: Leadership, controllers: Sequence[Controller]) -> None:
    """Begin to reconcile when the caches are whole and the Lease is held."""
    for cache in caches.required:
        await cache.synced.wait()
    await leadership.leading.wait()
    for controller in controllers:
        controller.start()
    log.info("reconciling")


async def _first(until: Sequence[asyncio.Task[object]], starting: asyncio.Task[None]) -> None:
    """Return when one of the tasks ends (re-raising what ended it); a failed start counts as well."""
    waiting: set[asyncio.Task[object]] = {*until, starting}
    while True:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if done != {starting}:
            return


def _unsynced(caches: Caches) -> Callable[[], str | None]:
    return lambda: None if caches.synced() else "caches are not synced yet"


def _unled(leadership: Leadership) -> Callable[[], str | None]:
    def check() -> str | None:
        if leadership.leading.is_set() or leadership.standing_by:
            return None
        return "neither leading nor standing by: the Lease cannot be read"

    return check
