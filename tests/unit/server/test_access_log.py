"""The access log: what a line says, what is logged and what is not, and that it holds nobody up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_http import ask, get, only, post, until
from server_process import running, serve_arguments

from solera_core.failures import Failure
from solera_server import access_log
from solera_server.access_log import AccessLog, trace_of
from solera_server.command_line import parse
from solera_server.http_server import HttpServer
from solera_server.limits import Limits
from solera_server.message import Response, error_response
from solera_server.router import Route, Router

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from server_artifacts import Trained

    from solera_server.message import Request

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SHARED = Response(200, b"{}")


class Lines:
    """What the log wrote; ``held`` lets it wait."""

    def __init__(self) -> None:
        self.data = b""
        self.free = threading.Event()
        self.free.set()

    def write(self, data: bytes) -> None:
        self.free.wait(10)
        self.data += data

    @property
    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.data.splitlines()]

    async def wait_for(self, count: int) -> list[dict[str, Any]]:
        await until(lambda: len(self.all) >= count)
        assert len(self.all) == count, self.all
        return self.all


def answer(request: Request) -> Response:
    if request.path == b"/fails":
        return error_response(503, "too much")
    if request.path == b"/raises":
        raise RuntimeError("of the handler")
    return SHARED


@asynccontextmanager
async def served(share: float, lines: Lines) -> AsyncIterator[int]:
    routes = {
        path.encode(): {b"GET": Route(answer, "v2"), b"POST": Route(answer, "v1")}
        for path in ("/", "/fails", "/raises")
    }
    access = AccessLog(share, lines.write)
    server = HttpServer(Router(routes, lambda path: f"nothing at {path}"), Limits(), access=access)
    port = await server.listen("127.0.0.1", 0)
    try:
        yield port
    finally:
        server.stop_listening()
        await server.finish(asyncio.get_running_loop().time() + 5)
        access.close(5)


async def test_a_line_says_what_was_asked_and_answered() -> None:
    lines = Lines()
    async with served(1.0, lines) as port:
        headers = f"X-Request-Id: mine-1\r\nTraceparent: {TRACEPARENT}\r\n"
        got = only(await ask(port, post("/?secret=word", b"[1]", headers=headers)))
        assert got.headers["x-request-id"] == "mine-1"
        [line] = await lines.wait_for(1)
    assert line.pop("time").endswith("+00:00")
    assert 0 <= line.pop("seconds") < 5
    assert line.pop("peer").startswith("127.0.0.1:")
    assert line == {
        "event": "request",
        "method": "POST",
        "path": "/",
        "status": 200,
        "bytes": 2,
        "request_bytes": 3,
        "protocol": "v1",
        "request_id": "mine-1",
        "trace_id": TRACE,
        "parent_span_id": PARENT,
        "trace_sampled": True,
    }


async def test_an_id_is_made_where_there_is_none_and_given_back() -> None:
    lines = Lines()
    async with served(1.0, lines) as port:
        ids = [only(await ask(port, get("/"))).headers["x-request-id"] for _ in range(3)]
        odd = only(await ask(port, get("/", headers="X-Request-Id: a b\r\n"))).headers["x-request-id"]
        logged = await lines.wait_for(4)
    assert [line["request_id"] for line in logged] == [*ids, odd]
    assert len({*ids, odd}) == 4
    assert SHARED.headers == (), "a response that requests share stays as it is"


async def test_what_is_no_request_is_logged_without_one() -> None:
    lines = Lines()
    async with served(1.0, lines) as port:
        assert only(await ask(port, b"nonsense\r\n\r\n")).status == 400
        assert only(await ask(port, get("/nowhere"))).status == 404
        [refused, missing] = await lines.wait_for(2)
    assert (refused["status"], refused["protocol"]) == (400, "other")
    assert "path" not in refused
    assert (missing["status"], missing["path"]) == (404, "/nowhere")


async def test_a_sample_has_its_share_and_all_failures() -> None:
    lines = Lines()
    async with served(0.25, lines) as port:
        requests = 400
        found = []
        for start in range(0, requests, 20):  # as many as may be sent ahead
            end = start + 20
            part = b"".join(get("/", close=index == end - 1) for index in range(start, end))
            found += await ask(port, part)
        assert len(found) == requests
        for _ in range(5):
            await ask(port, get("/fails"))
        await until(lambda: sum(line["status"] == 503 for line in lines.all) == 5)
    good = [line for line in lines.all if line["status"] == 200]
    assert 50 < len(good) < 150, "400 with chance 1/4: 6 standard deviations to either side"
    with_id = [one for one in found if "x-request-id" in one.headers]
    assert len(with_id) == len(good), "an id is made where a line can be found by it"


async def test_off_says_nothing_but_failures_and_those_within_a_rate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = Lines()
    async with served(0.0, lines) as port:
        answered = only(await ask(port, get("/")))
        assert "x-request-id" not in answered.headers
        for _ in range(3):
            await ask(port, b"".join(get("/fails", close=index == 29) for index in range(30)))
        assert only(await ask(port, get("/raises", headers=f"traceparent: {TRACEPARENT}\r\n"))).status == 500
    failures = [one for one in caplog.records if one.getMessage() == "answered with an error"]
    assert 1 <= len(failures) <= 30, "ten in each second"
    assert vars(failures[0])["path"] == "/fails"
    assert vars(failures[0])["status"] == 503
    assert lines.data == b""


async def test_off_says_nothing_of_what_clients_ask_for_in_vain(caplog: pytest.LogCaptureFixture) -> None:
    async with served(0.0, Lines()) as port:
        assert only(await ask(port, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n")).status == 505
        coded = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"
        assert only(await ask(port, coded)).status == 501
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == []


def test_the_rate_counts_what_it_suppresses() -> None:
    rate = access_log._Rate(2)
    assert [rate.allows(0.1 * index) for index in range(5)] == [True, True, False, False, False]
    assert rate.allows(1.0)
    assert rate.suppressed() == {"suppressed_before": 3}
    assert rate.suppressed() == {}


async def test_a_reader_that_stops_holds_up_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "WAITING_LINES", 50)
    lines, dropped = Lines(), []
    lines.free.clear()
    access = AccessLog(1.0, lines.write, lambda: dropped.append(1))
    server = HttpServer(
        Router({b"/": {b"GET": Route(answer, "v2")}}, lambda path: path), Limits(), access=access
    )
    port = await server.listen("127.0.0.1", 0)
    for _ in range(10):
        part = b"".join(get("/", close=index == 19) for index in range(20))
        assert [one.status for one in await ask(port, part)] == [200] * 20
    server.stop_listening()
    await server.finish(asyncio.get_running_loop().time() + 5)
    lines.free.set()
    access.close(5)
    assert dropped
    assert len(lines.all) + len(dropped) == 200


async def test_a_process_logs_to_stdout(iris: Trained, tmp_path: Path) -> None:
    """Two workers, each of which names itself; rows of a prediction; nothing is lost at the end."""
    fifo = tmp_path / "log"
    body = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]] * 3}).encode()
    with fifo.open("wb") as out:
        saved = os.dup(1)
        os.dup2(out.fileno(), 1)
        try:
            async with running(
                *serve_arguments(iris.directory, "--name", "iris", "--workers", "2"),
                "--access-log",
                "all",
                "--drain-delay",
                "0",
            ) as server:
                url = await server.url()
                for index in range(20):
                    async with httpx.AsyncClient() as client:
                        headers = {"x-request-id": f"r{index}"}
                        await client.post(f"{url}/v1/models/iris:predict", content=body, headers=headers)
                server.process.send_signal(signal.SIGTERM)
                assert await server.exit_code(20) == 0
        finally:
            os.dup2(saved, 1)
            os.close(saved)
    found = [json.loads(line) for line in fifo.read_bytes().splitlines()]
    assert sorted(line["request_id"] for line in found) == sorted(f"r{index}" for index in range(20))
    assert {line["worker"] for line in found} <= {0, 1}
    assert {line["rows"] for line in found} == {3}
    assert {line["path"] for line in found} == {"/v1/models/iris:predict"}


@pytest.mark.parametrize("value", ["on", "sample", "sample:0", "sample:1.5", "sample:x", "sample:nan", ""])
async def test_other_values_are_refused(iris: Trained, value: str) -> None:
    with pytest.raises(Failure, match="--access-log: write off, all, or sample: and a share"):
        parse(["serve", "--model", str(iris.directory), "--access-log", value])


# -- trace context ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (TRACEPARENT, True),
        (f"00-{TRACE}-{PARENT}-00", True),
        (f"cc-{TRACE}-{PARENT}-01-what-later-versions-say", True),
        (f"00-{TRACE}-{PARENT}-01-more", False),
        (f"ff-{TRACE}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{PARENT}-01", False),
        (f"00-{TRACE[:-1]}-{PARENT}-01", False),
        (f" {TRACEPARENT}", False),
        ("", False),
    ],
)
def test_traceparent_as_the_recommendation_says(text: str, *, good: bool) -> None:
    found = trace_of(text.encode())
    assert (found is not None) is good
    if found is not None:
        assert (found["trace_id"], found["parent_span_id"]) == (TRACE, PARENT)
        assert found["trace_sampled"] is (text.split("-")[3] == "01")


@given(st.binary(max_size=80))
def test_any_bytes_are_taken_for_a_traceparent_or_not(data: bytes) -> None:
    assert trace_of(data) is None or len(data) >= 55
