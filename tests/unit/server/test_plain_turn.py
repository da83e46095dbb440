"""Plain requests of a turn: the answers, counts and ends of the ordinary way, only sooner."""

from __future__ import annotations

import asyncio
import gc
import json
import random
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import pytest
from loopback import serve
from plain_requests import IRIS, OTHER, ROW, clients, together, turns_of, v1_body, v2_body
from raw_http import Answer, post, until
from recorded import recording_server, with_baseline
from server_artifacts import write_cities

from solera_server.connection import Connection
from solera_server.limits import Limits
from solera_server.load import load
from solera_server.recording_options import RecordingOptions

if TYPE_CHECKING:
    from pathlib import Path

    from recorded import RecordedServer
    from server_artifacts import Trained

    from solera_server.load import LoadedModel


async def test_a_forgotten_head_is_learnt_again(loaded_iris: LoadedModel) -> None:
    one = post("/v1/models/iris:predict", v1_body(ROW), close=False)
    async with serve(loaded_iris, "iris") as served, clients(served.port, 1) as [client]:
        sizes = turns_of(served)
        await client.ask(one)
        await client.ask(one)
        assert sizes == [1]
        for number in range(300):
            other = post(
                "/v1/models/iris:predict", v1_body([1]), close=False, headers=f"User-Agent: {number}\r\n"
            )
            assert (await client.ask(other)).status == 400
        sizes.clear()
        for _ in range(3):
            await client.ask(one)
        assert sizes == [1, 1]


async def test_head_and_body_may_come_apart(loaded_iris: LoadedModel) -> None:
    request = post("/v1/models/iris:predict", v1_body(ROW), close=False)
    head = request[: request.index(b"\r\n\r\n") + 4]
    body = request[len(head) :]
    async with serve(loaded_iris, "iris") as served, clients(served.port, 1) as [client]:
        sizes = turns_of(served)
        whole = [await client.ask(request) for _ in range(2)]
        [connection] = served.server._connections

        async def kept(size: int) -> None:
            await until(lambda: len(connection._reader.kept) == size)

        async def apart(*pieces: bytes) -> Answer:
            *first, last = pieces
            for piece, size in zip(first, accumulate(map(len, first)), strict=True):
                client.writer.write(piece)
                await kept(size)
            return await client.ask(last)

        assert await apart(head, body) == whole[1]
        assert await apart(head + body[:3], body[3:7], body[7:]) == whole[1]
        assert sizes == [1] * 3
        # What is not plain goes the ordinary way, from all of its bytes.
        assert (await apart(head, body.replace(b"5.1", b'"a"'))).status == 400
        assert await apart(head, body) == whole[1]
        assert sizes == [1] * 4


async def test_limits_of_size_hold(loaded_iris: LoadedModel) -> None:
    limits = Limits(body_bytes=256, header_bytes=1024)
    headers = "x-forwarded-for: %s\r\n"
    small = post("/v1/models/iris:predict", v1_body(ROW), close=False, headers=headers % "a")
    large_body = post("/v1/models/iris:predict", v1_body(*[ROW] * 20), close=False, headers=headers % "a")
    large_head = post("/v1/models/iris:predict", v1_body(ROW), close=False, headers=headers % ("a" * 1500))
    for turns in (True, False):
        async with (
            serve(loaded_iris, "iris", limits, turns=turns) as served,
            clients(served.port, 2) as found,
        ):
            for client, large, status in zip(found, (large_body, large_head), (413, 431), strict=True):
                assert [(await client.ask(small)).status for _ in range(3)] == [200] * 3
                assert (await client.ask(large)).status == status, turns


def iris_requests(chance: random.Random) -> list[bytes]:
    """Requests of all kinds, plain and other, good and bad."""
    found = []
    for number in range(64):
        rows = [
            [round(chance.uniform(0, 8), 2) for _ in range(4)] for _ in range(chance.choice([1, 1, 1, 2, 5]))
        ]
        named = [dict(zip(IRIS, row, strict=True)) for row in rows]
        bodies = [
            v2_body(*rows),
            v2_body(*rows),
            v2_body(*rows, outputs=[{"name": "predict"}]),
            v2_body(*rows, id=f"é{number}"),
            v1_body(*rows),
            v1_body(*named),
            v1_body(*rows, parameters={"probabilities": True}),
            v1_body(*rows, [1, 2, 3]),
            v2_body(*rows, id=7),
            v1_body([None, 1, 2, 3]),
            b'{"instances": [[1,2,',
        ]
        body = chance.choice(bodies)
        path = "/v2/models/iris/infer" if b'"inputs"' in body else "/v1/models/iris:predict"
        headers = chance.choice(["", f"x-request-id: r-{number}\r\n", f"X-Request-Id: r {number}\r\n"])
        found.append(post(path, body, close=False, headers=headers))
    return found


async def test_answers_are_those_of_the_ordinary_way(loaded_iris: LoadedModel) -> None:
    chance = random.Random(5)
    async with (
        serve(loaded_iris, "iris") as quick,
        serve(loaded_iris, "iris", turns=False) as ordinary,
        clients(quick.port, 64) as by_turns,
        clients(ordinary.port, 64) as one_by_one,
    ):
        sizes = turns_of(quick)
        for _ in range(8):
            requests = iris_requests(chance)
            assert await together(by_turns, requests) == await together(one_by_one, requests)
        assert sum(sizes) > 50, "many were taken"
        counted = [one.serving.metrics.totals() for one in (quick, ordinary)]
        for totals in counted:
            assert sum(totals.pop("latency")) == totals["requests"] == 8 * 64
        assert counted[0] == counted[1]
        assert quick.serving.metrics.rows == ordinary.serving.metrics.rows


async def test_texts_booleans_and_a_request_that_the_model_refuses(tmp_path: Path) -> None:
    trained = write_cities(tmp_path)
    loaded = load(trained.directory, None)
    assert loaded.predictor.kind == "compiled"
    rows = [
        {"size": number * 1.5, "city": city} for number, city in enumerate(["Porto", "Jerez", None, "é"] * 8)
    ]
    good = [post("/v1/models/m:predict", v1_body(row), close=False) for row in rows]
    several = post("/v1/models/m:predict", v1_body(*rows[:3]), close=False)
    bad = post("/v1/models/m:predict", v1_body({"size": None, "city": "Porto"}), close=False)
    async with (
        serve(loaded, "m") as quick,
        serve(loaded, "m", turns=False) as ordinary,
        clients(quick.port, 34) as by_turns,
        clients(ordinary.port, 34) as one_by_one,
    ):
        sizes = turns_of(quick)
        for last in (several, bad, several):
            for _ in range(2):
                requests = [*good[:20], last, *good[20:], several]
                found = await together(by_turns, requests)
                assert found == await together(one_by_one, requests)
                assert [answer.status for answer in found] == [200] * 20 + [400 if last is bad else 200] + [
                    200
                ] * 13
        assert b"does not take a missing value" in (await by_turns[0].ask(bad)).body
        assert sum(sizes) > 68


async def test_a_turn_that_fails_is_told_and_costs_no_answer(
    loaded_iris: LoadedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    request = post("/v2/models/iris/infer", v2_body(ROW), close=False)

    def broken(*_: Any) -> Any:
        raise RuntimeError("a defect")

    async with serve(loaded_iris, "iris") as served, clients(served.port, 4) as found:
        before = await together(found, [request] * 4)
        monkeypatch.setattr(served.serving.codecs[1], "bodies", broken)
        for _ in range(3):
            assert await together(found, [request] * 4) == before
    told = [record for record in caplog.records if "a turn failed" in record.message]
    assert [record.levelname for record in told][:1] == ["ERROR"]
    assert all(record.levelname == "DEBUG" for record in told[1:])


@pytest.mark.parametrize("request_id", ["", "x-request-id: r-1\r\n"])
async def test_a_server_that_drains_ends_connections(loaded_iris: LoadedModel, request_id: str) -> None:
    request = post("/v2/models/iris/infer", v2_body(ROW), close=False, headers=request_id)
    async with serve(loaded_iris, "iris") as served, clients(served.port, 2) as [one, other]:
        before = await one.ask(request)
        assert await other.ask(request) == before
        sizes = turns_of(served)
        served.server.draining = True
        after = await one.ask(request)
        assert after.body == before.body
        assert after.headers == {**before.headers, "connection": "close"}
        assert await one._reader.read() == b""
        assert sizes == [1]


async def test_a_connection_of_age_ends(loaded_iris: LoadedModel) -> None:
    request = post("/v2/models/iris/infer", v2_body(ROW), close=False)
    limits = replace(Limits(), connection_age_seconds=0.2)
    async with serve(loaded_iris, "iris", limits) as served, clients(served.port, 1) as [one]:
        answer = await one.ask(request)
        while "connection" not in answer.headers:
            answer = await one.ask(request)
        assert await one._reader.read() == b""


async def test_requests_sent_ahead_are_answered_in_order(loaded_iris: LoadedModel) -> None:
    setosa, virginica = (post("/v1/models/iris:predict", v1_body(row), close=False) for row in (ROW, OTHER))
    bad = post("/v1/models/iris:predict", v1_body([1]), close=False)
    whole = setosa + virginica + bad + virginica + setosa
    async with serve(loaded_iris, "iris") as served, clients(served.port, 2) as [one, other]:
        await together([one, other], [setosa, setosa])
        sizes = turns_of(served)
        chance = random.Random(1)
        for _ in range(60):
            places = sorted(chance.sample(range(len(whole)), 3))
            edges = [0, len(setosa), *[place for place in places if place > len(setosa)], len(whole)]
            for start, end in pairwise(edges):
                one.writer.write(whole[start:end])
                if chance.random() < 0.7:
                    await asyncio.sleep(0)
            found = [await one.next() for _ in range(5)]
            assert [answer.status for answer in found] == [200, 200, 400, 200, 200]
            names = [json.loads(found[place].body)["predictions"][0] for place in (0, 1, 3, 4)]
            assert names == ["setosa", "virginica", "virginica", "setosa"]
        assert sizes, "some came by themselves, and were taken"


async def test_a_turn_that_is_lost_ends_its_connections(
    loaded_iris: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    request = post("/v2/models/iris/infer", v2_body(ROW), close=False)
    async with serve(loaded_iris, "iris") as served, clients(served.port, 3) as found:
        await together(found, [request] * 3)
        plain = served.server.plain
        assert plain is not None
        intake = plain._intake

        class Failing:
            abandon, limit = staticmethod(intake.abandon), staticmethod(intake.limit)

            def __len__(self) -> int:
                return len(intake)

            def finish(self) -> Any:
                raise MemoryError

        plain._intake = Failing()
        for one in found:
            one.writer.write(request)
        assert [await one._reader.read() for one in found] == [b"", b"", b""]
        assert served.serving.scheduler.in_flight == 0
        assert "a turn was lost" in caplog.text


async def test_bodies_that_go_the_ordinary_way_after_all_are_counted(
    loaded_iris: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = post("/v2/models/iris/infer", v2_body(*[ROW] * 100), close=False)
    limits = Limits(bodies_bytes=4096, body_bytes=4096)

    def broken(*_: Any) -> Any:
        raise RuntimeError("a defect")

    async with serve(loaded_iris, "iris", limits) as served, clients(served.port, 2) as [one, other]:
        assert (await one.ask(request)).status == 200
        assert (await other.ask(request)).status == 200
        monkeypatch.setattr(served.serving.codecs[1], "bodies", broken)
        bodies = served.server.shared.bodies
        assert (await one.ask(request)).status == 200
        assert bodies.used == 0
        assert bodies.take(3000)
        answer = await one.ask(request)
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        bodies.give(3000)
        assert (await other.ask(request)).status == 200
        assert bodies.used == 0


class _Transport:
    """Takes what a connection writes."""

    def __init__(self) -> None:
        self.written = b""
        self.broken = self.aborted = False

    def write(self, data: bytes) -> None:
        if self.broken:
            raise RuntimeError("a defect of the transport")
        self.written += data

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def connect(served: Any) -> tuple[Connection, _Transport]:
    connection, transport = Connection(served.server), _Transport()
    connection.connection_made(transport)
    return connection, transport


async def test_who_has_gone_is_neither_answered_nor_counted(loaded_iris: LoadedModel) -> None:
    request = post("/v1/models/iris:predict", v1_body(ROW, OTHER), close=False)
    async with serve(loaded_iris, "iris") as served:
        connections = [connect(served) for _ in range(3)]
        for connection, transport in connections:
            connection.data_received(request)
            await until(lambda transport=transport: transport.written)
        before = served.serving.metrics.totals()["requests"]
        for connection, transport in connections:
            transport.written = b""
            connection.data_received(request)
        assert served.serving.scheduler.in_flight == served.serving.scheduler.queued == 3
        connections[1][0].connection_lost(None)
        await until(lambda: connections[0][1].written)
        assert [bool(transport.written) for _, transport in connections] == [True, False, True]
        assert served.serving.metrics.totals()["requests"] == before + 2
        assert served.serving.scheduler.in_flight == 0
        for connection, _ in connections[::2]:
            connection.connection_lost(None)


async def test_an_answer_that_cannot_be_written_ends_its_connection_and_no_other(
    loaded_iris: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    request = post("/v1/models/iris:predict", v1_body(ROW), close=False)
    async with serve(loaded_iris, "iris") as served:
        connections = [connect(served) for _ in range(3)]
        for connection, transport in connections:
            connection.data_received(request)
            await until(lambda transport=transport: transport.written)
        before = served.serving.metrics.totals()["requests"]
        sizes = turns_of(served)
        for connection, transport in connections:
            transport.written = b""
            transport.broken = transport is connections[1][1]
            connection.data_received(request)
        await until(lambda: connections[2][1].written)
        assert sizes == [3]
        assert [transport.aborted for _, transport in connections] == [False, True, False]
        assert served.serving.metrics.totals()["requests"] == before + 2
        assert "an answer was not delivered" in caplog.text
        for connection, _ in connections:
            connection.connection_lost(None)


async def test_a_turn_that_is_not_counted_is_answered(
    loaded_iris: LoadedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of one connection it runs where bytes arrive, and what is raised there ends the connection."""
    request = post("/v1/models/iris:predict", v1_body(ROW), close=False)
    async with serve(loaded_iris, "iris") as served, clients(served.port, 1) as [one]:
        assert (await one.ask(request)).status == 200
        sizes = turns_of(served)
        monkeypatch.setattr(served.serving.metrics, "answered_together", lambda *_: 1 / 0)
        for _ in range(2):
            assert (await one.ask(request)).status == 200
        assert sizes == [1, 1]
    assert "recording failed" in caplog.text


async def test_one_connection_alone_waits_for_no_other(loaded_iris: LoadedModel) -> None:
    request = post("/v1/models/iris:predict", v1_body(ROW), close=False)
    async with serve(loaded_iris, "iris") as served:
        connection, transport = connect(served)
        connection.data_received(request)
        await until(lambda: transport.written)
        transport.written = b""
        connection.data_received(request)
        assert transport.written.startswith(b"HTTP/1.1 200 OK\r\n"), "in the same turn of the loop"
        connection.connection_lost(None)


async def test_as_many_wait_as_may(loaded_iris: LoadedModel) -> None:
    request = post("/v1/models/iris:predict", v1_body(ROW), close=False)
    async with serve(loaded_iris, "iris", replace(Limits(), in_flight=2)) as served:
        connections = [connect(served) for _ in range(4)]
        for connection, transport in connections:
            connection.data_received(request)
            await until(lambda transport=transport: transport.written)
            transport.written = b""
        for connection, _ in connections:
            connection.data_received(request)
        await until(lambda: all(transport.written for _, transport in connections))
        statuses = [transport.written.split()[1] for _, transport in connections]
        assert statuses == [b"200", b"200", b"503", b"503"]
        for connection, _ in connections:
            connection.connection_lost(None)


async def test_what_records_more_than_counts_takes_no_turns(
    iris: Trained, loaded_iris: LoadedModel, tmp_path: Path
) -> None:
    from recorded import write_keys

    keys = RecordingOptions(receipt_keys=write_keys(tmp_path, k1=b"0" * 32))
    async with recording_server(iris, loaded_iris, keys) as served:
        assert not served.recorder.plain
    async with recording_server(iris, loaded_iris, RecordingOptions()) as served:
        assert served.recorder.plain


async def test_counts_are_those_of_the_ordinary_way(iris: Trained, tmp_path: Path) -> None:
    rows = [dict(zip(IRIS, row, strict=True)) for row in (ROW, OTHER, [5.9, 3.0, 4.2, 1.5])]
    trained = with_baseline(iris, tmp_path / "iris", rows * 20)
    loaded = load(trained.directory, None)
    options = RecordingOptions(unit_header="x-unit")
    chance = random.Random(3)
    batches = [iris_requests(chance) for _ in range(6)]
    for batch in batches:
        for index in range(0, 64, 3):
            arm = f"x-solera-arm: a{index % 2}\r\nx-solera-weight-epoch: 3\r\nx-unit: u{index % 7}\r\n"
            head, _, body = batch[index].partition(b"\r\n\r\n")
            batch[index] = head + b"\r\n" + arm.encode()[:-2] + b"\r\n\r\n" + body
    async with (
        recording_server(trained, loaded, options) as quick,
        recording_server(trained, loaded, options, turns=False) as ordinary,
    ):
        for served in (quick, ordinary):
            async with clients(int(served.url.rpartition(":")[2]), 64) as found:
                for batch in batches:
                    await together(found, batch)
            served.recorder.fold()
        assert counts(quick) == counts(ordinary)


def counts(served: RecordedServer) -> Any:
    """All that was counted but for what depends on chance and time: groups and buckets of requests without a unit."""
    memory = served.recording.memory
    window = memory.read(memory.number(memory.boot.now()))
    bins = memory.bins
    arms = {
        key: {
            name: values.reshape(-1, 32 if name == "predictions" else values.shape[-1]).sum()
            for name, values in fields.items()
            if name != "slow"
        }
        for key, fields in window.arms.items()
    }
    assert window.features is not None
    return window.features.reshape(-1, bins).sum(axis=0).tolist(), arms, window.units


async def test_a_server_that_has_ended_is_collected(loaded_iris: LoadedModel) -> None:
    """Heads know their route, that the server, and the server the intake that knows the heads."""
    import weakref

    async with serve(loaded_iris, "iris") as served, clients(served.port, 1) as [one]:
        request = post("/v1/models/iris:predict", v1_body(ROW), close=False)
        for _ in range(3):
            await one.ask(request)
        gone = weakref.ref(served.server.plain)
    del served, one
    for _ in range(5):
        await asyncio.sleep(0)
        gc.collect()
    assert gone() is None
