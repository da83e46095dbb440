"""A server that runs and has answered correctly, with the time that its start took."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from serving_bench.process_tree import ProcessTree
from serving_bench.servers import V1, Server, Start

if TYPE_CHECKING:
    from pathlib import Path

    from serving_bench.cases import Body, Case
    from serving_bench.models import Model

START_SECONDS = 120.0


class NotCorrect(Exception):  # noqa: N818 - names what is wrong
    """A server did not start, or answers something else than scikit-learn."""


class Running:
    """``tree`` is its processes, ``cold_start`` the seconds from exec to the first correct answer."""

    def __init__(self, server: Server, model: Model, build: Path, *, cpu: int | None) -> None:
        self.server = server
        self.model = model
        folder = build / "run" / f"{server.name}-{model.name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        start = Start(model, free_ports(), folder)
        self.port = start.ports[0]
        command = server.command(server.python(), start)
        environ = server.full_environ(start)
        begin = time.perf_counter()
        self.tree = ProcessTree(command, environ, folder / "output.log", cpu=cpu, folder=folder)
        try:
            self._await_first_answer(begin + START_SECONDS)
        except BaseException:
            self.tree.stop()
            raise
        self.cold_start = time.perf_counter() - begin

    def where(self, case: Case) -> tuple[str, Body]:
        """The path and the form of bodies for a case."""
        return V1[self.server.name] if case.protocol == "v1" else (self.server.path, self.server.body)

    def check(self, path: str, requests: list[tuple[bytes, list[str]]]) -> None:
        """
        Ask each body once and compare the labels with scikit-learn's.

        Raises NotCorrect.
        """
        if not self.server.checked:
            return
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            for body, labels in requests:
                status, reply = _post(connection, path, body)
                got = self._labels(path, reply) if status == 200 else None
                if got != labels:
                    raise NotCorrect(
                        f"{self.server.name} answered {status} {reply[:300]!r} to {body[:200]!r}; "
                        f"expected {labels}"
                    )

    def exercise(self, path: str, bodies: list[bytes], seconds: float) -> None:
        """Ask one after another for some time, so that caches and the clock of the CPU are warm."""
        end, number = time.perf_counter() + seconds, 0
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            while time.perf_counter() < end:
                _post(connection, path, bodies[number % len(bodies)])
                number += 1

    def _labels(self, path: str, reply: bytes) -> list[Any]:
        document = json.loads(reply)
        labels = document["predictions"] if path.startswith("/v1/") else self.server.labels(document)
        # KServe writes arrays of one column where others write lists.
        return [str(label) for label in labels]

    def _await_first_answer(self, deadline: float) -> None:
        row, label = self.model.rows[:1], self.model.labels[0]
        body = json.dumps(self.server.body(self.model, row)).encode()
        seen: Any = "no connection"
        while time.perf_counter() < deadline:
            if not self.tree.running:
                raise NotCorrect(f"{self.server.name} ended: {self.tree.output()}")
            with ExitStack() as stack:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                stack.callback(connection.close)
                try:
                    seen = status, reply = _post(connection, self.server.path, body)
                except OSError:
                    status = 0
                if status == 200 and (
                    not self.server.checked or self._labels(self.server.path, reply) == [label]
                ):
                    return
            time.sleep(0.004)
        raise NotCorrect(f"{self.server.name} gave no correct answer, at last {seen!r}: {self.tree.output()}")


def free_ports() -> tuple[int, int, int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        first, second, third = (one.getsockname()[1] for one in sockets)
    return first, second, third


def _post(connection: http.client.HTTPConnection, path: str, body: bytes) -> tuple[int, bytes]:
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        connection.close()
        raise OSError(f"{type(error).__name__}: {error}") from error
