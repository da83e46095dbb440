"""How a server of several workers ends: nobody who waits is lost, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import httpx
import pytest
from raw_http import answers, ask, only, until
from server_process import running, serve_arguments

from solera_server.supervisor import Restarts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from server_artifacts import Trained

from worker_pool import (
    BODY,
    LAST,
    RIGHT,
    Pool,
    alive,
    asking_while_one_stands_still,
    children,
    connect_to_each,
    manager,
    pool,
)


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
        stopped, asking = await asking_while_one_stands_still(server)
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
        await until(lambda: not alive(doomed))
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
        spared = {server.workers[1], manager(server)}
        server.signal(signal.SIGTERM)
        await server.said("draining")
        begun, killed = monotonic(), set[int]()
        while server.process.process.returncode is None:
            assert monotonic() - begun < 1 + 1 + 5 + 3, f"{len(killed)} killed, and it has not ended"
            for pid in set(children(server)) - spared - killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            await asyncio.sleep(0.005)
        assert len(killed) >= 2, "none was replaced"
        assert await server.process.exit_code(5) == 0


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
        there = children(server)
        assert len(there) == 3
        server.signal(signal.SIGKILL)
        assert await server.process.exit_code() == -signal.SIGKILL
        await until(lambda: not any(alive(pid) for pid in there))


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
