"""The core of gRPC on the loop by itself: many calls, failing methods, clients that leave, and its end."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import pytest
from raw_http import until

from solera_server.grpc_core import Call, Core

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@asynccontextmanager
async def served(
    methods: dict[str, Callable[[Call], None]], most: int = 100
) -> AsyncIterator[grpc.aio.Channel]:
    core = Core({name.encode(): method for name, method in methods.items()}, (), most)
    port = core.add_port("127.0.0.1:0", None)
    core.start()
    options = [("grpc.use_local_subchannel_pool", 1)]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            yield channel
    finally:
        await core.stop(0.2)
    assert core._calls == 0
    assert not core._thread.is_alive()


def echo(call: Call) -> None:
    call.receive(lambda body: call.answer(body or b""))


async def test_many_calls_at_a_time() -> None:
    async with served({"/s/Echo": echo}, most=1000) as channel:
        method = channel.unary_unary("/s/Echo")
        words = [str(number).encode() * number for number in range(500)]
        assert await asyncio.gather(*(method(word, timeout=20) for word in words)) == words


async def test_a_method_that_fails_costs_its_call_only(caplog: pytest.LogCaptureFixture) -> None:
    def at_once(_call: Call) -> None:
        raise ValueError("secret")

    def later(call: Call) -> None:
        call.receive(lambda _body: at_once(call))

    async def in_a_task() -> None:
        raise ValueError("secret")

    methods = {
        "/s/AtOnce": at_once,
        "/s/Later": later,
        "/s/Task": lambda call: call.run(in_a_task()),
        "/s/Echo": echo,
    }
    async with served(methods) as channel:
        for name in ("AtOnce", "Later", "Task"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(f"/s/{name}")(b"x", timeout=10)
            assert caught.value.code() is grpc.StatusCode.INTERNAL
            assert caught.value.details() == "internal error; the server's log says more"
            assert await channel.unary_unary("/s/Echo")(b"x", timeout=10) == b"x"
    assert caplog.text.count("ValueError: secret") == 3


async def test_more_calls_than_may_be_are_refused() -> None:
    held: list[Call] = []
    async with served({"/s/Hold": held.append}, most=2) as channel:
        method = channel.unary_unary("/s/Hold")
        calls = []
        for number in (1, 2):  # one after the other: calls that begin together may come in any order
            calls.append(method(b"", timeout=10))
            await until(lambda number=number: len(held) == number)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == "Concurrent RPC limit exceeded!"
        held[0].answer(b"there is room again")
        assert await calls[0] == b"there is room again"
        third = method(b"", timeout=10)
        await until(lambda: len(held) == 3)
        for call in held[1:]:
            call.answer(b"")
        assert [await calls[1], await third] == [b"", b""]


async def test_a_client_that_goes_is_noticed_once_and_gets_nothing() -> None:
    held: list[Call] = []
    gone: list[str] = []
    async with served({"/s/Hold": held.append}) as channel:
        call = channel.unary_unary("/s/Hold")(b"")
        await until(lambda: len(held) == 1)
        held[0].gone = lambda: gone.append("gone")
        held[0].ended = lambda _call: gone.append("ended")
        call.cancel()
        await until(lambda: held[0].cancelled)
        held[0].answer(b"too late")
        held[0].fail(grpc.StatusCode.INTERNAL, "too late")
        with pytest.raises(asyncio.CancelledError):
            await held[0].write(b"too late")
    assert gone == ["gone", "ended"]


async def test_what_was_accepted_before_the_end_is_answered() -> None:
    """Calls that came while the loop was busy, and that it sees only when it ends."""
    core = Core({b"/s/Echo": echo}, (), 100)
    port = core.add_port("127.0.0.1:0", None)
    core.start()
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        method = channel.unary_unary("/s/Echo")
        assert await asyncio.to_thread(method, b"before", timeout=10) == b"before"
        calls = [method.future(b"%d" % number, timeout=10) for number in range(3)]
        time.sleep(0.3)  # noqa: ASYNC251 - the loop is busy
        await core.stop(5.0)
        found = await asyncio.to_thread(lambda: [call.result() for call in calls])
    assert found == [b"0", b"1", b"2"]


async def test_what_is_under_way_at_the_end_is_cut() -> None:
    held: list[Call] = []
    async with served({"/s/Hold": held.append}) as channel:
        call = channel.unary_unary("/s/Hold")(b"")
        await until(lambda: len(held) == 1)
    assert held[0].cancelled
    assert call.done()
