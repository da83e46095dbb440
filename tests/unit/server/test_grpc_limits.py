"""gRPC under limits and overload, with gRPC's own client; clients that come slowly, or leave."""

from __future__ import annotations

import asyncio
import gzip
import threading
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from grpc_calls import Answering, answering, connected, infer
from raw_http import until

from solera_server.grpc_server import SERVICE
from solera_server.limits import Limits
from solera_server.open_inference import open_inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from solera_server.batch import Batch
    from solera_server.load import LoadedModel
    from solera_server.predictor import Outputs


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
        assert one.server._active == 1
        held.go()
        await first
        await one.client.call("ModelInfer", infer())
        assert held.begun == 2, "the one that nobody waits for was not begun"
        assert one.server._active == 0
