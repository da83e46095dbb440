"""The reflection service of gRPC, bounded: the library's own waits for a client's next message for ever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha import reflection_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

SERVICE: str = reflection.SERVICE_NAME
_MAX_STREAMS = 8
"""Each may bring a message of the largest size, and takes the place of a call that wants an answer."""


def reflection_handler(services: Collection[str], receive_seconds: float) -> grpc.GenericRpcHandler:
    """Return the handler that describes ``services``; a client says something within ``receive_seconds``."""
    servicer = reflection.aio.ReflectionServicer(services)
    streams = 0

    async def messages(context: Context) -> AsyncIterator[pb.ServerReflectionRequest]:
        while True:
            try:
                async with asyncio.timeout(receive_seconds):
                    message: Any = await context.read()
            except TimeoutError:
                await context.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED, f"no message came within {receive_seconds:g} s"
                )
            if message is grpc.aio.EOF:
                return
            yield message

    async def describe(_messages: object, context: Context) -> AsyncIterator[pb.ServerReflectionResponse]:
        nonlocal streams
        if streams >= _MAX_STREAMS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_MAX_STREAMS} streams of reflection are under way"
            )
        streams += 1
        try:
            async for answer in servicer.ServerReflectionInfo(messages(context), context):
                yield answer
        finally:
            streams -= 1

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
                describe,
                request_deserializer=pb.ServerReflectionRequest.FromString,
                response_serializer=pb.ServerReflectionResponse.SerializeToString,
            )
        },
    )
