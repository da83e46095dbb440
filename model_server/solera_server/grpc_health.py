"""The health service of gRPC, grpc.health.v1, answered from what the probes say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2 as pb

from solera_server.batch import InputError
from solera_server.grpc_codec import parse

if TYPE_CHECKING:
    from collections.abc import Collection

    from solera_server.grpc_arrivals import Arrivals
    from solera_server.health import Health

SERVICE = "grpc.health.v1.Health"
_LOOK_SECONDS = 0.2
# A watch lasts as long as its connection, and must not take the place of those who want an answer.
_MAX_WATCHES = 64
_STATUS = pb.HealthCheckResponse.ServingStatus


class _Health:
    def __init__(self, health: Health, services: Collection[str], arrivals: Arrivals) -> None:
        self._health = health
        self._services = frozenset(services)
        self._watches = 0
        self._arrivals = arrivals

    def _status(self, service: str) -> pb.HealthCheckResponse.ServingStatus:
        if service not in self._services:
            return _STATUS.SERVICE_UNKNOWN
        return _STATUS.SERVING if self._health.ready().good else _STATUS.NOT_SERVING

    async def _request(self, context: grpc.aio.ServicerContext[Any, Any]) -> pb.HealthCheckRequest:
        async with self._arrivals.message(context) as body:
            try:
                return parse(pb.HealthCheckRequest, body)
            except InputError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        raise AssertionError("abort raises")

    async def check(
        self, _messages: object, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.HealthCheckResponse:
        request = await self._request(context)
        status = self._status(request.service)
        if status == _STATUS.SERVICE_UNKNOWN:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f'there is no service "{request.service[:100]}" here'
            )
        return pb.HealthCheckResponse(status=status)

    async def watch(self, _messages: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        request = await self._request(context)
        if self._watches >= _MAX_WATCHES:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_MAX_WATCHES} watches are under way")
        self._watches += 1
        last = None
        try:
            while True:
                status = self._status(request.service)
                if status != last:
                    await context.write(pb.HealthCheckResponse(status=status))
                last = status
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self._watches -= 1


def health_handler(health: Health, services: Collection[str], arrivals: Arrivals) -> grpc.GenericRpcHandler:
    """Return the handler that answers Check and Watch for the services named ("" for all together)."""
    servicer = _Health(health, services, arrivals)
    # As streams of messages, of which the first is read: only so the wait for it can be bounded.
    kinds = {"response_serializer": pb.HealthCheckResponse.SerializeToString}
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Check": grpc.stream_unary_rpc_method_handler(servicer.check, **kinds),
            "Watch": grpc.stream_stream_rpc_method_handler(servicer.watch, **kinds),
        },
    )
