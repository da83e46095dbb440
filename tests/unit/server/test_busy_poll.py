"""The loop stays awake for requests that come at once, and sleeps where they do not."""

from __future__ import annotations

import asyncio
import json
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from raw_http import until
from server_process import running, serve_arguments

from solera_server import busy_poll
from solera_server.busy_poll import DEFAULT_SECONDS, BusyPoll, default_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from server_artifacts import Trained

ENOUGH = 9
"""After so many answers, each with a request at once behind it, the loop stays awake."""
BODY = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]})


class Calls:
    """An event loop as far as it keeps what is due."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []
        self.begun = 0

    def call_soon(self, call: Callable[[], None]) -> None:
        self.due.append(call)

    def turn(self) -> None:
        due, self.due = self.due, []
        for call in due:
            call()

    def begin(self) -> None:
        self.begun += 1

    def poll(self, seconds: float, computing: Callable[[], object] = lambda: False) -> BusyPoll:
        return BusyPoll(cast("asyncio.AbstractEventLoop", self), seconds, computing, self.begin)


def exchange(poll: BusyPoll, now: float, times: int, apart: float = 0.0) -> float:
    """Have answers, each ``apart`` from the request after it; return when the last one was."""
    for _ in range(times):
        poll.arrived(now)
        poll.answered(now)
        now += apart
    return now - apart


def test_it_stays_awake_after_a_row_of_requests_that_came_at_once() -> None:
    loop = Calls()
    poll = loop.poll(60.0)
    exchange(poll, perf_counter(), ENOUGH - 1)
    assert not loop.due
    exchange(poll, perf_counter(), 5)
    for _ in range(100):
        assert len(loop.due) == 1, "one look at a time, however many answers"
        loop.turn()
    assert loop.begun == 1


def test_it_sleeps_when_nothing_comes_and_must_be_convinced_again() -> None:
    loop = Calls()
    poll = loop.poll(1e-6)
    exchange(poll, 1000.0, ENOUGH)
    loop.turn()
    assert len(loop.due) == 1, "the time begins with the first look, when the answer is written"
    loop.turn()
    assert not loop.due, "the time is over"
    exchange(poll, 1000.0, ENOUGH - 2)
    assert not loop.due
    exchange(poll, 1000.0, 1)
    assert (len(loop.due), loop.begun) == (1, 2)


@pytest.mark.parametrize(("apart", "awake"), [(2.9, True), (3.1, False)])
def test_to_be_woken_takes_longer_than_to_stay_awake(apart: float, *, awake: bool) -> None:
    loop = Calls()
    exchange(loop.poll(1.0), perf_counter(), 100, apart)
    assert bool(loop.due) is awake


def test_one_that_comes_late_breaks_the_row() -> None:
    loop = Calls()
    poll = loop.poll(1.0)
    last = exchange(poll, 1000.0, ENOUGH - 1)
    exchange(poll, last + 60, ENOUGH - 1)
    assert not loop.due


def test_it_sleeps_while_a_thread_computes() -> None:
    loop = Calls()
    busy: list[int] = []
    exchange(loop.poll(60.0, lambda: busy), perf_counter(), ENOUGH)
    loop.turn()
    assert loop.due
    busy.append(1)
    loop.turn()
    assert not loop.due


class Crowd:
    """Stands for the others that want the CPU: what is yielded to them comes back after ``seconds``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.seconds = 0.0
        self.yielded = 0
        monkeypatch.setattr(busy_poll, "perf_counter", lambda: self.now)
        monkeypatch.setattr(busy_poll.os, "sched_yield", self._yield)

    def _yield(self) -> None:
        self.yielded += 1
        self.now += self.seconds


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Crowd:
    return Crowd(monkeypatch)


def test_it_yields_the_cpu_where_nothing_waits_for_it(crowd: Crowd) -> None:
    loop = Calls()
    poll = loop.poll(60.0)
    exchange(poll, crowd.now, ENOUGH)
    loop.turn()
    assert crowd.yielded == 0, "what is to be done for the answer comes first"
    for number in range(1, 5):
        loop.turn()
        assert crowd.yielded == number
    poll.arrived(crowd.now)
    loop.turn()
    assert crowd.yielded == 4, "a request came, and may wait to be answered"


def test_where_others_want_the_cpu_it_sleeps_and_is_woken_instead(crowd: Crowd) -> None:
    """To yield would cost each request the others' slice, milliseconds."""
    loop = Calls()
    poll = loop.poll(60.0)
    for pause in (1, 2, 4, 8, 16, 32, 64, 64):
        crowd.seconds = 0.004
        exchange(poll, crowd.now, ENOUGH)
        loop.turn()
        loop.turn()
        assert not loop.due
        crowd.now += pause - 0.01
        exchange(poll, crowd.now, 100)
        assert not loop.due, "not yet again"
        crowd.now += 0.02
    assert crowd.yielded == loop.begun == 8
    crowd.seconds = 0.0005  # a client that answers and waits
    exchange(poll, crowd.now, ENOUGH)
    for _ in range(5):
        loop.turn()
    assert loop.due
    crowd.now += 61
    loop.turn()
    assert not loop.due
    crowd.seconds = 0.004
    exchange(poll, crowd.now, ENOUGH)
    loop.turn()
    loop.turn()
    crowd.now += 1.01
    exchange(poll, crowd.now, ENOUGH)
    assert loop.due, "the pause is short again after it went well"


async def test_a_loop_that_stays_awake_takes_what_arrives() -> None:
    """With a real loop: what comes from outside is not held up, and the loop sleeps in the end."""
    poll = BusyPoll(asyncio.get_running_loop(), 1.0)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            poll.arrived(perf_counter())
            writer.write(data)
            poll.answered(perf_counter())
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for _ in range(ENOUGH + 10):
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), 5) == b"x"
        assert poll._looking
        await until(lambda: not poll._looking)
        writer.close()


@pytest.mark.parametrize(
    ("environ", "usable", "workers", "seconds"),
    [
        ({}, 1.0, 1, DEFAULT_SECONDS),
        ({"SOLERA_CPUS": "2"}, 2.0, 2, DEFAULT_SECONDS),
        ({"SOLERA_CPUS": "500m"}, 2.0, 1, 0.0),
        ({}, 0.5, 1, 0.0),
        ({}, 1.5, 2, 0.0),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, 4.0, 1, 0.0),
    ],
)
def test_unless_told_it_stays_awake_where_cpu_time_is_its_own(
    environ: dict[str, str], usable: float, workers: int, seconds: float
) -> None:
    assert default_seconds(environ, usable, workers) == seconds


# With an access log each request goes by itself; without it they go by turns.
@pytest.mark.parametrize("access", ["off", "all"])
@pytest.mark.parametrize(("option", "polls"), [("1000", True), ("0", False)])
async def test_a_server_counts_its_polls(iris: Trained, access: str, option: str, *, polls: bool) -> None:
    arguments = ("--name", "iris", "--access-log", access, "--busy-poll", option)
    async with running(*serve_arguments(iris.directory, *arguments)) as server:
        url, management = await server.url(), await server.management_url()
        async with httpx.AsyncClient() as client:

            async def counted() -> float:
                text = (await client.get(f"{management}/metrics")).text
                [line] = [line for line in text.splitlines() if line.startswith("solera_server_busy_polls_")]
                return float(line.rpartition(" ")[2])

            async def post(requests: int) -> None:
                for _ in range(requests):
                    answer: Any = await client.post(f"{url}/v1/models/iris:predict", content=BODY)
                    assert answer.json() == {"predictions": ["setosa"]}

            await post(50)
            if polls:
                async with asyncio.timeout(20):
                    while not await counted():
                        await post(50)
            assert bool(await counted()) is polls
