"""gRPC over real sockets, with gRPC's own client: calls, errors, limits, overload, health, drain."""

from __future__ import annotations

import asyncio
import gzip
import struct
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from loopback import serve
from raw_http import until
from server_process import Process, running, serve_arguments

from solera_server.grpc_server import SERVICE, GrpcServer
from solera_server.health import Phase
from solera_server.limits import Limits
from solera_server.open_inference import open_inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from server_artifacts import Trained

    from solera_server.batch import Batch
    from solera_server.load import LoadedModel
    from solera_server.predictor import Outputs

ROW = struct.pack("<4d", 5.1, 3.5, 1.4, 0.2)
KINDS = {
    "ServerLive": (pb.ServerLiveRequest, pb.ServerLiveResponse),
    "ServerReady": (pb.ServerReadyRequest, pb.ServerReadyResponse),
    "ModelReady": (pb.ModelReadyRequest, pb.ModelReadyResponse),
    "ServerMetadata": (pb.ServerMetadataRequest, pb.ServerMetadataResponse),
    "ModelMetadata": (pb.ModelMetadataRequest, pb.ModelMetadataResponse),
    "ModelInfer": (pb.ModelInferRequest, pb.ModelInferResponse),
}


@dataclass
class Client:
    """A channel, and calls by their names: ``await client("ModelReady", name="iris")``."""

    channel: grpc.aio.Channel

    def call(self, method: str, body: bytes, **options: Any) -> Any:
        return self.channel.unary_unary(f"/{SERVICE}/{method}")(body, timeout=10, **options)

    async def __call__(self, method: str, **fields: Any) -> Any:
        request, response = KINDS[method]
        return response.FromString(await self.call(method, request(**fields).SerializeToString()))

    async def refused(self, method: str, body: bytes, **options: Any) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, body, **options)
        return caught.value


@asynccontextmanager
async def connected(port: int, **options: int) -> AsyncIterator[Client]:
    # A subchannel pool of its own: gRPC would otherwise share the connections of other tests.
    given = [("grpc.use_local_subchannel_pool", 1), *options.items()]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=given) as channel:
        yield Client(channel)


class Answering:
    def __init__(self, served: Any, server: GrpcServer, port: int, client: Client) -> None:
        self.serving = served.serving
        self.served = served
        self.server = server
        self.port = port
        self.client = client


@asynccontextmanager
async def answering(loaded: LoadedModel, limits: Limits | None = None) -> AsyncIterator[Answering]:
    limits = limits or Limits()
    async with serve(loaded, "iris", limits) as served:
        server = GrpcServer(served.serving, limits, served.serving.metrics)
        port = await server.listen("127.0.0.1", 0)
        try:
            async with connected(port) as client:
                yield Answering(served, server, port, client)
        finally:
            await server.finish(5)


@pytest.fixture
async def iris_grpc(loaded_iris: LoadedModel) -> AsyncIterator[Answering]:
    async with answering(loaded_iris) as one:
        yield one


def infer(rows: int = 1, **more: Any) -> bytes:
    message = pb.ModelInferRequest(**{"model_name": "iris", "raw_input_contents": [ROW * rows], **more})
    message.inputs.add(name="x", shape=[rows, 4], datatype="FP64")
    return message.SerializeToString()


# -- calls -----------------------------------------------------------------------------------------


async def test_server_and_model(iris_grpc: Answering) -> None:
    client = iris_grpc.client
    assert (await client("ServerLive")).live
    assert (await client("ServerReady")).ready
    assert (await client("ModelReady", name="iris")).ready
    assert (await client("ModelReady", name="iris", version="iris-v1")).ready
    server = await client("ServerMetadata")
    assert (server.name, server.version) == ("solera", "0.1.0")
    iris_grpc.serving.health.phase = Phase.DRAINING
    assert not (await client("ServerReady")).ready
    assert not (await client("ModelReady", name="iris")).ready


async def test_metadata_is_what_http_says(iris_grpc: Answering) -> None:
    found = await iris_grpc.client("ModelMetadata", name="iris")
    async with httpx.AsyncClient(base_url=iris_grpc.served.url) as client:
        told = (await client.get("/v2/models/iris")).json()
    assert (found.name, list(found.versions), found.platform) == (
        told["name"],
        told["versions"],
        told["platform"],
    )
    for ours, theirs in ((found.inputs, told["inputs"]), (found.outputs, told["outputs"])):
        assert [(one.name, one.datatype, list(one.shape)) for one in ours] == [
            (one["name"], one["datatype"], one["shape"]) for one in theirs
        ]


async def test_predictions_are_those_of_http_to_the_bit(iris_grpc: Answering) -> None:
    rows = np.random.default_rng(1).uniform(0, 8, (20, 4))
    message = pb.ModelInferRequest(model_name="iris", id="7", raw_input_contents=[rows.tobytes()])
    message.inputs.add(name="x", shape=[20, 4], datatype="FP64")
    raw = pb.ModelInferResponse.FromString(
        await iris_grpc.client.call("ModelInfer", message.SerializeToString())
    )
    del message.raw_input_contents[:]
    message.inputs[0].contents.fp64_contents.extend(rows.ravel())
    typed = pb.ModelInferResponse.FromString(
        await iris_grpc.client.call("ModelInfer", message.SerializeToString())
    )
    async with httpx.AsyncClient(base_url=iris_grpc.served.url) as client:
        body = {
            "inputs": [{"name": "x", "shape": [20, 4], "datatype": "FP64", "data": rows.ravel().tolist()}]
        }
        told = (await client.post("/v2/models/iris/infer", json=body)).json()
    assert (raw.id, raw.model_version) == ("7", "iris-v1")
    assert np.frombuffer(raw.raw_output_contents[1]).tolist() == told["outputs"][1]["data"]
    assert list(typed.outputs[1].contents.fp64_contents) == told["outputs"][1]["data"]
    assert [text.decode() for text in typed.outputs[0].contents.bytes_contents] == told["outputs"][0]["data"]


async def test_request_id_comes_back(iris_grpc: Answering) -> None:
    for given, back in (("a-1", "a-1"), ("no spaces", None)):
        call = iris_grpc.client.call("ModelInfer", infer(), metadata=(("x-request-id", given),))
        await call
        assert dict(await call.trailing_metadata()).get("x-request-id") == back
    call = iris_grpc.client.call("ModelInfer", b"\xff", metadata=(("x-request-id", "b-2"),))
    assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert dict(await call.trailing_metadata())["x-request-id"] == "b-2"


async def test_calls_are_counted(iris_grpc: Answering) -> None:
    await iris_grpc.client.call("ModelInfer", infer())
    await iris_grpc.client.refused("ModelInfer", b"\xff")
    text = iris_grpc.serving.metrics.exposition()[0].decode()
    labels = 'model="iris",protocol="grpc",version="iris-v1"'
    for code in (200, 400):
        assert f'solera_server_requests_total{{code="{code}",{labels}}} 1.0' in text
    assert f"solera_server_request_duration_seconds_count{{{labels}}} 2.0" in text


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", KINDS)
async def test_what_is_no_message_is_an_invalid_argument(iris_grpc: Answering, method: str) -> None:
    error = await iris_grpc.client.refused(method, b"\xff\xff")
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "the message is not a valid inference." in error.details()


async def test_errors_have_the_words_of_http(iris_grpc: Answering) -> None:
    message = pb.ModelInferRequest(model_name="iris")
    message.inputs.add(name="x", shape=[1, 3], datatype="FP64").contents.fp64_contents.extend([1, 2, 3])
    error = await iris_grpc.client.refused("ModelInfer", message.SerializeToString())
    async with httpx.AsyncClient(base_url=iris_grpc.served.url) as client:
        body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}
        told = (await client.post("/v2/models/iris/infer", json=body)).json()["error"]
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, told)


async def test_what_is_not_there(iris_grpc: Answering) -> None:
    for method, fields in (
        ("ModelReady", {"name": "rose"}),
        ("ModelMetadata", {"name": "iris", "version": "v9"}),
    ):
        error = await iris_grpc.client.refused(method, KINDS[method][0](**fields).SerializeToString())
        assert error.code() == grpc.StatusCode.NOT_FOUND
    error = await iris_grpc.client.refused("ModelInfer", infer(model_name="rose"))
    assert (error.code(), error.details()) == (
        grpc.StatusCode.NOT_FOUND,
        'there is no model "rose" here; this server has "iris"',
    )
    error = await iris_grpc.client.refused("RepositoryModelLoad", b"")
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_failing_model_tells_nothing(
    iris_grpc: Answering, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_batch: Batch, _outputs: Sequence[str]) -> Outputs:
        raise RuntimeError("secret detail at /etc/inside")

    monkeypatch.setattr(iris_grpc.serving.loaded.predictor, "predict", fail)
    error = await iris_grpc.client.refused("ModelInfer", infer())
    assert error.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in (error.details() or "")
    assert "secret detail" in caplog.text


# -- limits ----------------------------------------------------------------------------------------


async def test_limits(loaded_iris: LoadedModel) -> None:
    async with answering(loaded_iris, Limits(body_bytes=4096, rows=3)) as one:
        error = await one.client.refused("ModelInfer", infer(4))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "4 rows are too many for one request; the limit is 3 rows (--max-rows)" in error.details()
        error = await one.client.refused("ModelInfer", b"\0" * 5000)
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        metadata = (("x-much", "y" * 20_000),)
        error = await one.client.refused("ModelInfer", infer(), metadata=metadata)
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        await one.client.call("ModelInfer", infer())


async def test_a_message_that_does_not_arrive_takes_nobodys_place_for_long(loaded_iris: LoadedModel) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.sleep(60)
        yield b""

    limits = Limits(receive_seconds=0.5, connections=10, in_flight=5)  # ten calls at a time
    async with answering(loaded_iris, limits) as one, connected(one.port) as other:
        method = other.channel.stream_unary(f"/{SERVICE}/ModelInfer")
        held = [method(nothing()) for _ in range(10)]
        await asyncio.gather(*(call.wait_for_connection() for call in held))
        for call in held:
            assert await asyncio.wait_for(call.code(), 5) is grpc.StatusCode.DEADLINE_EXCEEDED
            assert await call.details() == "the message did not arrive within 0.5 s"
        assert await one.client.call("ModelInfer", infer())


async def test_a_call_without_a_message(iris_grpc: Answering) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        for message in ():
            yield message

    call = iris_grpc.client.channel.stream_unary(f"/{SERVICE}/ModelInfer")(nothing(), timeout=10)
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await call.details() == "the call came without its message"


async def test_connections_are_bounded(loaded_iris: LoadedModel) -> None:
    async with answering(loaded_iris, Limits(connections=3)) as one:
        await one.client.call("ServerLive", b"")
        async with connected(one.port) as second, connected(one.port) as third, connected(one.port) as fourth:
            await second.call("ServerLive", b"")
            await third.call("ServerLive", b"")
            assert (await fourth.refused("ServerLive", b"")).code() is grpc.StatusCode.UNAVAILABLE
            await one.client.call("ServerLive", b"")


async def test_compressed_messages_are_refused(iris_grpc: Answering) -> None:
    error = await iris_grpc.client.refused("ModelInfer", infer(3000), compression=grpc.Compression.Gzip)
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED
    bomb = gzip.compress(bytes(100_000_000))
    assert len(bomb) < Limits().body_bytes
    error = await iris_grpc.client.refused(
        "ModelInfer", bytes(100_000_000), compression=grpc.Compression.Gzip
    )
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_connections_have_a_maximum_age_which_costs_no_request(loaded_iris: LoadedModel) -> None:
    ready, seen = grpc.ChannelConnectivity.READY, set()
    async with answering(loaded_iris, Limits(connection_age_seconds=0.2)) as one:
        loop = asyncio.get_running_loop()
        end = loop.time() + 1.5
        while loop.time() < end:
            await one.client.call("ModelInfer", infer())
            seen.add(one.client.channel.get_state())
        await until(lambda: one.client.channel.get_state() is not ready)
        await one.client.call("ModelInfer", infer())
    assert ready in seen


class Held:
    """Holds the predictions of a model until it is told to go on."""

    def __init__(self, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self._go = threading.Event()
        self.begun = 0
        predict = loaded.predictor.predict
        monkeypatch.setattr(loaded.predictor, "kind", "scikit-learn")

        def slow(batch: Batch, outputs: Sequence[str]) -> Outputs:
            self.begun += 1
            assert self._go.wait(20)
            return predict(batch, outputs)

        self._slow = slow
        self._loaded = loaded
        self._monkeypatch = monkeypatch

    def hold(self) -> None:
        self._monkeypatch.setattr(self._loaded.predictor, "predict", self._slow)

    def go(self) -> None:
        self._go.set()


async def test_overload_says_when_to_come_again(
    loaded_iris: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(loaded_iris, monkeypatch)
    async with answering(loaded_iris, Limits(in_flight=2)) as one:
        held.hold()
        taken = [asyncio.ensure_future(one.client.call("ModelInfer", infer())) for _ in range(2)]
        await until(lambda: held.begun == 1)
        error = await one.client.refused("ModelInfer", infer())
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        trailing = dict(error.trailing_metadata())
        assert int(trailing["grpc-retry-pushback-ms"]) >= 1000
        assert retry_seconds(trailing["grpc-status-details-bin"]) >= 1
        assert (await one.client("ServerLive")).live, "others are answered meanwhile"
        held.go()
        for call in taken:
            assert pb.ModelInferResponse.FromString(await call).model_name == "iris"


def retry_seconds(status: bytes) -> int:
    """Read the RetryInfo in a google.rpc.Status, whose code and message come first."""
    kind = b"type.googleapis.com/google.rpc.RetryInfo"
    start = status.index(b"\x0a" + bytes([len(kind)]) + kind)
    detail = AnyMessage.FromString(status[start:])
    assert detail.value[:1] == b"\x0a"
    return Duration.FromString(detail.value[2:]).seconds


async def test_a_client_that_has_gone_is_not_served(
    loaded_iris: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(loaded_iris, monkeypatch)
    async with answering(loaded_iris) as one:
        held.hold()
        first = asyncio.ensure_future(one.client.call("ModelInfer", infer()))
        await until(lambda: held.begun == 1)
        gone = one.client.channel.unary_unary(f"/{SERVICE}/ModelInfer")(infer(2), timeout=0.2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gone
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        # The end of that call and these go over one connection: who answers these has heard of it.
        for _ in range(3):
            await one.client.call("ServerLive", b"")
        held.go()
        await first
        await one.client.call("ModelInfer", infer())
        assert held.begun == 2, "the one that nobody waits for was not begun"


# -- health and reflection -------------------------------------------------------------------------


async def test_health(iris_grpc: Answering) -> None:
    stub = health_pb2_grpc.HealthStub(iris_grpc.client.channel)
    status = health_pb2.HealthCheckResponse.ServingStatus
    for service in ("", SERVICE):
        found = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        assert found.status == status.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=5)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND

    watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=10)
    unknown = stub.Watch(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
    assert (await watch.read()).status == status.SERVING
    assert (await unknown.read()).status == status.SERVICE_UNKNOWN
    iris_grpc.serving.health.phase = Phase.DRAINING
    assert (await watch.read()).status == status.NOT_SERVING
    assert (await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status == status.NOT_SERVING
    watch.cancel()
    unknown.cancel()


async def test_watches_are_bounded(iris_grpc: Answering) -> None:
    async with (
        connected(iris_grpc.port, **{"grpc.max_concurrent_streams": 1000}) as one,
        connected(iris_grpc.port) as two,
    ):
        stubs = [health_pb2_grpc.HealthStub(client.channel) for client in (one, two)]
        watches = [stubs[index % 2].Watch(health_pb2.HealthCheckRequest(), timeout=20) for index in range(64)]
        for watch in watches:
            await watch.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs[0].Watch(health_pb2.HealthCheckRequest(), timeout=5).read()
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        for watch in watches:
            watch.cancel()
    await iris_grpc.client.call("ModelInfer", infer())


async def test_reflection_names_the_services_and_their_messages(iris_grpc: Answering) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(iris_grpc.client.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    listed, file = [one async for one in stub.ServerReflectionInfo(iter(requests), timeout=5)]
    names = {service.name for service in listed.list_services_response.service}
    assert names == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert b"ModelInferRequest" in file.file_descriptor_response.file_descriptor_proto[0]


# -- the process -----------------------------------------------------------------------------------


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
        maps = Path(f"/proc/{server.process.pid}/maps").read_text(encoding="utf-8")  # noqa: ASYNC240 - short
        assert "grpc" not in maps
