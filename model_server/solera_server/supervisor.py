"""
The parent of several worker processes: it binds the ports, loads the model, forks, and replaces who dies.

It has no event loop and starts no thread, so that it can fork at any time. The model is loaded and checked
here once; the workers share its memory. Each worker has listening sockets of its own, which stay open here
too until it has closed its port: what waits there outlives a worker that dies.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from solera_core.failures import Failure, Reason
from solera_server import children
from solera_server.board import Board, Stage
from solera_server.listening import bind_or_fail, listen_or_fail, port_of
from solera_server.load import load
from solera_server.metrics import FIELDS, clear_gauges
from solera_server.recording import Recording
from solera_server.run import serving_event
from solera_server.shared import SharedCounters

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from solera_server.certificates import Certificates
    from solera_server.listening import GrpcHold
    from solera_server.options import Options
    from solera_server.source import Source

log = logging.getLogger(__name__)

_WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_LOOK_SECONDS = 0.5
_START_LOOK_SECONDS = 0.005
# How soon it is seen that a worker has closed its port. Until then whoever wants to connect is not refused.
_DRAIN_LOOK_SECONDS = 0.02
# A worker that hangs is replaced when it has been seen to hang for so long: a machine that was asleep makes
# all of them look hung for a moment.
_HANGING_SECONDS = 5.0
# Stands for the process of the management port where others have the numbers of workers.
_MANAGER = -1
_MANAGER_SECONDS = 2.0
# When a process could not be started, another attempt is made so much later.
_FORK_SECONDS = 1.0
# How much longer than a drain may take its workers are waited for.
_PATIENCE_SECONDS = 5.0


class _StopWhileLoading(BaseException):
    pass


@dataclass(slots=True)
class _Child:
    pid: int
    control: int
    """The writing end of the pipe by which it is told what to do; it ends when its parent does."""
    started: float


class Restarts:
    """
    Decides when a worker that died is started again: at once at first, then later and later.

    After ``GIVE_UP`` deaths within ``WINDOW_SECONDS``, of all workers together, never.
    """

    WINDOW_SECONDS = 60.0
    GIVE_UP = 8
    FIRST_DELAY_SECONDS = 0.1

    def __init__(self) -> None:
        self._deaths: list[float] = []

    def delay(self, now: float) -> float | None:
        """Count a death, and return the seconds until the worker should be started again; None: never."""
        self._deaths = [time for time in self._deaths if now - time < self.WINDOW_SECONDS]
        self._deaths.append(now)
        count = len(self._deaths)
        if count >= self.GIVE_UP:
            return None
        return 0.0 if count == 1 else self.FIRST_DELAY_SECONDS * 2.0 ** (count - 2)


class Supervisor:
    """``run`` is the life of the parent process."""

    def __init__(
        self,
        options: Options,
        source: Source,
        certificates: Certificates | None = None,
        grpc: GrpcHold | None = None,
    ) -> None:
        self._options = options
        self._grpc = grpc
        self._source = source
        self._board = Board(options.workers)
        self._pool = children.Pool(
            options, self._board, SharedCounters(FIELDS, options.workers), certificates
        )
        self._restarts = Restarts()
        self._workers: dict[int, _Child] = {}
        self._due: dict[int, float] = {}
        self._hung: dict[int, float] = {}
        self._manager: _Child | None = None
        self._model: children.Model | None = None
        self._management_sockets: list[socket.socket] = []
        self._sockets: list[list[socket.socket]] = []
        self._signals = 0
        self._hasten = False
        self._deadline: float | None = None
        self._failure: Failure | None = None
        self._announced = False

    def run(self) -> int:
        """
        Serve until a signal, and return the exit code.

        Raises Failure when the model cannot be served, or workers die again and again.
        """
        options = self._options
        [self._management_sockets] = bind_or_fail(options.host, options.management_port, "--management-port")
        self._sockets = bind_or_fail(options.host, options.port, "--port", options.workers)
        listen_or_fail([self._management_sockets], options.host, "--management-port")
        try:
            with _stoppable():
                self._start_manager()
                port = port_of(self._management_sockets)
                log.info("loading", extra={"model": self._source.text, "management_port": port})
                self._source.fetch()
                loaded = load(options.model, options.digest)
                self._model = children.Model(loaded, Recording(options, loaded))
                self._source.discard()
            # What is alive now stays as it is: the collector would otherwise write to all of it, and each
            # worker would have a copy.
            gc.collect()
            gc.freeze()
            self._start_all()
            self._watch()
        except _StopWhileLoading:
            log.info("stopped while loading")
        finally:
            self._end_everybody()
        if self._failure is not None:
            raise self._failure
        return 0

    # -- starting ------------------------------------------------------------------------------------

    def _start_all(self) -> None:
        listen_or_fail(self._sockets, self._options.host, "--port")
        if self._grpc is not None:
            self._grpc.claim()
        for slot in range(self._options.workers):
            self._start_worker(slot)
        while_loading = self._manager
        self._start_manager()
        if while_loading is not None:
            _tell(while_loading, children.STOP)

    def _start_manager(self) -> None:

        def main(control: int) -> int:
            return children.manage(self._pool, self._management_sockets, control, self._model)

        self._manager = self._fork(main, [one for sockets in self._sockets for one in sockets])
        self._board.name_parents(os.getpid(), self._manager.pid)

    def _start_worker(self, slot: int) -> None:
        self._board.occupy(slot, Stage.STARTING)

        def main(control: int) -> int:
            if self._model is None:
                raise AssertionError("workers start when the model is loaded")
            return children.work(self._pool, slot, self._model, self._sockets[slot], control)

        others = [one for other, sockets in enumerate(self._sockets) if other != slot for one in sockets]
        child = self._workers[slot] = self._fork(main, [*others, *self._management_sockets])
        if self._deadline is not None:  # it is there for those who wait at the port of one that died
            _tell(child, children.HASTEN if self._hasten else children.DRAIN)

    def _fork(self, main: Callable[[int], int], foreign: list[socket.socket]) -> _Child:
        """Fork a child that runs ``main`` without the sockets and pipes of the others."""
        reading, writing = os.pipe()
        parent = os.getpid()
        # A signal that came between the fork and the child's own handlers would end up in this code.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            pid = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(reading)
            os.close(writing)
            raise
        if pid == 0:
            os.close(writing)
            for child in (*self._workers.values(), self._manager):
                if child is not None:
                    os.close(child.control)
            for one in foreign:
                one.close()
            children.run(main, reading, parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(reading)
        return _Child(pid, writing, monotonic())

    # -- watching ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while self._workers or self._due:
            looking = self._look_seconds()
            soonest = min(self._due.values(), default=monotonic() + looking) - monotonic()
            information = signal.sigtimedwait(_WATCHED, max(0.0, min(looking, soonest)))
            if information is not None and information.si_signo != signal.SIGCHLD:
                self._on_signal(signal.Signals(information.si_signo))
            self._reap()
            self._announce()
            if self._deadline is None:
                self._replace_hung()
            elif monotonic() > self._deadline:
                self._due.clear()
                for child in self._workers.values():
                    os.kill(child.pid, signal.SIGKILL)
            else:
                self._close_ports()
            self._start_due()
        log.info("stopped", extra={"connections_cut": self._board.cut})

    def _look_seconds(self) -> float:
        if self._deadline is not None:
            return _DRAIN_LOOK_SECONDS if any(self._sockets) else _LOOK_SECONDS
        return _LOOK_SECONDS if self._announced else _START_LOOK_SECONDS

    def _announce(self) -> None:
        if self._announced or self._deadline is not None or self._model is None:
            return
        if all(self._board.stage(slot) is Stage.SERVING for slot in range(self._options.workers)):
            self._announced = True
            if self._grpc is not None:
                self._grpc.give()
            ports = port_of(self._sockets[0]), port_of(self._management_sockets)
            log.info("serving", extra=serving_event(self._options, self._model.loaded, *ports))

    def _on_signal(self, number: signal.Signals) -> None:
        self._signals += 1
        log.info("signal", extra={"signal": number.name})
        if self._signals == 1:
            self._drain()
        if self._signals > 1 or number == signal.SIGINT:
            self._hasten = True
            for child in self._workers.values():
                _tell(child, children.HASTEN)

    def _drain(self) -> None:
        options = self._options
        if self._deadline is not None:  # too many had died already
            return
        self._board.start_draining()
        log.info("draining", extra={"delay_seconds": options.drain_delay, "workers": len(self._workers)})
        self._deadline = monotonic() + options.drain_delay + options.drain_timeout + _PATIENCE_SECONDS
        self._due.pop(_MANAGER, None)
        for slot in self._due:  # somebody may wait at the port of one that died
            self._due[slot] = monotonic()
        self._close_ports()
        for child in self._workers.values():
            _tell(child, children.DRAIN)

    def _close_ports(self) -> None:
        """
        Close the sockets of workers that closed theirs, and of those that nobody replaces any more.

        A port closes when its last holder closes it.
        """
        for slot, sockets in enumerate(self._sockets):
            there = slot in self._workers or slot in self._due
            if not there or self._board.stage(slot) is Stage.CLOSED:
                while sockets:
                    sockets.pop().close()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            slot = next((slot for slot, child in self._workers.items() if child.pid == pid), None)
            if slot is not None:
                self._worker_ended(slot, os.waitstatus_to_exitcode(status))
            elif self._manager is not None and pid == self._manager.pid:
                self._manager_ended(os.waitstatus_to_exitcode(status))

    def _manager_ended(self, code: int) -> None:
        if self._manager is not None:
            os.close(self._manager.control)
            self._manager = None
        log.error("the process of the management port ended", extra={"status": _words(code)})
        if self._deadline is None:
            self._replace(_MANAGER, code)

    def _worker_ended(self, slot: int, code: int) -> None:
        child = self._workers.pop(slot)
        os.close(child.control)
        self._hung.pop(slot, None)
        closed = self._board.stage(slot) is Stage.CLOSED
        self._board.occupy(slot, Stage.AWAY)
        clear_gauges(self._pool.counters, slot)
        if self._deadline is not None:
            # Who waits at its port is answered by another one, for as long as the drain goes on.
            if not closed and self._sockets[slot] and monotonic() < self._deadline:
                self._replace(slot, code)
            if code != 0:
                extra = {"worker": slot, "status": _words(code), "replaced": slot in self._due}
                log.error("a worker ended while draining", extra=extra)
            return
        seconds = round(monotonic() - child.started, 3)
        log.error(
            "a worker ended and is replaced",
            extra={"worker": slot, "pid": child.pid, "status": _words(code), "seconds": seconds},
        )
        self._replace(slot, code)

    def _replace(self, slot: int, code: int) -> None:
        """Start a process again, now or later; end the server when too many have ended."""
        # Somebody told a worker to end; should one end so by itself, it must not be at full speed.
        delay = Restarts.FIRST_DELAY_SECONDS if code == 0 else self._restarts.delay(monotonic())
        if delay is not None:
            self._due[slot] = monotonic() + delay
            return
        if self._deadline is not None:
            return
        self._failure = Failure(
            Reason.INTERNAL_ERROR,
            f"{Restarts.GIVE_UP} processes of the server ended within {Restarts.WINDOW_SECONDS:.0f} s, "
            f"the last by {_words(code)}.",
        )
        self._drain()

    def _start_due(self) -> None:
        for slot, due in list(self._due.items()):
            if due <= monotonic():
                del self._due[slot]
                try:
                    if slot == _MANAGER:
                        self._start_manager()
                    else:
                        self._start_worker(slot)
                except OSError as error:  # no more processes, memory or descriptors; the others go on
                    log.error(  # noqa: TRY400 - a traceback would say nothing more
                        "a process cannot be started", extra={"worker": slot, "error": str(error)}
                    )
                    self._due[slot] = monotonic() + _FORK_SECONDS

    def _replace_hung(self) -> None:
        for slot, child in self._workers.items():
            reason = self._board.hung(slot, self._options.stall_seconds)
            if reason is None:
                self._hung.pop(slot, None)
            elif monotonic() - self._hung.setdefault(slot, monotonic()) >= _HANGING_SECONDS:
                del self._hung[slot]
                log.error("a worker hangs and is killed", extra={"worker": slot, "reason": reason})
                os.kill(child.pid, signal.SIGKILL)

    # -- the end -------------------------------------------------------------------------------------

    def _end_everybody(self) -> None:
        for sockets in (self._management_sockets, *self._sockets):
            for one in sockets:
                one.close()
        manager, end = self._manager, monotonic() + _MANAGER_SECONDS
        for child in self._workers.values():  # only if this process itself failed
            os.kill(child.pid, signal.SIGKILL)
        if manager is None:
            return
        _tell(manager, children.STOP)
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                if monotonic() > end:
                    with suppress(ProcessLookupError):
                        os.kill(manager.pid, signal.SIGKILL)
                signal.sigtimedwait((signal.SIGCHLD,), 0.05)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let a signal end what is done inside, and afterwards hold signals until they are asked for."""

    def stop(_number: int, _frame: object) -> None:
        raise _StopWhileLoading

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)


def _tell(child: _Child, word: bytes) -> None:
    with suppress(OSError):
        os.write(child.control, word)


def _words(code: int) -> str:
    """Say how a process ended, of its exit code or (negative) signal."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name} (out of memory?)" if code == -signal.SIGKILL else name
