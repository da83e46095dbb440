"""The health service of gRPC, grpc.health.v1, answered from what the probes say."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2 as pb

from solera_server.batch import InputError
from solera_server.grpc_codec import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from solera_server.grpc_arrivals import Arrivals
    from solera_server.grpc_core import Call
    from solera_server.health import Health

SERVICE = "grpc.health.v1.Health"
_LOOK_SECONDS = 0.2
# A watch lasts as long as its connection, and must not take the place of those who want an answer.
_MAX_WATCHES = 64
_STATUS = pb.HealthCheckResponse.ServingStatus


class _Health:
    def __init__(self, health: Health, services: Collection[str]) -> None:
        self._health = health
        self._services = frozenset(services)
        self._watches = 0

    def _status(self, service: str | None) -> pb.HealthCheckResponse.ServingStatus:
        if service not in self._services:
            return _STATUS.SERVICE_UNKNOWN
        return _STATUS.SERVING if self._health.ready().good else _STATUS.NOT_SERVING

    def check(self, call: Call, service: str) -> None:
        status = self._status(service)
        if status == _STATUS.SERVICE_UNKNOWN:
            call.fail(grpc.StatusCode.NOT_FOUND, f'there is no service "{service[:100]}" here')
        else:
            call.answer(pb.HealthCheckResponse(status=status).SerializeToString())

    def watch(self, call: Call, service: str) -> None:
        if self._watches >= _MAX_WATCHES:
            call.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_MAX_WATCHES} watches are under way")
        else:
            self._watches += 1
            # A name that is none is not kept: it may be as long as a message.
            call.run(self._watch(call, service if service in self._services else None))

    async def _watch(self, call: Call, service: str | None) -> None:
        last = None
        try:
            while True:
                status = self._status(service)
                if status != last:
                    await call.write(pb.HealthCheckResponse(status=status).SerializeToString())
                last = status
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self._watches -= 1


def health_methods(
    health: Health, services: Collection[str], arrivals: Arrivals
) -> dict[str, Callable[[Call], None]]:
    """Return what answers Check and Watch for the services named ("" for all together)."""
    servicer = _Health(health, services)

    def reading(handle: Callable[[Call, str], None]) -> Callable[[Call], None]:
        def read(call: Call, body: bytes) -> None:
            try:
                request = parse(pb.HealthCheckRequest, body)
            except InputError as error:
                call.fail(grpc.StatusCode.INVALID_ARGUMENT, error.message)
            else:
                arrivals.answered(call, 0)  # a watch goes on for long, and its message is not needed
                handle(call, request.service)

        return lambda call: arrivals.message(call, partial(read, call))

    return {"Check": reading(servicer.check), "Watch": reading(servicer.watch)}
