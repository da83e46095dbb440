"""The reflection service of gRPC, bounded: the library's own waits for a client's next message for ever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha import reflection_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    from solera_server.grpc_core import Call

SERVICE: str = reflection.SERVICE_NAME
_MAX_STREAMS = 8
"""Each may bring a message of the largest size, and takes the place of a call that wants an answer."""


class _Reflection:
    def __init__(self, services: Collection[str], receive_seconds: float) -> None:
        self._servicer = reflection.aio.ReflectionServicer(services)
        self._seconds = receive_seconds
        self._streams = 0

    def begin(self, call: Call) -> None:
        if self._streams >= _MAX_STREAMS:
            words = f"{_MAX_STREAMS} streams of reflection are under way"
            call.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, words)
        else:
            self._streams += 1
            call.run(self._describe(call))

    async def _describe(self, call: Call) -> None:
        try:
            async for answer in self._servicer.ServerReflectionInfo(self._messages(call), call):
                await call.write(answer.SerializeToString())
        except TimeoutError:
            call.fail(grpc.StatusCode.DEADLINE_EXCEEDED, f"no message came within {self._seconds:g} s")
        except DecodeError:
            words = f"the message is not a valid {pb.ServerReflectionRequest.DESCRIPTOR.full_name}"
            call.fail(grpc.StatusCode.INVALID_ARGUMENT, words)
        else:
            call.close()
        finally:
            self._streams -= 1

    async def _messages(self, call: Call) -> AsyncIterator[pb.ServerReflectionRequest]:
        while True:
            async with asyncio.timeout(self._seconds):
                message = await call.read()
            if message is None:
                return
            yield pb.ServerReflectionRequest.FromString(message)


def reflection_methods(
    services: Collection[str], receive_seconds: float
) -> dict[str, Callable[[Call], None]]:
    """Return what describes ``services``; a client says something within ``receive_seconds``."""
    return {"ServerReflectionInfo": _Reflection(services, receive_seconds).begin}
