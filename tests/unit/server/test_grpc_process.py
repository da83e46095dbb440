"""The server's process with a port of gRPC: it answers, drains, and tells what is wrong with the port."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_calls import connected, infer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from raw_http import until
from server_process import Process, running, serve_arguments

if TYPE_CHECKING:
    from server_artifacts import Trained


async def grpc_port(server: Process) -> int:
    return int((await server.event("serving"))["grpc_port"])


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_process_answers_and_drains_without_losing_a_request(iris: Trained, workers: int) -> None:
    arguments = serve_arguments(
        iris.directory, "--name", "iris", "--grpc-port", "0", "--workers", str(workers)
    )
    async with running(*arguments, "--drain-delay", "1") as server:
        port = await grpc_port(server)
        stop = asyncio.Event()
        failed: list[str] = []
        answered = 0

        async def client() -> None:
            nonlocal answered
            async with connected(port) as one:
                while not stop.is_set():
                    try:
                        await one.call("ModelInfer", infer())
                        answered += 1
                    except grpc.aio.AioRpcError as error:
                        failed.append(f"{error.code()} {error.details()}")

        clients = [asyncio.create_task(client()) for _ in range(8)]
        await until(lambda: answered > 100)
        async with connected(port) as one:
            watch = health_pb2_grpc.HealthStub(one.channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
            await watch.read()
            server.process.terminate()
            # Readiness falls at once, while requests are still answered ...
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.ServingStatus.NOT_SERVING
            watch.cancel()
        before = answered
        await until(lambda: answered > before + 50)
        # ... and whoever has heard of it has gone before the port is closed.
        stop.set()
        await asyncio.gather(*clients)
        assert failed == []
        assert await server.exit_code() == 0


async def test_clients_find_another_worker_when_theirs_dies(iris: Trained) -> None:
    arguments = serve_arguments(iris.directory, "--name", "iris", "--grpc-port", "0", "--workers", "2")
    async with running(*arguments, "--log-level", "debug") as server:
        port = await grpc_port(server)
        async with connected(port) as one, connected(port) as other:
            for client in (one, other):
                await client.call("ModelInfer", infer())
            pids = {event["pid"] for event in server.events if event["event"] == "worker serves"}
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            # What is sent before a client has heard of it fails with UNAVAILABLE.
            ready = grpc.ChannelConnectivity.READY
            await until(lambda: ready not in {client.channel.get_state() for client in (one, other)})
            for client in (one, other):
                await client.call("ModelInfer", infer(), wait_for_ready=True)


async def test_what_is_in_flight_when_the_port_closes_is_answered(iris: Trained) -> None:
    arguments = serve_arguments(iris.directory, "--name", "iris", "--grpc-port", "0", "--drain-delay", "0")
    async with (
        running(*arguments, "--max-in-flight", "100000") as server,
        connected(await grpc_port(server)) as one,
    ):
        await one("ServerReady")
        calls = [one.call("ModelInfer", infer(2000)) for _ in range(40)]
        await asyncio.sleep(0.05)  # they are on their way; some are being answered
        server.process.terminate()
        found = await asyncio.gather(*(call.code() for call in calls))
        assert set(found) == {grpc.StatusCode.OK}
        assert await server.exit_code() == 0


async def test_a_port_that_is_taken_is_told_before_the_model_is_loaded(iris: Trained) -> None:
    taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    async with running(*serve_arguments(iris.directory, "--grpc-port", str(port))) as server:
        assert await server.exit_code() == 75
        assert "--grpc-port" in str(server.events[-1])
    taken.close()
    await taken.wait_closed()


async def test_without_the_option_grpc_is_not_even_imported(iris: Trained) -> None:
    async with running(*serve_arguments(iris.directory)) as server:
        serving = await server.event("serving")
        assert "grpc_port" not in serving
        maps = Path(f"/proc/{server.process.pid}/maps").read_text(encoding="utf-8")
        assert "cygrpc" not in maps
