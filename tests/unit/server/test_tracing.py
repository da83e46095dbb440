"""Traces: real servers that send spans to a collector on loopback, good and bad ones."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import orjson
import pytest
from collector import Collector
from raw_http import until
from server_process import Process, running, serve_arguments

from solera_server.access_log import AccessLog
from solera_server.http_server import HttpServer
from solera_server.limits import Limits
from solera_server.message import error_response
from solera_server.router import Route, Router
from solera_server.spans import split_host
from solera_server.tracing import Served, Tracing
from solera_server.tracing_options import TracingOptions, tracing_options

if TYPE_CHECKING:
    from server_artifacts import Trained

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
ROW = [5.1, 3.5, 1.4, 0.2]
SECRET = 77.125
"""A value of a feature that must be in no span."""


async def post(url: str, path: str = "/v1/models/iris:predict", rows: Any = (ROW,), **headers: str) -> int:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{url}{path}", json={"instances": list(rows)}, headers=headers)
        return answer.status_code


async def counter(server: Process, name: str) -> float:
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{await server.management_url()}/metrics")).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name + "{"))


def arguments(iris: Trained, *more: str) -> list[Any]:
    return serve_arguments(iris.directory, "--name", "iris", "--version", "v3", "--drain-delay", "0", *more)


# -- what a span says ------------------------------------------------------------------------------


async def test_a_span_for_each_request(iris: Trained) -> None:
    with Collector() as collector:
        environ = collector.environ(
            OTEL_SERVICE_NAME="flowers",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
            OTEL_EXPORTER_OTLP_HEADERS="x-tenant=blue",
        )
        async with running(*arguments(iris), **environ) as server:
            url, before = await server.url(), time.time()
            headers = {"traceparent": SAMPLED, "tracestate": "vendor=1", "x-request-id": "abc"}
            assert await post(url, rows=[ROW, ROW], **headers) == 200
            [span] = await collector.wait_for(1)
            assert (span.name, span.server, span.failed) == ("POST /v1/models/{model}:predict", True, False)
            assert (span.trace_id, span.parent_id, span.trace_state) == (TRACE, PARENT, "vendor=1")
            assert span.span_id not in (PARENT, "0" * 16)
            assert before - 0.01 <= span.started <= span.started + span.seconds <= time.time() + 0.01
            assert 0 < span.seconds < 5
            port = int(url.rpartition(":")[2])
            assert span.attributes == {
                "http.request.method": "POST",
                "http.route": "/v1/models/{model}:predict",
                "http.response.status_code": 200,
                "url.scheme": "http",
                "url.path": "/v1/models/iris:predict",
                "server.address": "127.0.0.1",
                "server.port": port,
                "http.request.header.x-request-id": ["abc"],
                "solera.model.name": "iris",
                "solera.model.version": "v3",
                "solera.predictor": "compiled",
                "solera.rows": 2,
            }
            assert span.resource["service.name"] == "flowers"
            assert span.resource["deployment.environment.name"] == "test"
            assert span.resource["telemetry.sdk.language"] == "python"
            assert collector.headers["x-tenant"] == "blue"
            await until_counted(server, "solera_server_spans_exported_total", 1)
            assert await counter(server, "solera_server_spans_dropped_total") == 0


async def until_counted(server: Process, name: str, count: float) -> None:
    for _ in range(400):
        found = await counter(server, name)
        if found >= count:
            break
    assert found == count


async def test_errors_and_what_has_no_route(iris: Trained) -> None:
    version = "v" + "3" * 40
    path = f"v2/models/iris/versions/{version}/infer"
    escaped = "".join(f"%{ord(letter):02X}" for letter in path)
    with Collector() as collector:
        more = ("--max-rows", "5", "--version", version)
        async with running(*arguments(iris, *more), **collector.environ()) as server:
            url = await server.url()
            assert await post(url, rows=[[SECRET, "x", 1, 2]]) == 400
            assert await post(url, "/v1/models/other:predict") == 404
            assert await post(url, f"/{path}") == 400
            assert await post(url, f"/{escaped}") == 400
            bad, missing, versioned, odd = await collector.wait_for(4)
    assert bad.attributes["http.response.status_code"] == 400
    assert not bad.failed  # it is the client's error
    assert "error.type" not in bad.attributes
    assert (missing.name, "http.route" in missing.attributes) == ("POST", False)
    assert missing.attributes["url.path"] == "/v1/models/other:predict"
    assert versioned.attributes["http.route"] == "/v2/models/{model}/versions/{version}/infer"
    assert (odd.name, odd.attributes["http.route"]) == (versioned.name, versioned.attributes["http.route"])
    assert odd.attributes["url.path"] == f"/{escaped}"
    assert len({span.trace_id for span in collector.spans}) == 4
    assert not any(span.parent_id for span in collector.spans)
    for span in collector.spans:
        assert str(SECRET) not in repr((span.name, span.attributes, span.resource))
        assert span.resource["service.name"] == "solera-server"


async def test_a_failure_has_the_status_of_an_error_and_its_line_the_ids(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served = Served("iris", "v3", "compiled", "https", "localhost", None)
    with Collector() as collector:
        for name, value in collector.environ().items():
            monkeypatch.setenv(name, value)
        refusal = error_response(503, "too much")
        routes = {b"/fails": {b"POST": Route(lambda _request: refusal, "v1")}}
        counted: list[tuple[int, int]] = []
        tracing = Tracing(
            TracingOptions(delay_seconds=0.05),
            served,
            AccessLog(0.0),
            loop=asyncio.get_running_loop(),
            count=lambda *counts: counted.append(counts),
        )
        server = HttpServer(Router(routes, str), Limits(), access=tracing)
        port = await server.listen("127.0.0.1", 0)
        assert await post(f"http://127.0.0.1:{port}", "/fails", traceparent=SAMPLED) == 503
        [span] = await collector.wait_for(1)
        await until(lambda: counted == [(1, 0)])
        tracing.close()
        server.stop_listening()
        await server.finish(0)
    [line] = [record for record in caplog.records if record.message == "answered with an error"]
    assert span.failed
    assert (span.attributes["http.response.status_code"], span.attributes["error.type"]) == (503, "503")
    assert span.attributes["url.scheme"] == "https"
    assert (line.trace_id, line.span_id, line.parent_span_id) == (TRACE, span.span_id, PARENT)


async def test_probes_are_not_traced(iris: Trained) -> None:
    paths = (
        "/", "/v2/health/live", "/v2/health/ready", "/v1/models/iris", "/v2/models/iris/ready",
        "/v2/models/iris/versions/v3/ready",
    )  # fmt: skip
    with Collector() as collector:
        async with running(*arguments(iris), **collector.environ()) as server, httpx.AsyncClient() as client:
            url = await server.url()
            for path in paths:
                assert (await client.get(f"{url}{path}", headers={"traceparent": SAMPLED})).status_code == 200
            assert (await client.get(f"{url}/v2/models/iris")).status_code == 200
            [span] = await collector.wait_for(1)
    assert span.name == "GET /v2/models/{model}"


async def test_grpc(iris: Trained) -> None:
    from test_grpc_server import infer

    service = "inference.GRPCInferenceService"
    with socket.socket() as free, Collector() as collector:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        more = ("--grpc-port", str(port), "--host", "127.0.0.1")
        async with running(*arguments(iris, *more), **collector.environ()) as server:
            await server.event("serving")
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = channel.unary_unary(f"/{service}/ModelInfer")
                metadata = (("traceparent", SAMPLED), ("x-request-id", "abc"))
                await call(infer(3), metadata=metadata, timeout=10)
                with pytest.raises(grpc.aio.AioRpcError):
                    await call(infer(model_name="other"), timeout=10)
                await channel.unary_unary(f"/{service}/ServerReady")(b"", timeout=10)
            good, bad = await collector.wait_for(2)
    assert (good.name, good.trace_id, good.parent_id) == (f"{service}/ModelInfer", TRACE, PARENT)
    assert good.attributes["rpc.system.name"] == "grpc"
    assert good.attributes["rpc.method"] == f"{service}/ModelInfer"
    assert good.attributes["rpc.response.status_code"] == "OK"
    assert (good.attributes["server.address"], good.attributes["server.port"]) == ("127.0.0.1", port)
    assert (good.attributes["solera.rows"], good.attributes["solera.model.version"]) == (3, "v3")
    assert not any(name.startswith(("http.response", "url.")) for name in good.attributes)
    assert (bad.attributes["rpc.response.status_code"], bad.failed) == ("NOT_FOUND", False)


async def test_workers(iris: Trained) -> None:
    with Collector() as collector:
        command = arguments(iris, "--workers", "2")
        async with running(*command, **collector.environ()) as server:
            url = await server.url()
            for _ in range(30):
                assert await post(url) == 200
            await collector.wait_for(30)
            await until_counted(server, "solera_server_spans_exported_total", 30)
            server.process.send_signal(signal.SIGTERM)
            assert await server.exit_code(20) == 0
        assert len({span.span_id for span in collector.spans}) == 30


# -- which requests are traced ---------------------------------------------------------------------


async def test_the_callers_decision_counts(iris: Trained) -> None:
    with Collector() as collector:
        async with running(*arguments(iris), **collector.environ()) as server:
            url = await server.url()
            for traceparent in (NOT_SAMPLED, SAMPLED):
                assert await post(url, traceparent=traceparent) == 200
            [span] = await collector.wait_for(1)
    assert span.trace_id == TRACE


async def test_the_access_log_has_the_ids_of_the_span(iris: Trained, tmp_path: Any) -> None:
    lines = tmp_path / "lines"
    code = "import os, sys; os.dup2(os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT), 1);"
    code += "from solera_server.cli import main; sys.exit(main())"
    with Collector() as collector:
        command = [sys.executable, "-c", code, str(lines), *map(str, arguments(iris, "--access-log", "all"))]
        environ = {"PATH": "/usr/bin", **collector.environ()}
        process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE)  # noqa: ASYNC220 - short
        assert process.stderr is not None
        url = ""
        for line in process.stderr:
            event = orjson.loads(line)
            if event["event"] == "serving":
                url = f"http://127.0.0.1:{event['port']}"
                break
        assert await post(url) == 200
        [span] = await collector.wait_for(1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    [found] = [orjson.loads(line) for line in lines.read_bytes().splitlines()]
    assert (found["trace_id"], found["span_id"]) == (span.trace_id, span.span_id)


def test_the_environment() -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}
    assert tracing_options({}) is None
    assert tracing_options({"OTEL_SERVICE_NAME": "x"}) is None
    assert tracing_options(endpoint) == TracingOptions(1.0, True, 2048, 512, 5.0)
    assert tracing_options({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost/x"}) is not None
    assert tracing_options({"OTEL_TRACES_EXPORTER": "otlp"}) is not None
    for name, value in (
        ("OTEL_SDK_DISABLED", "TRUE"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
    ):
        assert tracing_options({**endpoint, name: value}) is None, name
    both = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
    assert tracing_options({**endpoint, **both}) is not None


@pytest.mark.parametrize(
    ("sampler", "argument", "share", "parent_based"),
    [
        ("always_on", "", 1.0, False),
        ("always_off", "", 0.0, False),
        ("traceidratio", "0.25", 0.25, False),
        ("parentbased_always_on", "", 1.0, True),
        ("parentbased_always_off", "", 0.0, True),
        ("parentbased_traceidratio", "0.01", 0.01, True),
        ("parentbased_traceidratio", "2", 1.0, True),
        ("parentbased_traceidratio", "", 1.0, True),
        ("xray", "", 1.0, True),
    ],
)
def test_samplers(sampler: str, argument: str, share: float, parent_based: bool) -> None:
    environ = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_TRACES_SAMPLER": sampler,
        "OTEL_TRACES_SAMPLER_ARG": argument,
    }
    found = tracing_options(environ)
    assert found is not None
    assert (found.share, found.parent_based) == (share, parent_based)


def test_traces_are_kept_as_the_sdk_keeps_them() -> None:
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

    theirs, ours = TraceIdRatioBased(0.25), TracingOptions(0.25)
    ids = [(index * 0x9E3779B97F4A7C15) % 2**128 for index in range(1, 2000)]
    ids += [theirs.bound - 1, theirs.bound, theirs.bound + 1, 0]
    for trace_id in ids:
        decision = theirs.should_sample(None, trace_id, "x").decision
        assert ours.keeps(trace_id, None) == decision.is_sampled()
    assert ours.keeps(2**64 - 1, parent_sampled=True)
    assert not ours.keeps(0, parent_sampled=False)


def test_routes_and_hosts() -> None:
    served = Served("iris", "v3", "compiled", "http", "localhost", None)
    assert served.template("/v1/models") == "/v1/models"
    assert served.template("/v1/models/iris:explain") == "/v1/models/{model}:explain"
    assert served.template("/v2/models/iris/versions/v3") == "/v2/models/{model}/versions/{version}"
    assert served.template("/v2/models/irises") == "/v2/models/irises"
    assert served.template("/v2/models/%69ris/inf%65r") == "/v2/models/{model}/infer"
    assert served.template("/v2/models/iris%2Fversions/v%33") == "/v2/models/{model}/versions/{version}"
    assert served.traced("v2", "/v2/models/iris/inf%65r")
    assert not served.traced("v2", "/v2/health/l%69ve")
    assert not served.traced("v1", "/v1/models/%69ris")
    assert [split_host(host) for host in ("a.b:80", "a.b", "[::1]:8080", "[::1]", "", "a:x")] == [
        ("a.b", 80), ("a.b", None), ("::1", 8080), ("::1", None), ("", None), ("a", None),
    ]  # fmt: skip


# -- what it costs where it is not asked for --------------------------------------------------------


def test_without_the_variables_nothing_is_imported(iris: Trained) -> None:
    code = """
import asyncio, os, sys
import solera_server.run, solera_server.model_port
from solera_server import cli
import threading, signal
real = solera_server.model_port.ModelPort.open
async def open(self, *given):
    result = await real(self, *given)
    found = [name for name in sys.modules if name.startswith(("opentelemetry", "solera_server.tracing", "solera_server.spans"))]
    print(found, type(self._access).__name__, [one.name for one in threading.enumerate()])
    os.kill(os.getpid(), signal.SIGINT)
    return result
solera_server.model_port.ModelPort.open = open
sys.exit(cli.main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", code, *map(str, arguments(iris))]
    for environ, imported in (({}, False), ({"OTEL_TRACES_EXPORTER": "otlp"}, True)):
        done = subprocess.run(
            command, env={"PATH": "/usr/bin", **environ}, capture_output=True, timeout=60, check=False
        )
        said = done.stdout.decode()
        assert done.returncode == 0, done.stderr.decode()
        assert ("tracing'" in said.partition("] ")[0]) is imported, said
        assert ("Tracing" if imported else "AccessLog") in said
        assert ("'tracing'" in said.rpartition("[")[2]) is imported


# -- a collector that is of no use -------------------------------------------------------------------


async def test_a_collector_that_never_answers_holds_nobody_up(iris: Trained) -> None:
    with Collector(hold=True) as collector:
        environ = collector.environ(OTEL_BSP_MAX_QUEUE_SIZE="20", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="5")
        async with running(*arguments(iris), **environ) as server, httpx.AsyncClient() as client:
            url, body = await server.url(), {"instances": [ROW]}
            assert (await client.post(f"{url}/v1/models/iris:predict", json=body)).status_code == 200
            await until(lambda: collector.requests > 0)
            slowest = 0.0
            for _ in range(100):
                begun = time.perf_counter()
                answer = await client.post(f"{url}/v1/models/iris:predict", json=body)
                slowest = max(slowest, time.perf_counter() - begun)
                assert answer.status_code == 200
            assert slowest < 2
            # One is being sent, 20 wait.
            assert await counter(server, "solera_server_spans_dropped_total") == 80
            begun = time.perf_counter()
            server.process.send_signal(signal.SIGTERM)
            assert await server.exit_code(20) == 0
            assert time.perf_counter() - begun < 6
            assert (await server.event("spans were not sent before the end"))["waiting"] == 20


@pytest.mark.parametrize("status", [None, 400, 503])
async def test_a_collector_that_refuses(iris: Trained, status: int | None) -> None:
    """It is gone altogether (None), or says no: for good, or until later."""
    with Collector(status or 200) as collector:
        environ = collector.environ(OTEL_EXPORTER_OTLP_TIMEOUT="1")
        if status is None:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with running(*arguments(iris), **environ) as server:
            url = await server.url()
            for _ in range(5):
                assert await post(url) == 200
            await until_counted_by(server, "solera_server_spans_dropped_total", 5)
            lines = [one for one in server.events if one.get("logger", "").startswith("opentelemetry")]
            assert len(lines) == 1, lines
            begun = time.perf_counter()
            server.process.send_signal(signal.SIGTERM)
            assert await server.exit_code(20) == 0
            assert time.perf_counter() - begun < 6
        assert not collector.spans


async def until_counted_by(server: Process, name: str, count: float, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while (found := await counter(server, name)) < count and time.monotonic() < end:
        pass
    assert found == count


async def test_what_waits_is_sent_at_the_end_and_a_slow_collector_is_waited_for(iris: Trained) -> None:
    with Collector(hold=True) as collector:
        environ = collector.environ(OTEL_BSP_SCHEDULE_DELAY="60000")
        async with running(*arguments(iris), **environ) as server:
            url = await server.url()
            for _ in range(7):
                assert await post(url) == 200
            assert collector.requests == 0
            server.process.send_signal(signal.SIGTERM)
            await until(lambda: collector.requests > 0)
            # Probes are answered meanwhile, and what is sent now is counted as well.
            assert await counter(server, "solera_server_spans_exported_total") == 0
            collector.free.set()
            assert await server.exit_code(20) == 0
        assert len(collector.spans) == 7
