"""A test that fails with a connection open says so and ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

LEFT_OPEN = """
import asyncio, socket
from closing_loop import ClosingLoop

async def fail(port):
    await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", port)
    raise LookupError("why the test failed")

with socket.create_server(("127.0.0.1", 0)) as peer:  # which never ends a connection
    with asyncio.Runner(loop_factory=ClosingLoop) as runner:
        runner.run(fail(peer.getsockname()[1]))
"""


def test_what_was_left_open_is_named_after_the_failure_and_nothing_hangs() -> None:
    # A process of its own: what is tested against cannot be interrupted.
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", LEFT_OPEN],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 1
    assert "LookupError: why the test failed" in finished.stderr
    assert finished.stderr.splitlines()[-1].startswith("ResourceWarning: unclosed resource <TCPTransport")


async def test_these_tests_run_on_it() -> None:
    assert type(asyncio.get_running_loop()).__name__ == "ClosingLoop"
