"""What is decoded on the event loop is short work: a few bytes that mean many values go to the thread."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
from interpreter_lock import lets_others_run
from loopback import serve
from raw_http import post, until
from request_bodies import LIMITS, outputs_of

from solera_core.schema import Feature, Schema, Target
from solera_server.batch import InputError, Layout
from solera_server.costs import Costs
from solera_server.limits import Limits
from solera_server.message import Head, Request, Response
from solera_server.metrics import Metrics
from solera_server.predicting import Prediction
from solera_server.request_size import short_work
from solera_server.scheduler import SMALL_BODY, Scheduler
from solera_server.v1 import V1Codec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solera_server.batch import Batch
    from solera_server.codec import Call, Codec
    from solera_server.load import LoadedModel
    from solera_server.predictor import Outputs

KINDS = ("Float", "Integer", "String", "Boolean", "DateTime")
WIDE = Schema(
    "Regression", Target("z", "Float"), tuple(Feature(f"f{index}", KINDS[index % 5]) for index in range(50))
)
OBJECTS = b'{"instances":[' + b"{}," * 9_999 + b"{}]}"
COLUMNS = b'{"inputs":{"f0":[' + b"null," * 9_999 + b"null]}}"


class Noting(V1Codec):
    """Notes on which threads it decodes."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.threads: list[int] = []

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> Call:
        call = super().decode(body, headers)
        self.threads.append(threading.get_ident())
        return call


def prediction(body: bytes, codec: Codec, within: Codec | None, answers: list[Response]) -> Prediction:
    def respond(_request: Request, response: Response) -> None:
        answers.append(response)

    request = Request(Head(), body, time.perf_counter(), respond)
    return Prediction(request, codec, Metrics("m", "1"), None, within)


def codecs(schema: Schema, limits: Limits = LIMITS) -> tuple[V1Codec, V1Codec]:
    return V1Codec(schema, limits, outputs_of(schema)), V1Codec(
        schema, short_work(limits), outputs_of(schema)
    )


@pytest.mark.parametrize("body", [OBJECTS, COLUMNS])
def test_many_values_that_are_left_out_are_no_short_work(body: bytes) -> None:
    job = prediction(body, *codecs(WIDE), [])
    assert job.size <= SMALL_BODY
    assert job.decode_short() is None
    assert job.decode().batch.rows == 10_000


@pytest.mark.parametrize(
    "document",
    [
        {"instances": [{}] * 300},
        {"instances": [{"f0": 1.5, "f2": "ü"}, {"f1": 3}, {}]},
        {"instances": [[None] * 50, [0.5, 1, '"', True, "2026-03-01"] * 10]},
        {"inputs": {"f0": [1.5] * 300}},
    ],
)
def test_short_work_is_decoded_as_all_else(document: dict[str, Any]) -> None:
    job = prediction(orjson.dumps(document), *codecs(WIDE), [])
    found, expected = job.decode_short(), job.decode()
    assert found is not None
    np.testing.assert_array_equal(found.batch.numbers, expected.batch.numbers)
    np.testing.assert_equal(found.batch.texts, expected.batch.texts)
    assert found.batch.where(0, 3) == expected.batch.where(0, 3)


def test_what_is_wrong_is_said_of_short_work_and_of_what_is_too_large() -> None:
    job = prediction(b'{"instances":[{"f0":"x"}]}', *codecs(WIDE), [])
    with pytest.raises(InputError, match="expected Float"):
        job.decode_short()
    job = prediction(OBJECTS, *codecs(WIDE, Limits(rows=9_000)), [])
    assert job.decode_short() is None
    with pytest.raises(InputError, match="the limit is 9000 rows") as raised:
        job.decode()
    assert raised.value.status == 413


async def test_long_work_is_decoded_in_the_thread_and_short_work_on_the_loop(
    loaded_iris: LoadedModel,
) -> None:
    schema, predictor, limits = loaded_iris.schema, loaded_iris.predictor, Limits()
    codec, within = (Noting(schema, one, predictor.outputs) for one in (limits, short_work(limits)))
    scheduler = Scheduler(asyncio.get_running_loop(), limits)
    scheduler.start()
    scheduler.serve(predictor, Layout(schema.features))
    answers: list[Response] = []
    for rows in (4_097, 1):
        body = b'{"instances":[' + b"[1,1,1,1]," * (rows - 1) + b"[1,1,1,1]]}"
        assert len(body) <= SMALL_BODY
        assert scheduler.submit(prediction(body, codec, within, answers)) is None
    await until(lambda: len(answers) == 2)
    scheduler.stop()
    assert [len(orjson.loads(one.body)["predictions"]) for one in answers] == [1, 4_097]
    assert within.threads == [threading.get_ident()]
    assert len(codec.threads) == 1
    assert codec.threads != within.threads


async def test_long_work_is_not_taken_for_a_plain_turn_either(
    loaded_iris: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "solera_server.scheduler.measure", lambda *_: Costs(0.0, 0.0, 100.0)
    )  # rows cost nothing
    async with serve(loaded_iris, "iris") as served:
        if served.serving.plain_turn(asyncio.get_running_loop()) is None:
            pytest.skip("the extension is not built")
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        rows_on_the_loop: list[int] = []
        predict = served.serving.scheduler.predict

        def noting(batch: Batch, outputs: Sequence[str]) -> Outputs:
            rows_on_the_loop.append(batch.rows)
            return predict(batch, outputs)

        served.serving.scheduler.predict = noting  # type: ignore[method-assign]
        for rows in (1, 2, 4_096, 4_097, 3):
            body = b'{"instances":[' + b"[1,1,1,1]," * (rows - 1) + b"[1,1,1,1]]}"
            writer.write(post("/v1/models/iris:predict", body, close=False))
            answer = await reader.readuntil(b"}")
            assert (
                answer.count(b'"setosa"') + answer.count(b'"versicolor"') + answer.count(b'"virginica"')
                == rows
            )
        writer.close()
    assert rows_on_the_loop == [2, 4_096, 3], "the first request is for learning its head"


@pytest.mark.parametrize("kind", ["Float", "String"])
def test_other_threads_run_while_many_values_are_decoded(kind: str) -> None:
    schema = Schema("Regression", Target("z", "Float"), tuple(Feature(f"f{i}", kind) for i in range(500)))
    codec = V1Codec(schema, Limits(cells=5_000_000))
    if codec.plain.read_v1(OBJECTS) is None:
        pytest.skip("the extension is not built")
    assert lets_others_run(lambda: codec.plain.read_v1(OBJECTS))
