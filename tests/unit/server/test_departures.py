"""Clients that leave before their answer: what was received of them is let go, decoded or not."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pytest
from raw_http import post, until
from request_bodies import NUMBERS, tensor, v1, v2

from solera_server.batch import Batch
from solera_server.message import Head, Request
from solera_server.metrics import Metrics
from solera_server.predicting import Prediction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from echo_server import Echo

    from solera_server.codec import Call, Codec

BODIES: dict[str, tuple[Codec, object]] = {
    "V1": (v1(NUMBERS), {"instances": [[1, 2]] * 100}),
    "V1, carefully": (v1(NUMBERS), {"instances": [[1, "NaN"]] * 100}),
    "V2": (v2(NUMBERS), {"inputs": [tensor("t", [100, 2], "FP64", [1.5, 2.5] * 100)]}),
}


def requested(body: bytes) -> Request:
    return Request(Head(), body, time.perf_counter(), lambda _request, _response: None)


@pytest.mark.parametrize("kind", BODIES)
def test_a_decoded_request_that_is_abandoned_holds_no_body(kind: str) -> None:
    codec, document = BODIES[kind]
    body = orjson.dumps(document)
    alone = sys.getrefcount(body)
    request = requested(body)
    job = Prediction(request, codec, Metrics("m", "1"), None)
    job.call = job.decode_short()
    assert job.call is not None
    numbers = job.call.batch.numbers.copy()
    assert sys.getrefcount(body) > alone
    request.abandon()
    assert request.abandoned
    assert sys.getrefcount(body) == alone
    np.testing.assert_array_equal(job.call.batch.numbers, numbers)  # it may be predicted at this moment
    assert isinstance(job.call.batch.where(0, 0), str)


def test_who_leaves_while_the_body_is_decoded_leaves_nothing_behind() -> None:
    codec, document = BODIES["V1"]
    body = orjson.dumps(document)
    alone = sys.getrefcount(body)
    request = requested(body)

    class Slow:
        def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> Call:
            call = codec.decode(body, headers)
            request.abandon()  # on the event loop, while this is the thread
            return call

    job = Prediction(request, Slow(), Metrics("m", "1"), None)
    job.call = job.decode()
    assert sys.getrefcount(body) == alone


async def test_a_connection_that_ends_abandons_its_request(echo: Echo) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(post("/held", b"[1]"))
    await echo.holding()
    [request] = echo.held
    assert request.body == b"[1]"
    request.decoded = Batch(1, np.zeros((1, 1)), (), lambda row, _feature: f"row {row}")
    writer.close()
    await until(lambda: request.abandoned)
    assert request.body == b""
    assert request.decoded.where(0, 0) == "", "what may hold on to the body is gone"
    echo.release()
