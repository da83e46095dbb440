"""A real server process on loopback, with what it wrote."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


COMMAND = (sys.executable, "-m", "solera_server")


class Process:
    """``events`` are the lines that it logged so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self._reading = asyncio.create_task(self._read())
        self._arrived = asyncio.Condition()

    async def event(self, name: str, seconds: float = 60.0) -> dict[str, Any]:
        """Wait for the first event of a name."""
        async with asyncio.timeout(seconds), self._arrived:
            while True:
                for event in self.events:
                    if event["event"] == name:
                        return event
                if self._reading.done():
                    raise AssertionError(f"the process ended without {name!r}: {self.events}")
                await self._arrived.wait()

    async def exit_code(self, seconds: float = 60.0) -> int:
        async with asyncio.timeout(seconds):
            await self._reading
            return await self.process.wait()

    async def url(self) -> str:
        return f"http://127.0.0.1:{(await self.event('serving'))['port']}"

    async def management_url(self) -> str:
        return f"http://127.0.0.1:{(await self.event('loading'))['management_port']}"

    async def ready(self) -> bool:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{await self.management_url()}/readyz")).status_code == 200

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._arrived:
                self.events.append(json.loads(line))
                self._arrived.notify_all()
        async with self._arrived:
            self._arrived.notify_all()


@asynccontextmanager
async def running(
    *arguments: str | Path, command: tuple[str, ...] = COMMAND, **environ: str
) -> AsyncIterator[Process]:
    """Run ``python -m solera_server`` and kill it at the end if it still runs."""
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    process = await asyncio.create_subprocess_exec(
        *command,
        *map(str, arguments),
        stderr=asyncio.subprocess.PIPE,
        env={**inherited, **environ},
    )
    server = Process(process)
    try:
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        await server.exit_code()


def serve_arguments(directory: Path, *more: str) -> list[str | Path]:
    """One process, unless ``more`` says otherwise."""
    return ["serve", "--model", directory, "--port", "0", "--management-port", "0", "--workers", "1", *more]
