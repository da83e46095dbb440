"""A server of several worker processes for tests: its workers, and clients who know at which one they are."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from raw_http import Answer, answers, ask, only, post, until
from server_process import COMMAND, Process, running, serve_arguments

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


def children(server: Pool) -> list[int]:
    parent = server.process.process.pid
    try:
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except FileNotFoundError:
        return []


def manager(server: Pool) -> int:
    return next(pid for pid in children(server) if pid not in server.workers.values())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def asking_while_one_stands_still(server: Pool) -> tuple[int, list[asyncio.Task[Any]]]:
    """Stop a worker, which takes no connections then, and ask until some wait at it: its pid and who asks."""
    stopped = server.workers[1]
    os.kill(stopped, signal.SIGSTOP)
    asking = [asyncio.create_task(ask(server.port, LAST, seconds=20)) for _ in range(24)]
    await until(lambda: sum(task.done() for task in asking) >= 1)
    done, waiting = await asyncio.wait(asking, timeout=0.5)
    assert done, "none came to the worker that goes on"
    assert waiting, "none came to the worker that is stopped"
    return stopped, asking
