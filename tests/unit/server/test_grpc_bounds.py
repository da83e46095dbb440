"""What messages of gRPC may take in all: those that come slowly, those that wait, and answers nobody reads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
from grpc_calls import answering, connected, infer
from raw_http import until

from solera_server.grpc_server import SERVICE
from solera_server.limits import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from solera_server.load import LoadedModel

INFER = f"/{SERVICE}/ModelInfer"
KIB = 1024


async def nothing() -> AsyncIterator[bytes]:
    await asyncio.sleep(60)
    yield b""


async def test_messages_that_come_slowly_give_way_to_those_that_are_there(loaded_iris: LoadedModel) -> None:
    limits = Limits(body_bytes=64 * KIB, bodies_bytes=256 * KIB)  # room for four that arrive
    async with answering(loaded_iris, limits) as one, connected(one.port) as other:
        held = [other.channel.stream_unary(INFER)(nothing()) for _ in range(4)]
        await asyncio.gather(*(call.wait_for_connection() for call in held))
        await until(lambda: one.server._arrivals.taken >= 256 * KIB, 5)
        answers = await asyncio.gather(*(one.client.call("ModelInfer", infer()) for _ in range(50)))
        assert len(answers) == 50
        assert one.server._arrivals.taken <= 256 * KIB
        await until(lambda: any(call.done() for call in held), 5)  # the client hears of it a little later
        ended = [call for call in held if call.done()]
        for call in ended:
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await call.details() == "the message came slowly while others waited for room; try again"
        for call in held:
            call.cancel()
        await until(lambda: not one.server._arrivals.taken, 5)


async def test_more_than_may_arrive_is_refused_with_the_bound(loaded_iris: LoadedModel) -> None:
    limits = Limits(body_bytes=64 * KIB, bodies_bytes=64 * KIB, receive_seconds=0.6)
    async with answering(loaded_iris, limits) as one, connected(one.port) as other:
        held = other.channel.stream_unary(INFER)(nothing())
        await until(lambda: one.server._arrivals.taken > 0, 5)
        one.server._arrivals._taken += 64 * KIB  # as much as predictions that take long would hold
        error = await one.client.refused("ModelInfer", infer())
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.details() == "messages of 65536 bytes arrive or wait, and no more may; try again"
        one.server._arrivals._taken -= 64 * KIB
        held.cancel()
        assert await one.client.call("ModelInfer", infer())


async def test_a_health_check_whose_message_does_not_come_ends(loaded_iris: LoadedModel) -> None:
    async with answering(loaded_iris, Limits(receive_seconds=0.3)) as one:
        for call in (
            one.client.channel.stream_unary("/grpc.health.v1.Health/Check")(nothing()),
            one.client.channel.stream_stream("/grpc.health.v1.Health/Watch")(nothing()),
        ):
            assert await asyncio.wait_for(call.code(), 5) is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_answers_that_are_not_read_are_bounded_and_end(loaded_iris: LoadedModel) -> None:
    limits = Limits(unread_bytes=300 * KIB, connection_age_seconds=1.0, write_seconds=1.0)
    window = {"grpc.http2.bdp_probe": 0}  # the client would make room for the answer by itself
    async with answering(loaded_iris, limits) as one, connected(one.port, **window) as other:
        unread = other.channel.unary_stream(INFER)(infer(5000))  # of which nothing is read
        await until(lambda: one.server._arrivals._unread > 0, 5)
        error = await one.client.refused("ModelInfer", infer(5000))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.details() == "too many answers are not read by their clients; try again"
        assert await one.client.call("ModelInfer", infer()), "small ones are sent all the same"
        await until(lambda: not one.server._arrivals._unread, 8)
        assert await one.client.call("ModelInfer", infer(5000))
        unread.cancel()
