"""What is refused before it has arrived is answered, logged and counted as the request that it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from raw_http import Answer, ask, only, talk
from recorded import recording_server, with_baseline
from server_artifacts import IRIS_FEATURES

from solera_server.access_log import AccessLog
from solera_server.http_server import HttpServer
from solera_server.limits import Limits
from solera_server.load import load
from solera_server.recording_options import RecordingOptions
from solera_server.router import Route, Router

if TYPE_CHECKING:
    from pathlib import Path

    from server_artifacts import Trained

LIMITS = Limits(body_bytes=1000, bodies_bytes=1000, header_bytes=2000, header_count=20, receive_seconds=1.0)
PATH = "/v1/models/m:predict"
HEAD = f"POST {PATH} HTTP/1.1\r\nX-Request-Id: my-id-3\r\nHost: a\r\n".encode()
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CASES = {
    "a long body": (HEAD + b"Content-Length: 1001\r\n\r\n", 413, "v1"),
    "long chunks": (CHUNKED + b"7d0\r\n" + b"x" * 2000, 413, "v1"),
    "an endless trailer": (CHUNKED + b"0\r\nX: " + b"y" * 3000, 431, "v1"),
    "a body that does not come": (HEAD + b"Content-Length: 9\r\n\r\n", 408, "v1"),
    "another expectation": (HEAD + b"Expect: 200-maybe\r\nContent-Length: 9\r\n\r\n", 417, "v1"),
    "a path that is not there": (
        HEAD.replace(b"m:predict", b"n") + b"Expect: 100-continue\r\n\r\n",
        404,
        "other",
    ),
    "a bad chunk": (CHUNKED + b"0x3\r\n", 400, "v1"),
    "another coding": (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501, "other"),
    "another version": (HEAD.replace(b"HTTP/1.1", b"HTTP/2.0") + b"\r\n", 505, "other"),
    # Of a head that is not complete nobody knows for which route it would have been.
    "many headers": (HEAD + b"".join(b"X%d: y\r\n" % n for n in range(30)) + b"\r\n", 431, "other"),
    "a long header": (HEAD + b"X: " + b"y" * 3000 + b"\r\n\r\n", 431, "other"),
    "both lengths": (HEAD + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "other"),
    "a bad header": (HEAD + b"X : y\r\n\r\n", 400, "other"),
    "a head that does not end": (HEAD + b"X: y\r\n", 408, "other"),
}


class Kept(AccessLog):
    """An access log whose lines are looked at."""

    def __init__(self, share: float) -> None:
        self.lines: list[dict[str, Any]] = []
        super().__init__(share, self._keep)

    def _keep(self, data: bytes) -> None:
        self.lines += map(orjson.loads, data.splitlines())


class Refusing:
    """A server whose only route holds what it gets."""

    def __init__(self, share: float) -> None:
        self.counted: list[tuple[str, int, float | None]] = []
        self.log = Kept(share)
        router = Router({PATH.encode(): {b"POST": Route(lambda _request: None, "v1")}}, str)
        self.server = HttpServer(router, LIMITS, self, access=self.log)

    def answered(self, protocol: str, status: int, seconds: float | None) -> None:
        self.counted.append((protocol, status, seconds))

    async def ask(self, *parts: bytes) -> Answer:
        port = await self.server.listen("127.0.0.1", 0)
        try:
            return only(await ask(port, *parts))
        finally:
            self.server.stop_listening()
            await self.server.finish(asyncio.get_running_loop().time() + 1)
            await asyncio.to_thread(self.log.close)


@pytest.mark.parametrize("logged", [True, False])
@pytest.mark.parametrize("case", CASES)
async def test_a_refusal_is_known_by_its_request(case: str, *, logged: bool) -> None:
    sent, status, protocol = CASES[case]
    refusing = Refusing(float(logged))
    answer = await refusing.ask(sent)
    assert (answer.status, answer.headers["x-request-id"]) == (status, "my-id-3")
    assert answer.headers["connection"] == "close"
    [(counted, code, seconds)] = refusing.counted
    assert (counted, code) == (protocol, status)
    # A client that sends slowly says nothing of this server.
    assert seconds is None if protocol == "other" else 0 <= seconds < LIMITS.receive_seconds
    if logged:
        [line] = refusing.log.lines
        path = "/v1/models/n" if status == 404 else PATH
        assert (line["method"], line["path"], line["request_id"]) == ("POST", path, "my-id-3")
        assert (line["protocol"], line["status"]) == (protocol, status)
        assert 0 <= line["seconds"] < LIMITS.receive_seconds


async def test_a_body_for_which_there_is_no_room_is_known_by_its_request() -> None:
    refusing = Refusing(0.0)
    refusing.server.shared.bodies.take(LIMITS.bodies_bytes - 5)
    answer = await refusing.ask(HEAD + b"Content-Length: 9\r\n\r\n", b"123456789")
    assert (answer.status, answer.headers["x-request-id"]) == (503, "my-id-3")
    assert [one[:2] for one in refusing.counted] == [("v1", 503)]


async def test_what_is_refused_of_a_prediction_counts_for_its_arm(iris: Trained, tmp_path: Path) -> None:
    """As the client's error; what no server of HTTP/1.1 could have answered counts for nobody."""
    trained = with_baseline(iris, tmp_path / "iris", [dict.fromkeys(IRIS_FEATURES, 1.0)] * 20)
    options = RecordingOptions(window_seconds=3600)
    head = (
        b"POST /v1/models/iris:predict HTTP/1.1\r\nHost: a\r\n"
        b"X-Solera-Arm: blue\r\nX-Solera-Weight-Epoch: 7\r\n"
    )
    async with recording_server(trained, load(trained.directory, None), options) as served:
        port = int(served.url.rpartition(":")[2])
        assert only(await ask(port, head + b"Content-Length: 2000000\r\n\r\n")).status == 413
        assert only(await ask(port, head.replace(b"/1.1", b"/2.0") + b"\r\n")).status == 505
        served.recorder.fold()
        memory = served.recording.memory
        window = memory.read(memory.number(memory.boot.now()))
    counted = {name: int(values.sum()) for name, values in window.arms["blue", 7].items() if values.any()}
    assert counted == {"requests": 1, "clientErrors": 1}


async def test_a_refusal_to_a_head_has_no_body() -> None:
    refusing = Refusing(0.0)
    port = await refusing.server.listen("127.0.0.1", 0)
    raw = await talk(port, HEAD.replace(b"POST", b"HEAD") + b"Expect: 200-maybe\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 417 ")
    assert raw.endswith(b"\r\n\r\n")
    refusing.server.stop_listening()
    await refusing.server.finish(asyncio.get_running_loop().time() + 1)
