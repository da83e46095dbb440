"""Several worker processes on one port: real ones, some of which are killed or stopped while clients ask."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from raw_http import Answer, answers, ask, only, post, until
from server_process import COMMAND, Process, running, serve_arguments

from solera_server.board import Board, PoolHealth, Stage
from solera_server.supervisor import Restarts
from solera_server.threads import allow_threads, limit_threads, worker_count

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from server_artifacts import Trained

BODY = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]}).encode()
KEPT = post("/v1/models/iris:predict", BODY, close=False)
LAST = post("/v1/models/iris:predict", BODY)
RIGHT = {"predictions": ["setosa"]}


class Pool:
    """A server with two workers."""

    def __init__(self, process: Process, port: int, management: str) -> None:
        self.process = process
        self.port = port
        self.management = management
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    def hang_up(self) -> None:
        """Close the connections of all clients."""
        while self.clients:
            self.clients.pop().writer.close()

    async def becomes(self, path: str, status: int, seconds: float = 10.0) -> str:
        """Wait until a path of the management port is answered with a status, and return its text."""
        answer = await self.get(path)
        for _ in range(int(seconds / 0.1)):
            if answer.status_code == status:
                return answer.text
            await asyncio.sleep(0.1)
            answer = await self.get(path)
        raise AssertionError(f"{path}: {answer.status_code} {answer.text}, not {status}")

    def signal(self, number: signal.Signals) -> None:
        self.process.process.send_signal(number)

    @property
    def workers(self) -> dict[int, int]:
        """Pids of the workers by slot, the latest of each."""
        serving = [event for event in self.process.events if event["event"] == "worker serves"]
        return {event["worker"]: event["pid"] for event in serving}

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.get(f"{self.management}{path}")

    async def said(self, event: str, count: int = 1, seconds: float = 20.0) -> dict[str, Any]:
        """Wait until an event has been logged so many times, and return the last."""

        def found() -> list[dict[str, Any]]:
            return [one for one in self.process.events if one["event"] == event]

        await until(lambda: len(found()) >= count, seconds)
        return found()[-1]


@asynccontextmanager
async def pool(
    iris: Trained, *more: str, command: tuple[str, ...] = COMMAND, **environ: str
) -> AsyncIterator[Pool]:
    arguments = serve_arguments(
        iris.directory, "--name", "iris", "--workers", "2", "--log-level", "debug", *more
    )
    async with running(*arguments, command=command, **environ) as process:
        event = await process.event("serving")
        management = await process.management_url()
        found = Pool(process, event["port"], management)
        assert sorted(found.workers) == [0, 1]
        try:
            yield found
        finally:
            found.hang_up()
        if process.process.returncode is None:
            found.signal(signal.SIGINT)
            assert await process.exit_code(20) == 0


class Client:
    """A connection that is kept, and the worker at its other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self) -> Answer:
        self.writer.write(KEPT)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return only(answers(head + await self.reader.readexactly(length)))

    def worker(self, pids: list[int]) -> int:
        """Find the process that has the other end: by the inode of its socket."""
        mine = self.writer.get_extra_info("sockname")[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[2].rpartition(":")[2], 16) == mine:
                inode = f"socket:[{fields[9]}]"
                for pid in pids:
                    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                        if str(descriptor.readlink()) == inode:
                            return pid
        raise AssertionError(f"nobody has the other end of {mine}")


async def connect_to_each(server: Pool) -> dict[int, list[Client]]:
    """Open connections until each worker has some, and return them by worker."""
    found: dict[int, list[Client]] = {pid: [] for pid in server.workers.values()}
    for _ in range(200):
        client = await server.connect()
        assert json.loads((await client.ask()).body) == RIGHT
        found[client.worker(list(found))].append(client)
        if all(len(clients) >= 2 for clients in found.values()):
            return found
    raise AssertionError({pid: len(clients) for pid, clients in found.items()})


async def test_a_kill_costs_one_worker_its_connections_and_nobody_else(iris: Trained) -> None:
    async with pool(iris) as server:
        clients = await connect_to_each(server)
        dead, other = server.workers[0], server.workers[1]
        failures: list[BaseException] = []
        answered = 0
        stop = asyncio.Event()

        async def keep_asking(client: Client) -> None:
            nonlocal answered
            while not stop.is_set():
                try:
                    answer = await client.ask()
                except (OSError, asyncio.IncompleteReadError) as error:
                    failures.append(error)
                    return
                assert json.loads(answer.body) == RIGHT
                answered += 1

        tasks = [asyncio.create_task(keep_asking(client)) for client in clients[other]]
        doomed = [asyncio.create_task(keep_asking(client)) for client in clients[dead]]
        await until(lambda: answered >= 50)
        os.kill(dead, signal.SIGKILL)
        await asyncio.wait_for(asyncio.gather(*doomed), 10)
        assert len(failures) == len(doomed), "whoever was at the dead worker notices"
        await server.said("worker serves", 3)
        before = answered
        await until(lambda: answered >= before + 50)
        stop.set()
        await asyncio.gather(*tasks)
        assert len(failures) == len(doomed), failures
        assert server.workers[1] == other
        assert server.workers[0] != dead
        ended = await server.said("a worker ended and is replaced")
        assert (ended["worker"], ended["pid"]) == (0, dead)
        assert ended["status"].startswith("SIGKILL")
        server.hang_up()
        assert await connect_to_each(server), "both workers take connections"
        assert (await server.get("/readyz")).status_code == 200


async def test_what_waits_at_a_worker_that_dies_is_answered_by_the_next(iris: Trained) -> None:
    """A stopped worker takes no connections; those that the kernel gave to it outlive it."""
    async with pool(iris) as server:
        stopped = server.workers[1]
        os.kill(stopped, signal.SIGSTOP)
        asking = [asyncio.create_task(ask(server.port, LAST, seconds=20)) for _ in range(24)]
        await until(lambda: sum(task.done() for task in asking) >= 1)
        done, waiting = await asyncio.wait(asking, timeout=0.5)
        assert done, "none came to the worker that goes on"
        assert waiting, "none came to the worker that is stopped"
        os.kill(stopped, signal.SIGKILL)
        for answer in await asyncio.gather(*asking):
            assert json.loads(only(answer).body) == RIGHT


@pytest.mark.parametrize("death", ["unnoticed", "to be replaced", "while draining"])
async def test_what_waits_at_a_worker_that_died_is_answered_though_the_server_ends(
    iris: Trained, death: str
) -> None:
    """A stopped worker takes no connections; then it is killed, and the server is told to end."""
    async with pool(iris, "--drain-delay", "1", "--drain-timeout", "10") as server:
        if death == "to be replaced":  # the fifth is replaced after 0.8 s
            for count in range(4):
                os.kill(server.workers[1], signal.SIGKILL)
                await server.said("worker serves", 3 + count)
        stopped = server.workers[1]
        os.kill(stopped, signal.SIGSTOP)
        asking = [asyncio.create_task(ask(server.port, LAST, seconds=20)) for _ in range(24)]
        await until(lambda: sum(task.done() for task in asking) >= 1)
        done, waiting = await asyncio.wait(asking, timeout=0.5)
        assert done, "none came to the worker that goes on"
        assert waiting, "none came to the worker that is stopped"
        await _end_with(server, stopped, death)
        for answer in await asyncio.gather(*asking):
            assert json.loads(only(answer).body) == RIGHT
        assert await server.process.exit_code(20) == 0
        assert (await server.said("stopped"))["connections_cut"] == 0


async def _end_with(server: Pool, doomed: int, death: str) -> None:
    """Send SIGTERM to the parent and SIGKILL to a worker."""
    if death == "unnoticed":
        server.signal(signal.SIGSTOP)
        os.kill(doomed, signal.SIGKILL)
        await until(lambda: not _alive(doomed))
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGCONT)
    elif death == "to be replaced":
        os.kill(doomed, signal.SIGKILL)
        await server.said("a worker ended and is replaced", 5)
        server.signal(signal.SIGTERM)
    else:
        server.signal(signal.SIGTERM)
        await server.said("draining")
        os.kill(doomed, signal.SIGKILL)
        assert (await server.said("a worker ended while draining"))["replaced"]


async def test_a_worker_that_dies_again_and_again_does_not_prolong_the_end(iris: Trained) -> None:
    async with pool(iris, "--drain-delay", "1", "--drain-timeout", "1") as server:
        spared = {server.workers[1], _manager(server)}
        server.signal(signal.SIGTERM)
        await server.said("draining")
        begun, killed = monotonic(), set[int]()
        while server.process.process.returncode is None:
            assert monotonic() - begun < 1 + 1 + 5 + 3, f"{len(killed)} killed, and it has not ended"
            for pid in set(_children(server)) - spared - killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            await asyncio.sleep(0.005)
        assert len(killed) >= 2, "none was replaced"
        assert await server.process.exit_code(5) == 0


_FAILING_FORK = """
import errno, os, sys
from solera_server.cli import main

fork, refusals = os.fork, [2]

def refusing():
    if not os.path.exists(os.environ["REFUSE_FORK"]) or not refusals[0]:
        return fork()
    refusals[0] -= 1
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

os.fork = refusing
sys.exit(main())
"""


@pytest.mark.parametrize("lacking", ["processes", "descriptors"])
async def test_a_worker_that_cannot_be_started_is_started_later(
    iris: Trained, tmp_path: Path, lacking: str
) -> None:
    """Descriptors are really lacking; that no process can be had is simulated, as it does not bind root."""
    switch = tmp_path / "refuse"
    command = (sys.executable, "-c", _FAILING_FORK) if lacking == "processes" else COMMAND
    async with pool(iris, command=command, REFUSE_FORK=str(switch)) as server:
        parent, (dead, other) = server.process.process.pid, (server.workers[0], server.workers[1])
        [client, *_] = (await connect_to_each(server))[other]
        before = _descriptors_and_signals(parent)
        limits = resource.prlimit(parent, resource.RLIMIT_NOFILE)
        if lacking == "processes":
            switch.touch()
        else:
            resource.prlimit(parent, resource.RLIMIT_NOFILE, (3, limits[1]))
        os.kill(dead, signal.SIGKILL)
        failed = await server.said("a process cannot be started", 2)
        assert failed["worker"] == 0
        assert os.strerror(errno.EAGAIN if lacking == "processes" else errno.EMFILE) in failed["error"]
        assert json.loads((await client.ask()).body) == RIGHT, "the other worker goes on"
        resource.prlimit(parent, resource.RLIMIT_NOFILE, limits)
        await server.said("worker serves", 3)
        assert server.workers[0] != dead
        assert _descriptors_and_signals(parent) == before
        server.hang_up()
        assert await connect_to_each(server), "both workers take connections"
        server.signal(signal.SIGTERM)
        server.hang_up()
        assert await server.process.exit_code(20) == 0


def _descriptors_and_signals(pid: int) -> tuple[int, list[str]]:
    """Return how many descriptors a process has open, and the signals that it blocks, ignores and catches."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    signals = [line for line in status if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), signals


def _children(server: Pool) -> list[int]:
    parent = server.process.process.pid
    try:
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _manager(server: Pool) -> int:
    return next(pid for pid in _children(server) if pid not in server.workers.values())


async def test_metrics_of_the_workers_add_up(iris: Trained) -> None:
    async with pool(iris) as server:
        clients = await connect_to_each(server)
        sent = sum(len(some) for some in clients.values())
        name = 'solera_server_requests_total{code="200",model="iris",protocol="v1",version='

        async def counted() -> dict[str, float]:
            lines = (await server.get("/metrics")).text.splitlines()
            return {
                line.partition("{")[0]: float(line.split()[-1])
                for line in lines
                if line.startswith((name, "solera_server_connections", "solera_server_rows_total"))
            }

        async def becomes(connections: int) -> None:
            expected = {
                "solera_server_requests_total": sent,
                "solera_server_rows_total": sent,
                "solera_server_connections": connections,
            }
            seen: dict[str, float] = {}
            for _ in range(40):
                seen = await counted()
                if seen == expected:
                    return
                await asyncio.sleep(0.05)
            raise AssertionError(f"{seen} instead of {expected}")

        await becomes(sent)
        os.kill(server.workers[0], signal.SIGKILL)
        await server.said("worker serves", 3)
        await becomes(len(clients[server.workers[1]]))
        server.hang_up()
        for _ in range(10):
            only(await ask(server.port, LAST))
            sent += 1
        await becomes(0)
        metrics = (await server.get("/metrics")).text
        assert 'solera_server_ready{model="iris"' in metrics
        assert f'digest="{iris.digest}"' in metrics


async def test_sigterm_while_busy_loses_no_request(iris: Trained) -> None:
    """Kept connections of clients that go elsewhere once readiness has fallen."""
    async with pool(iris, "--drain-delay", "1") as server:
        answered = 0
        failed: list[str] = []

        async def keep_asking() -> None:
            nonlocal answered
            async with httpx.AsyncClient(timeout=10) as client:
                while await server.process.ready():
                    for _ in range(10):
                        try:
                            answer = await client.post(
                                f"http://127.0.0.1:{server.port}/v1/models/iris:predict", content=BODY
                            )
                            assert answer.json() == RIGHT
                            answered += 1
                        except (httpx.HTTPError, AssertionError) as error:
                            failed.append(repr(error))

        tasks = [asyncio.create_task(keep_asking()) for _ in range(6)]
        await until(lambda: answered >= 200, seconds=30)
        before = answered
        server.signal(signal.SIGTERM)
        await asyncio.gather(*tasks)
        assert failed == []
        assert answered > before
        assert await server.process.exit_code(20) == 0
        assert (await server.said("stopped"))["connections_cut"] == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_port_that_closes_resets_nobody(iris: Trained, workers: str) -> None:
    """A new connection for each request, and no delay: what was connected is answered, the rest refused."""
    async with pool(iris, "--drain-delay", "0") if workers == "2" else _single(iris) as server:
        answered, refused = 0, 0
        failed: list[str] = []

        async def keep_asking() -> None:
            nonlocal answered, refused
            while True:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                except ConnectionRefusedError:
                    refused += 1
                    return
                try:
                    writer.write(LAST)
                    answer = only(answers(await reader.read()))
                    assert json.loads(answer.body) == RIGHT
                    answered += 1
                except (OSError, AssertionError) as error:
                    failed.append(repr(error))
                finally:
                    writer.close()

        tasks = [asyncio.create_task(keep_asking()) for _ in range(16)]
        await until(lambda: answered >= 200, seconds=30)
        server.signal(signal.SIGTERM)
        await asyncio.wait_for(asyncio.gather(*tasks), 20)
        assert failed == []
        assert refused == 16
        assert await server.process.exit_code(20) == 0


@asynccontextmanager
async def _single(iris: Trained) -> AsyncIterator[Pool]:
    arguments = serve_arguments(iris.directory, "--name", "iris", "--drain-delay", "0")
    async with running(*arguments) as process:
        event = await process.event("serving")
        yield Pool(process, event["port"], await process.management_url())


async def test_a_worker_that_hangs_fails_the_liveness_probe_and_is_replaced(iris: Trained) -> None:
    async with pool(iris, "--stall-timeout", "1") as server:
        assert (await server.get("/livez")).status_code == 200
        hung = server.workers[1]
        os.kill(hung, signal.SIGSTOP)
        reason = await server.becomes("/livez", 503)
        assert reason.startswith("worker 1: its event loop has not moved for")
        assert (await server.get("/readyz")).status_code == 503
        killed = await server.said("a worker hangs and is killed")
        assert killed["worker"] == 1
        await server.said("worker serves", 3)
        assert server.workers[1] != hung
        await server.becomes("/readyz", 200)
        assert (await server.get("/livez")).status_code == 200


async def test_workers_that_die_again_and_again_end_the_server(iris: Trained) -> None:
    async with pool(iris, "--drain-delay", "0") as server:
        for death in range(Restarts.GIVE_UP):
            await server.said("worker serves", 2 + death, seconds=30)
            os.kill(server.workers[0], signal.SIGKILL)
        assert await server.process.exit_code(30) == 70
        last = server.process.events[-1]
        assert last["reason"] == "InternalError"
        assert "8 processes of the server ended within 60 s, the last by SIGKILL" in last["event"]


async def test_workers_end_with_their_parent(iris: Trained) -> None:
    async with pool(iris) as server:
        children = _children(server)
        assert len(children) == 3
        server.signal(signal.SIGKILL)
        assert await server.process.exit_code() == -signal.SIGKILL
        await until(lambda: not any(_alive(pid) for pid in children))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_the_manager_is_replaced_too(iris: Trained) -> None:
    async with pool(iris) as server:
        os.kill(_manager(server), signal.SIGKILL)
        await server.said("the process of the management port ended")
        assert await server.becomes("/readyz", 200) == "ok\n"


async def test_sigterm_to_one_worker_replaces_it_without_loss(iris: Trained) -> None:
    async with pool(iris, "--drain-delay", "0") as server:
        await connect_to_each(server)
        old = server.workers[0]
        os.kill(old, signal.SIGTERM)
        ended = await server.said("a worker ended and is replaced")
        assert ended["status"] == "exit code 0"
        await server.said("worker serves", 3)
        for _ in range(20):
            assert json.loads(only(await ask(server.port, LAST)).body) == RIGHT


async def test_sigterm_while_the_model_loads_ends_all(iris: Trained) -> None:
    async with running(*serve_arguments(iris.directory, "--workers", "2")) as server:
        await server.event("loading")
        server.process.send_signal(signal.SIGTERM)
        assert await server.exit_code(seconds=10) == 0
    assert server.events[-1]["event"] == "stopped while loading"


@pytest.mark.parametrize("option", ["--port", "--management-port"])
async def test_a_port_in_use_is_said_also_if_it_would_be_shared(iris: Trained, option: str) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        async with running(*serve_arguments(iris.directory, "--workers", "2", option, port)) as server:
            assert await server.exit_code() == 75
        assert server.events[-1]["reason"] == "AddressUnavailable"
        assert option in server.events[-1]["event"]


async def test_a_model_that_cannot_be_served_ends_all(iris: Trained, tmp_path: Path) -> None:
    async with running(*serve_arguments(tmp_path, "--workers", "2")) as server:
        assert await server.exit_code() == 65
    assert server.events[-1]["reason"] == "ArtifactCorrupt"


# -- decisions -------------------------------------------------------------------------------------


def test_restarts_come_later_and_later_and_then_not_at_all() -> None:
    restarts = Restarts()
    delays = [restarts.delay(time) for time in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)]
    assert delays == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, None]
    assert Restarts().delay(0.0) == 0.0


def test_deaths_far_apart_are_replaced_at_once() -> None:
    restarts = Restarts()
    assert [restarts.delay(index * Restarts.WINDOW_SECONDS) for index in range(100)] == [0.0] * 100


def test_health_of_the_pool() -> None:
    board, now = Board(2), 1e9
    loading = PoolHealth(board, 60.0, loaded=False)
    assert loading.live().good
    assert loading.ready().reason == "loading"
    health = PoolHealth(board, 60.0, loaded=True)
    board.occupy(0, Stage.SERVING, 1)
    board.occupy(1, Stage.STARTING, 2)
    assert health.ready().reason == "starting"
    board.occupy(1, Stage.SERVING, 2)
    assert health.ready().good
    board.occupy(1, Stage.AWAY)
    assert health.ready().good, "it is being replaced"
    board.occupy(1, Stage.SERVING, 3)
    board.beat(1, busy_seconds=61.0)
    assert health.live().reason == "worker 1: a prediction has been running for 61 s"
    assert not health.ready().good
    board.beat(1, busy_seconds=0.0)
    late = PoolHealth(board, 60.0, loaded=True, clock=lambda: now)
    assert late.live().reason.startswith("worker 0: its event loop has not moved for")
    board.start_draining()
    assert health.ready().reason == "draining"
    assert health.live().good
    assert sorted(board.pids()) == [1, 3]


def test_the_number_of_workers_follows_the_cpus() -> None:
    assert worker_count({}, usable=2.5) == 2
    assert worker_count({"SOLERA_CPUS": "500m"}, usable=8) == 1
    assert worker_count({"SOLERA_CPUS": "3"}, usable=8) == 3
    assert worker_count({"SOLERA_CPUS": "64"}, usable=4) == 4
    assert worker_count({"SOLERA_CPUS": "64"}, usable=64) == 16
    with pytest.raises(ValueError, match="positive"):
        worker_count({"SOLERA_CPUS": "-1"}, usable=2)


def test_threads_are_shared_out_among_workers() -> None:
    environ = {"SOLERA_CPUS": "8"}
    assert limit_threads(environ, usable=8, workers=4) == 2
    assert environ["OMP_NUM_THREADS"] == "1", "until after the fork"
    assert limit_threads({"SOLERA_CPUS": "2"}, usable=8, workers=4) == 1
    assert limit_threads({"OMP_NUM_THREADS": "3"}, usable=8, workers=4) == 3
    alone: dict[str, str] = {"OMP_NUM_THREADS": "3"}
    assert limit_threads(alone, usable=8) == 1
    assert alone["OMP_NUM_THREADS"] == "3"


def test_workers_may_have_threads_of_their_own() -> None:
    import sklearn  # noqa: F401 - its libraries are what is given threads
    from threadpoolctl import threadpool_info, threadpool_limits

    with threadpool_limits(1):
        allow_threads(2)
        assert max(library["num_threads"] for library in threadpool_info()) == 2
