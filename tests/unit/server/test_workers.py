"""Several worker processes on one port: real ones, some of which are killed or stopped while clients ask."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from raw_http import ask, only, until
from server_process import COMMAND

from solera_server.board import Board, PoolHealth, Stage
from solera_server.supervisor import Restarts
from solera_server.threads import allow_threads, limit_threads, worker_count

if TYPE_CHECKING:
    from server_artifacts import Trained

from worker_pool import LAST, RIGHT, Client, asking_while_one_stands_still, connect_to_each, manager, pool


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
        stopped, asking = await asking_while_one_stands_still(server)
        os.kill(stopped, signal.SIGKILL)
        for answer in await asyncio.gather(*asking):
            assert json.loads(only(answer).body) == RIGHT


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


async def test_the_manager_is_replaced_too(iris: Trained) -> None:
    async with pool(iris) as server:
        os.kill(manager(server), signal.SIGKILL)
        await server.said("the process of the management port ended")
        assert await server.becomes("/readyz", 200) == "ok\n"


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
