"""A model behind gRPC on a real socket, and gRPC's own client with calls by name."""

from __future__ import annotations

import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from loopback import serve

from solera_server.grpc_server import SERVICE, GrpcServer
from solera_server.limits import Limits
from solera_server.open_inference import open_inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from solera_server.load import LoadedModel

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


def infer(rows: int = 1, **more: Any) -> bytes:
    message = pb.ModelInferRequest(**{"model_name": "iris", "raw_input_contents": [ROW * rows], **more})
    message.inputs.add(name="x", shape=[rows, 4], datatype="FP64")
    return message.SerializeToString()
