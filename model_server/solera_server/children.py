"""What the forked processes of a server do: a worker answers on the model port, the manager on its own."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import uvloop

from solera_core.failures import EXIT_BUG, Failure
from solera_server import logs, management
from solera_server.board import BEAT_SECONDS, Board, PoolHealth, Stage
from solera_server.http_server import HttpServer
from solera_server.metrics import Metrics
from solera_server.model_port import ModelPort, facts
from solera_server.page.guard import Guard
from solera_server.page.service import ManagementPage, live
from solera_server.termination import report
from solera_server.threads import allow_threads

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from solera_server.certificates import Certificates
    from solera_server.load import LoadedModel
    from solera_server.options import Options
    from solera_server.recording import Recording
    from solera_server.shared import SharedCounters

log = logging.getLogger(__name__)

DRAIN = b"d"
HASTEN = b"h"
STOP = b"s"
_PR_SET_PDEATHSIG = 1


def run(main: Callable[[int], int], control: int, parent: int) -> NoReturn:
    """Be a child: call ``main`` with the pipe on which the parent speaks, and end the process."""
    code = EXIT_BUG
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        _die_with(parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD))
        code = main(control)
    except Failure as failure:
        code = report(failure)
    except BaseException:
        log.exception("failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: what the parent wants done at its own end is not this process's to do.
        os._exit(code)


@dataclass(frozen=True, slots=True)
class Pool:
    """What all processes of a server have in common."""

    options: Options
    board: Board
    counters: SharedCounters
    certificates: Certificates | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """What is served, and what is kept of it, when the model is loaded."""

    loaded: LoadedModel
    recording: Recording


def work(pool: Pool, slot: int, model: Model, sockets: list[socket.socket], control: int) -> int:
    """Answer requests until told to drain; return the exit code."""
    options, board = pool.options, pool.board
    logs.identify(worker=slot)
    allow_threads(options.threads)

    async def life() -> int:
        stop, hasten = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        # Whoever signals the whole group must not shorten the delay: only the parent hastens.
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        _obey(control, {DRAIN: [stop], HASTEN: [stop, hasten], STOP: [stop, hasten], b"": [stop, hasten]})
        metrics = Metrics(options.name, options.version or "", pool.counters, slot)
        port = ModelPort(options, metrics, pool.certificates)
        await port.open(model.loaded, sockets, model.recording, slot)
        log.debug("worker serves", extra={"pid": os.getpid()})
        board.occupy(slot, Stage.SERVING, os.getpid())
        beating = asyncio.create_task(_beat(board, slot, port, metrics))
        await stop.wait()
        board.change(slot, Stage.DRAINING)
        # A worker that ends alone leaves its sockets to the next one, with whoever waits there.
        cut = await port.drain(
            hasten,
            elapsed=board.draining_seconds(),
            close_port=lambda: board.draining,
            on_closed=lambda: board.change(slot, Stage.CLOSED),
        )
        board.add_cut(slot, cut)
        beating.cancel()
        metrics.flush()
        return 0

    return uvloop.run(life())


def manage(pool: Pool, sockets: list[socket.socket], control: int, model: Model | None) -> int:
    """Answer probes and scrapes until told to stop; ``model`` is None while it is not loaded."""
    options, board = pool.options, pool.board
    logs.identify(worker="management")

    async def life() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: None)
        _obey(control, {STOP: [stop], b"": [stop]})
        health = PoolHealth(board, options.stall_seconds, loaded=model is not None)
        metrics = Metrics(options.name, options.version or "", pool.counters, slot=None)
        report = None
        if model is not None:
            metrics.identify(options.version_of(model.loaded.digest), facts(model.loaded))
            metrics.sources.append(model.recording.families)
            report = model.recording.report()
        metrics.pids = board.pids
        metrics.gauges["solera_server_ready"] = (
            "1 while the server wants requests.",
            lambda: float(health.ready().good),
        )
        watching = None
        if pool.certificates is not None:
            metrics.gauges["solera_server_certificate_expires_seconds"] = pool.certificates.gauge()
            watching = asyncio.create_task(pool.certificates.watch())
        guard = Guard(options.page_hosts)
        page = ManagementPage(options.name, options.limits, lambda: live(metrics, health), loop, guard)
        if model is not None:
            page.open(model.loaded, options.version_of(model.loaded.digest))
        router = management.router(health, metrics, lambda: report, page.routes(), guard)
        server = HttpServer(router, options.limits)
        await server.serve(sockets)
        await stop.wait()
        if watching is not None:
            watching.cancel()
        server.stop_listening()
        await server.finish(loop.time() + 1.0)
        return 0

    return uvloop.run(life())


async def _beat(board: Board, slot: int, model: ModelPort, metrics: Metrics) -> None:
    while True:
        board.beat(slot, model.scheduler.busy_seconds())
        metrics.flush()
        await asyncio.sleep(BEAT_SECONDS)


def _obey(control: int, words: dict[bytes, list[asyncio.Event]]) -> None:
    """Set the events of each word that the parent says; the empty word is its end."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        said = os.read(control, 16)
        for word in [said[index : index + 1] for index in range(len(said))] or [b""]:
            for event in words.get(word, ()):
                event.set()
        if not said:
            loop.remove_reader(control)

    loop.add_reader(control, read)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however that ends."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(EXIT_BUG)
