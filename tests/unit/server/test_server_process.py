"""The real process: start, signals, draining under load, last words; and the fetch of the init step."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from raw_http import ask, get, until
from server_process import Process, running, serve_arguments

from solera_core.failures import Failure, Reason
from solera_server.termination import report

if TYPE_CHECKING:
    from server_artifacts import Trained

BODY = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]}).encode()


async def test_a_life(iris: Trained) -> None:
    """Start, answer on both ports, stop by SIGTERM with exit code 0."""
    arguments = serve_arguments(
        iris.directory, "--digest", iris.digest, "--name", "flower", "--version", "flower-v3"
    )
    async with running(*arguments, "--drain-delay", "0.1") as server:
        url, management = await server.url(), await server.management_url()
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{url}/v1/models/flower:predict", content=BODY)
            assert answer.json() == {"predictions": ["setosa"]}
            metadata = (await client.get(f"{url}/v2/models/flower")).json()
            assert metadata["versions"] == ["flower-v3"]
            metrics = (await client.get(f"{management}/metrics")).text
        for line in (
            'solera_server_requests_total{code="200",model="flower",protocol="v1",version="flower-v3"} 1.0',
            'solera_server_ready{model="flower",version="flower-v3"} 1.0',
            f'digest="{iris.digest}"',
            "process_resident_memory_bytes",
        ):
            assert line in metrics
        server.process.send_signal(signal.SIGTERM)
        assert await server.exit_code() == 0
    loaded = next(event for event in server.events if event["event"] == "model loaded")
    assert loaded["digest"] == iris.digest
    assert [event["event"] for event in server.events if event["level"] != "info"] == []


async def test_a_laptop_needs_only_the_directory(iris: Trained) -> None:
    """No subcommand, no name: the name is the directory's, the version is of the digest, loopback only."""
    async with running("--model", iris.directory, "--port", "0", "--management-port", "0") as server:
        url = await server.url()
        async with httpx.AsyncClient() as client:
            metadata = (await client.get(f"{url}/v2/models/iris")).json()
        assert metadata["versions"] == [iris.digest.replace(":", "-")[:19]]
        assert (await server.event("serving"))["url"].startswith("http://127.0.0.1:")
        server.process.send_signal(signal.SIGINT)
        assert await server.exit_code(seconds=4) == 0, "Ctrl-C does not wait for endpoints"


@dataclass
class Count:
    answered: int = 0
    failed: list[str] | None = None


async def keep_asking(url: str, server: Process, count: Count) -> None:
    """A keep-alive client that goes elsewhere, like kube-proxy's, once readiness has fallen."""
    failed: list[str] = []
    async with httpx.AsyncClient() as client:
        while True:
            try:
                if not await server.ready():
                    break
            except httpx.HTTPError:
                break
            for _ in range(20):
                try:
                    answer = await client.post(f"{url}/v1/models/iris:predict", content=BODY)
                except httpx.HTTPError as error:
                    failed.append(repr(error))
                    continue
                if answer.status_code == 200:
                    count.answered += 1
                else:
                    failed.append(f"{answer.status_code} {answer.text}")
    count.failed = failed


async def test_sigterm_under_load_loses_no_request(iris: Trained) -> None:
    async with running(*serve_arguments(iris.directory, "--name", "iris", "--drain-delay", "2")) as server:
        url = await server.url()
        count = Count()
        clients = [asyncio.create_task(keep_asking(url, server, count)) for _ in range(8)]
        await until(lambda: count.answered >= 300, seconds=30)
        before = count.answered
        server.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*clients)
        assert count.failed == []
        assert count.answered > before, "requests on their way when readiness fell were answered too"
        assert await server.exit_code() == 0
    stopped = next(event for event in server.events if event["event"] == "stopped")
    assert stopped["connections_cut"] == 0


async def test_readiness_falls_first_and_a_second_sigterm_hastens(iris: Trained) -> None:
    async with running(*serve_arguments(iris.directory, "--name", "iris", "--drain-delay", "60")) as server:
        url, management = await server.url(), await server.management_url()
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{management}/readyz")).status_code == 200
            server.process.send_signal(signal.SIGTERM)
            await server.event("draining")
            answer = await client.get(f"{management}/readyz")
            assert (answer.status_code, answer.text) == (503, "draining\n")
            assert (await client.get(f"{management}/livez")).status_code == 200
            answer = await client.post(f"{url}/v1/models/iris:predict", content=BODY)
            assert answer.status_code == 200, "it serves on until the endpoints have been updated"
            assert answer.headers["connection"] == "close"
            server.process.send_signal(signal.SIGTERM)
            assert await server.exit_code(seconds=5) == 0


async def test_a_request_in_flight_is_answered_after_the_port_closed(iris: Trained) -> None:
    async with running(*serve_arguments(iris.directory, "--name", "iris", "--drain-delay", "0")) as server:
        port = int((await server.url()).rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /v1/models/iris:predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
        writer.write(head + BODY[:10])
        await writer.drain()
        await ask(port, get("/v2"))  # a round trip: the first part has been read
        server.process.send_signal(signal.SIGTERM)
        await server.event("draining")
        async with asyncio.timeout(5):
            while True:
                try:
                    _, other = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    break
                other.close()
                await asyncio.sleep(0.01)
        writer.write(BODY[10:])
        assert b'{"predictions":["setosa"]}' in await reader.read()
        writer.close()
        assert await server.exit_code() == 0


async def test_probes_answer_while_the_model_loads(iris: Trained) -> None:
    async with running(*serve_arguments(iris.directory)) as server:
        management = await server.management_url()
        async with httpx.AsyncClient() as client:
            live, ready = await client.get(f"{management}/livez"), await client.get(f"{management}/readyz")
        assert live.status_code == 200
        if not any(event["event"] == "serving" for event in server.events):
            assert (ready.status_code, ready.text) == (503, "loading\n")
        await server.event("serving")


async def test_sigterm_while_loading_ends_at_once(iris: Trained) -> None:
    async with running(*serve_arguments(iris.directory)) as server:
        await server.event("loading")
        server.process.send_signal(signal.SIGTERM)
        assert await server.exit_code(seconds=10) == 0
    assert not any(event["event"] == "serving" for event in server.events)


async def ended(*arguments: str | Path, **environ: str) -> tuple[int, dict[str, Any]]:
    async with running(*arguments, **environ) as server:
        code = await server.exit_code()
    assert server.events, "it said nothing"
    return code, server.events[-1]


async def test_start_errors_are_said_with_reason_and_code(iris: Trained, tmp_path: Path) -> None:
    wrong = serve_arguments(iris.directory, "--digest", "sha256:" + "0" * 64)
    code, event = await ended(*wrong)
    assert (code, event["reason"]) == (65, "ArtifactCorrupt")
    code, event = await ended(*serve_arguments(tmp_path / "nothing"))
    assert (code, event["reason"]) == (65, "ArtifactCorrupt")
    code, event = await ended(*serve_arguments(iris.directory), SOLERA_CPUS="lots")
    assert (code, event["reason"]) == (64, "BadSpec")
    assert "SOLERA_CPUS" in event["event"]
    code, event = await ended(*serve_arguments(iris.directory, "--name", "No Name"))
    assert (code, event["reason"]) == (64, "BadSpec")
    assert event["event"].startswith("--name: write 1 to 63 letters, digits, dots, dashes and underscores, ")


async def test_a_port_that_is_taken(iris: Trained) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments: list[str | Path] = [
            "--model",
            iris.directory,
            "--port",
            str(port),
            "--management-port",
            "0",
        ]
        code, event = await ended(*arguments)
    assert (code, event["reason"]) == (75, "AddressUnavailable")
    assert event["event"].startswith(f"cannot listen on 127.0.0.1:{port}: ")
    assert event["event"].endswith("; see --port and --host.")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--port", "8081"), "--port and --management-port are both 8081"),
        (
            ("--port", "0", "--management-port", "9000", "--grpc-port", "9000"),
            "--management-port and --grpc-port",
        ),
        (("--port", "9000", "--grpc-port", "9000"), "--port and --grpc-port are both 9000"),
    ],
)
async def test_ports_that_are_the_same(iris: Trained, given: tuple[str, ...], words: str) -> None:
    code, event = await ended("--model", iris.directory, *given)
    assert (code, event["reason"]) == (64, "BadSpec")
    assert words in event["event"]


def test_last_words(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    failure = Failure(Reason.PARITY_FAILED, "it does not agree")
    assert report(failure, str(log)) == 65
    assert not log.exists(), "only Kubernetes makes the file"
    log.touch()
    report(failure, str(log))
    assert json.loads(log.read_text()) == {
        "kind": "server",
        "ok": False,
        "failure": {"reason": "ParityFailed", "message": "it does not agree"},
    }


async def test_threads_follow_the_cpu_limit(iris: Trained) -> None:
    """Idle threads of BLAS and OpenMP are made when numpy is imported: more with a limit of two."""
    counts = {}
    for cpus in ("1", "2"):
        async with running(*serve_arguments(iris.directory), SOLERA_CPUS=cpus) as server:
            await server.url()
            counts[cpus] = len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))
    assert counts["2"] > counts["1"], counts


# -- fetch -----------------------------------------------------------------------------------------


@pytest.fixture
def store(iris: Trained, tmp_path: Path) -> tuple[str, Path]:
    """A store of files with the artifact in it; returns the store's URI and the artifact's directory."""
    root = tmp_path / "store"
    directory = root / "team" / "iris" / "artifacts" / iris.digest.replace(":", "-")
    shutil.copytree(iris.directory, directory)
    return f"file://{root}", directory


async def fetch(uri: str, digest: str, out: Path, store_uri: str | None) -> tuple[int, dict[str, Any]]:
    environ = {} if store_uri is None else {"SOLERA_STORE": json.dumps({"uri": store_uri})}
    return await ended("fetch", "--uri", uri, "--digest", digest, "--out", out, **environ)


async def test_fetch_and_serve(iris: Trained, store: tuple[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "model"
    out.mkdir()
    (out / ".incoming").mkdir()
    (out / ".incoming" / "model.skops").write_bytes(b"of an attempt that was killed")
    code, event = await fetch(f"file://{store[1]}", iris.digest, out, store[0])
    assert (code, event["event"]) == (0, "fetched")
    assert {path.name for path in out.iterdir()} == {path.name for path in iris.directory.iterdir()}
    code, event = await fetch(f"file://{store[1]}", iris.digest, out, store[0])
    assert (code, event["event"]) == (0, "already there")
    async with running(*serve_arguments(out, "--digest", iris.digest)) as server:
        await server.event("serving")


async def test_fetch_without_settings_takes_the_place_of_the_uri(
    iris: Trained, store: tuple[str, Path], tmp_path: Path
) -> None:
    code, _ = await fetch(f"file://{store[1]}", iris.digest, tmp_path / "model", None)
    assert code == 0


async def test_fetch_refuses_what_is_not_the_digest(
    iris: Trained, store: tuple[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "model"
    code, event = await fetch(f"file://{store[1]}", "sha256:" + "0" * 64, out, store[0])
    assert (code, event["reason"]) == (65, "ArtifactCorrupt")
    model = store[1] / "model.skops"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    code, event = await fetch(f"file://{store[1]}", iris.digest, out, store[0])
    assert (code, event["reason"]) == (65, "ArtifactCorrupt")
    assert "model.skops" in event["event"]
    assert list(out.iterdir()) == [], "nothing of it stays"


@dataclass(frozen=True)
class Wrong:
    """Arguments of a fetch, with {store} for the store's URI, and what comes of them."""

    uri: str
    code: int
    reason: str
    message: str
    digest: str | None = None
    settings: str = "{store}"


WRONG = [
    Wrong("{store}/nothing", 65, "ArtifactCorrupt", "is not in the store"),
    Wrong("file:///elsewhere/x", 65, "ArtifactCorrupt", "is not a place in the store"),
    Wrong("{store}/a/../b", 65, "ArtifactCorrupt", "is not a place in the store"),
    Wrong("{store}/a", 64, "BadSpec", "write sha256: and 64 hexadecimal digits", digest="sha256:12"),
    Wrong("ftp://host/a", 69, "StoreUnavailable", "is not s3://bucket/prefix", settings="ftp://host"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.uri)
async def test_fetch_says_what_is_wrong(
    iris: Trained, store: tuple[str, Path], tmp_path: Path, wrong: Wrong
) -> None:
    uri, settings = (text.format(store=store[0]) for text in (wrong.uri, wrong.settings))
    code, event = await fetch(uri, wrong.digest or iris.digest, tmp_path / "out", settings)
    assert (code, event["reason"]) == (wrong.code, wrong.reason)
    assert wrong.message in event["event"]


async def test_fetch_does_not_touch_other_peoples_files(
    iris: Trained, store: tuple[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "home"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    code, event = await fetch(f"file://{store[1]}", iris.digest, out, store[0])
    assert (code, event["reason"]) == (64, "BadSpec")
    assert "thesis.txt" in event["event"]
    assert (out / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "text", ["nonsense", "[]", "{}", '{"uri": 1}', '{"uri": "file:///x", "password": "y"}', '{"uri": null}']
)
async def test_fetch_refuses_bad_settings(iris: Trained, tmp_path: Path, text: str) -> None:
    arguments: list[str | Path] = [
        "fetch",
        "--uri",
        "file:///x/y",
        "--digest",
        iris.digest,
        "--out",
        tmp_path / "out",
    ]
    code, event = await ended(*arguments, SOLERA_STORE=text)
    assert (code, event["reason"]) == (64, "BadSpec")
    assert "SOLERA_STORE" in event["event"]
