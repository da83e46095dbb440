"""More connections than may be, and more than there are file descriptors, against a real process."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import selectors
import socket
import sys
import time
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from echo_server import echoing
from hypothesis import given
from hypothesis import strategies as st
from raw_http import answers, ask, get, only, post, until
from server_process import running, serve_arguments

from solera_server.descriptors import SPARE, fitting, ports_of_a_process
from solera_server.limits import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from server_artifacts import Trained
    from server_process import Process

BODY = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]}).encode()
KEPT = post("/v1/models/iris:predict", BODY, close=False)
BYTES_OF_A_CONNECTION = 24 * 1024
"""What one that says nothing may cost at most; measured: 3 KiB, without what the kernel keeps."""


class Silent:
    """Connections that are opened and say nothing."""

    def __init__(self, port: int, count: int) -> None:
        self.all = ExitStack()
        self.selector = selectors.DefaultSelector()
        for _ in range(count):
            one = self.all.enter_context(socket.socket())
            one.connect(("127.0.0.1", port))
            one.setblocking(False)
            self.selector.register(one, selectors.EVENT_READ)
        self.told = 0
        self.cut = 0

    @property
    def open(self) -> int:
        """How many are neither cut nor told to go."""
        for key, _ in self.selector.select(0):
            assert isinstance(key.fileobj, socket.socket)
            try:
                said = key.fileobj.recv(4096)
            except ConnectionResetError:
                said = b""
            assert not said or said.startswith(b"HTTP/1.1 503 "), said
            self.told += bool(said)
            self.cut += not said
            self.selector.unregister(key.fileobj)
        return len(self.selector.get_map())


@asynccontextmanager
async def served(iris: Trained, *more: str) -> AsyncIterator[tuple[Process, int]]:
    async with running(*serve_arguments(iris.directory, "--name", "iris", *more)) as server:
        try:
            yield server, (await server.event("serving"))["port"]
        finally:
            await let_go()


def memory(server: Process) -> int:
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * resource.getpagesize()


def descriptors(server: Process) -> int:
    return sum(1 for _ in Path(f"/proc/{server.process.pid}/fd").iterdir())


class Kept:
    """A connection on which requests follow each other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, seconds: float = 5.0) -> float:
        """Return the seconds that an answer took."""
        started = time.perf_counter()
        self.writer.write(KEPT)
        async with asyncio.timeout(seconds):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            assert only(answers(head + await self.reader.readexactly(length))).status == 200
        return time.perf_counter() - started


KEPT_ONES: list[Kept] = []


async def let_go() -> None:
    """Close what was kept."""
    while KEPT_ONES:
        writer = KEPT_ONES.pop().writer
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def keep(port: int) -> Kept:
    kept = Kept(*await asyncio.open_connection("127.0.0.1", port))
    KEPT_ONES.append(kept)
    await kept.ask()
    return kept


async def test_thousands_of_idle_connections_cost_little_and_are_gone_in_time(iris: Trained) -> None:
    async with served(iris, "--max-connections", "4000", "--idle-timeout", "4") as (server, port):
        kept = await keep(port)
        before, files = memory(server), descriptors(server)
        silent = Silent(port, 3000)
        await until(lambda: descriptors(server) >= files + 3000)
        assert (memory(server) - before) / 3000 < BYTES_OF_A_CONNECTION
        for _ in range(20):
            await kept.ask()
        assert only(await ask(port, get("/v2"))).status == 200, "and there is room for more"
        assert silent.open == 3000
        await until(lambda: silent.open == 0, seconds=20)
        assert silent.told == 0
        await until(lambda: descriptors(server) <= files)
        await keep(port)
        silent.all.close()


async def test_a_flood_beyond_the_limit_is_cut_while_those_inside_go_on(iris: Trained) -> None:
    async with served(iris, "--max-connections", "20") as (server, port):
        inside = [await keep(port) for _ in range(20)]
        before, files = memory(server), descriptors(server)
        silent = Silent(port, 3000)
        slowest = max([await one.ask() for one in inside])
        await until(lambda: silent.open == 0, seconds=10)
        assert silent.told <= 300, "the others are cut"
        assert silent.cut > 2000
        assert descriptors(server) <= files + 300
        assert memory(server) - before < 16 * 1024 * 1024
        assert slowest < 1.0
        silent.all.close()
        await let_go()

        async def admitted() -> bool:
            return only(await ask(port, get("/v2"))).status == 200

        async with asyncio.timeout(10):
            while not await admitted():  # noqa: ASYNC110 - nobody tells when a connection ends
                await asyncio.sleep(0.1)


async def test_who_is_turned_away_is_bounded() -> None:
    async with echoing(Limits(connections=1)) as echo:
        first = await asyncio.open_connection("127.0.0.1", echo.port)
        await until(lambda: echo.server.connections == 1)
        with ExitStack() as sockets:
            flood = [sockets.enter_context(socket.socket()) for _ in range(600)]
            for one in flood:
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", echo.port))
            ends = [await asyncio.get_running_loop().sock_recv(one, 13) for one in flood]
        assert 256 <= ends.count(b"HTTP/1.1 503 ") <= 300
        assert ends.count(b"") + ends.count(b"HTTP/1.1 503 ") == 600
        first[1].close()


LOWERED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
runpy.run_module("solera_server", run_name="__main__", alter_sys=True)
"""


@asynccontextmanager
async def lowered(
    iris: Trained, tmp_path: Path, soft: int, hard: int, *more: str
) -> AsyncIterator[tuple[Process, int]]:
    script = tmp_path / "lowered.py"
    script.write_text(LOWERED.format(soft=soft, hard=hard))
    arguments = serve_arguments(iris.directory, "--name", "iris", *more)
    async with running(*arguments, command=(sys.executable, str(script))) as server:
        try:
            yield server, (await server.event("serving"))["port"]
        finally:
            await let_go()


async def test_without_descriptors_the_server_says_so_once_and_recovers(
    iris: Trained, tmp_path: Path
) -> None:
    """Both ports together may have one half of 120; who is turned away takes the others."""
    async with lowered(iris, tmp_path, 120, 120, "--idle-timeout", "4") as (server, port):
        warned = await server.event(
            "fewer connections than --max-connections: the process may not have more file descriptors"
        )
        assert (warned["connections"], warned["descriptors"], warned["ports"]) == (30, 120, 2)
        kept = await keep(port)
        management = int((await server.management_url()).rpartition(":")[2])
        silent = [Silent(port, 100), Silent(management, 100)]
        said = "no file descriptor is left: new connections are closed unheard"
        await server.event(said, seconds=10)
        used = _cpu_seconds(server)
        for _ in range(15):
            await kept.ask()
            await asyncio.sleep(0.1)
        assert _cpu_seconds(server) - used < 0.75, "it does not spin"
        assert len([event for event in server.events if event["event"] == said]) <= 2, "one for each port"
        await until(lambda: sum(one.open for one in silent) == 0, seconds=15)
        await until(lambda: descriptors(server) < 40)
        assert await server.ready()
        await keep(port)
        for one in silent:
            one.all.close()


@given(st.integers(1, 20_000), st.integers(1, 3))
def test_all_ports_of_a_process_fit_into_its_descriptors(descriptors: int, ports: int) -> None:
    each = fitting(descriptors, ports)
    assert each >= 1
    if descriptors >= 2 * ports:
        assert 2 * ports * each <= descriptors or ports * (each + SPARE) <= descriptors


@pytest.mark.parametrize(
    ("workers", "grpc", "ports"), [(1, False, 2), (1, True, 3), (4, False, 1), (4, True, 2)]
)
def test_which_ports_share_a_process(workers: int, ports: int, *, grpc: bool) -> None:
    assert ports_of_a_process(workers, grpc=grpc) == ports
    default = Limits().connections
    assert fitting(ports * (default + SPARE), ports) == default


async def test_the_soft_limit_of_descriptors_is_raised(iris: Trained, tmp_path: Path) -> None:
    async with lowered(iris, tmp_path, 200, 3072) as (server, port):
        silent = Silent(port, 400)
        await until(lambda: descriptors(server) >= 400)
        assert not [event for event in server.events if event["level"] != "info"]
        assert silent.open == 400
        silent.all.close()


def _cpu_seconds(server: Process) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
