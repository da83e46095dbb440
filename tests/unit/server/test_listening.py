"""Who has a port: two servers never share one, whoever of them was bound first or loads longer."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest
from raw_http import ask, get, only
from server_process import running, serve_arguments

from solera_core.failures import Failure, Reason
from solera_server import listening

if TYPE_CHECKING:
    from pathlib import Path

    from server_artifacts import Trained

# A server that loads until a file is there. With SHARED_BIND it sees nobody who is bound, as if both had
# bound the port at the same moment.
_WAITING = """
import os, sys, time
from pathlib import Path
from solera_server import listening, load as loading
from solera_server.cli import main

load = loading.load

def wait(*arguments):
    while not Path(os.environ["GO"]).exists():
        time.sleep(0.01)
    return load(*arguments)

loading.load = wait
if os.environ.get("SHARED_BIND"):
    listening._keep = lambda sets: None
sys.exit(main())
"""
WAITING = (sys.executable, "-c", _WAITING)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def port_option(kind: str, port: int) -> list[str]:
    return [f"--{kind}", str(port)]


@pytest.mark.parametrize("kind", ["port", "grpc-port"])
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_port_of_a_server_that_still_loads_is_taken(
    iris: Trained, tmp_path: Path, kind: str, workers: str
) -> None:
    go = tmp_path / "go"
    arguments = serve_arguments(iris.directory, *port_option(kind, free_port()), "--workers", workers)
    async with running(*arguments, command=WAITING, GO=str(go)) as first:
        await first.event("loading")
        async with running(*arguments) as second:
            assert await second.exit_code() == 75
            assert second.events[-1]["reason"] == "AddressUnavailable"
            assert f"--{kind}" in second.events[-1]["event"]
            assert not any(event["event"] == "loading" for event in second.events)
        go.touch()
        assert only(await ask((await first.event("serving"))["port"], get("/v2"))).status == 200


@pytest.mark.parametrize("kind", ["port", "grpc-port"])
@pytest.mark.parametrize(("early", "late"), [("1", "1"), ("2", "2"), ("2", "1"), ("1", "2")])
async def test_of_two_that_bound_at_the_same_moment_one_serves(
    iris: Trained, tmp_path: Path, kind: str, early: str, late: str
) -> None:
    port, go = free_port(), tmp_path / "go"
    arguments = serve_arguments(iris.directory, *port_option(kind, port))
    how: dict[str, str] = {"GO": str(go), "SHARED_BIND": "yes"}
    async with running(*arguments, "--workers", late, command=WAITING, **how) as second:
        await second.event("loading")
        how["GO"] = str(tmp_path)
        async with running(*arguments, "--workers", early, command=WAITING, **how) as first:
            serving = await first.event("serving")
            go.touch()
            assert await second.exit_code() == 75
            assert second.events[-1]["reason"] == "AddressUnavailable"
            assert f"127.0.0.1:{port}: Address already in use; see --{kind}" in second.events[-1]["event"]
            assert only(await ask(serving["port"], get("/v2"))).status == 200


async def test_a_port_is_had_again_at_once_after_connections_that_the_server_ended(iris: Trained) -> None:
    """They are in TIME_WAIT, on the server's side."""
    port = str(free_port())
    for workers in ("1", "2", "1"):
        arguments = serve_arguments(
            iris.directory, "--port", port, "--workers", workers, "--drain-delay", "0"
        )
        async with running(*arguments) as server:
            await server.event("serving")
            for _ in range(4):
                only(await ask(int(port), get("/v2")))
            server.process.terminate()
            assert await server.exit_code(20) == 0


@pytest.mark.parametrize("host", ["127.0.0.1", None])
@pytest.mark.parametrize("copies", [1, 3])
def test_a_bound_port_is_nobody_elses(host: str | None, copies: int) -> None:
    port = free_port()
    sets = listening.bind(host, port, copies)
    try:
        for attempt in (1, 2):
            with pytest.raises(OSError, match="in use"):
                listening.bind(host, port, attempt)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        listening.listen(sets)
        with pytest.raises(OSError, match="in use"):
            listening.bind(host, port, 2)
        assert _taken(sets, port) == set(range(copies))
    finally:
        _close(sets)


def _taken(sets: list[list[socket.socket]], port: int) -> set[int]:
    """Connect often, and return the numbers of the sets that were given connections."""
    found = set()
    for _ in range(40 * len(sets)):
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
    for number, sockets in enumerate(sets):
        if listening.waiting(sockets):
            found.add(number)
    return found


def test_grpc_holds_its_port_until_it_is_given() -> None:
    hold = listening.GrpcHold("127.0.0.1", 0)
    with pytest.raises(Failure) as caught:
        listening.GrpcHold("127.0.0.1", hold.port)
    assert caught.value.reason is Reason.ADDRESS_UNAVAILABLE
    hold.claim()
    with socket.socket() as own:  # as gRPC does
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.bind(("127.0.0.1", hold.port))
        own.listen()
        hold.give()
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", hold.port), timeout=5):
                own.accept()[0].close()
    _close([hold._held])


def _close(sets: list[list[socket.socket]]) -> None:
    for sockets in sets:
        for one in sockets:
            one.close()
