"""gRPC over real sockets, with gRPC's own client: calls, errors, health, reflection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import numpy as np
import pytest
from grpc_calls import KINDS, Answering, answering, connected, infer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from solera_server.grpc_server import SERVICE
from solera_server.health import Phase
from solera_server.limits import Limits
from solera_server.open_inference import open_inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from solera_server.batch import Batch
    from solera_server.load import LoadedModel
    from solera_server.predictor import Outputs

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


async def test_a_watch_does_not_keep_its_message(iris_grpc: Answering) -> None:
    stub = health_pb2_grpc.HealthStub(iris_grpc.client.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="x" * 500_000), timeout=10)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.ServingStatus.SERVICE_UNKNOWN
    assert iris_grpc.server._arrivals.taken == 0
    watch.cancel()


async def test_an_answer_that_is_not_logged_or_counted_is_given(
    iris_grpc: Answering, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        on = True

        def note(self, *_: Any) -> Any:
            raise RuntimeError("a defect")

        answered = note

    monkeypatch.setattr(iris_grpc.server, "_access", Broken())
    monkeypatch.setattr(iris_grpc.server, "_observer", Broken())
    for _ in range(2):
        assert (await iris_grpc.client("ModelReady", name="iris")).ready
    said = {record.message for record in caplog.records if record.name.startswith("solera")}
    assert said == {"an answer was not logged", "an answer was not counted"}


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


async def test_streams_of_reflection_are_few_and_end_when_nobody_speaks(loaded_iris: LoadedModel) -> None:
    async def silent() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        await asyncio.sleep(60)
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    async with answering(loaded_iris, Limits(receive_seconds=1.0)) as one:
        stub = reflection_pb2_grpc.ServerReflectionStub(one.client.channel)
        streams = [stub.ServerReflectionInfo(silent(), timeout=20) for _ in range(9)]
        codes = sorted([(await stream.code()).name for stream in streams])
        assert codes == ["DEADLINE_EXCEEDED"] * 8 + ["RESOURCE_EXHAUSTED"]
        assert await one.client.call("ModelInfer", infer())


async def test_reflection_says_what_is_no_message(iris_grpc: Answering) -> None:
    method = iris_grpc.client.channel.stream_stream(
        f"/{reflection_pb2.DESCRIPTOR.package}.ServerReflection/ServerReflectionInfo"
    )
    call = method(iter([b"\xff\xff"]), timeout=5)
    assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "the message is not a valid grpc.reflection." in await call.details()
