"""V1 and V2 over real sockets with real models: answers, metadata, errors, overload, probes."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback import Served, serve
from raw_http import ask, post, until
from server_artifacts import IRIS_FEATURES, Trained, mixed_rows

from solera_core.schema import decode_rows, frame
from solera_server import management
from solera_server.health import Phase
from solera_server.http_server import HttpServer
from solera_server.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solera_server.batch import Batch
    from solera_server.load import LoadedModel
    from solera_server.predictor import Outputs

IRIS_ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 5.6, 2.4]]


async def call(served: Served, method: str, path: str, body: Any = None) -> httpx.Response:
    async with httpx.AsyncClient(base_url=served.url) as client:
        return await client.request(method, path, json=body)


async def test_v1_lists_and_describes_the_model(iris_server: Served) -> None:
    assert (await call(iris_server, "GET", "/")).json() == {"status": "alive"}
    assert (await call(iris_server, "GET", "/v1/models")).json() == {"models": ["iris"]}
    assert (await call(iris_server, "GET", "/v1/models/iris")).json() == {"name": "iris", "ready": True}


async def test_v1_predicts_class_names(iris_server: Served) -> None:
    by_name = [dict(zip(IRIS_FEATURES, row, strict=True)) for row in IRIS_ROWS]
    for instances in (IRIS_ROWS, by_name):
        answer = await call(iris_server, "POST", "/v1/models/iris:predict", {"instances": instances})
        assert (answer.status_code, answer.json()) == (200, {"predictions": ["setosa", "virginica"]})


async def test_v1_mixed_types_agree_with_the_pipeline(mixed_server: Served, mixed: Trained) -> None:
    rows: list[dict[str, Any]] = [*mixed_rows(), {**mixed_rows()[0], "city": "Cádiz", "age": None}]
    expected = mixed.model.predict(frame(decode_rows(mixed.schema, rows))).tolist()
    answer = await call(mixed_server, "POST", "/v1/models/mixed:predict", {"instances": rows})
    assert answer.json() == {"predictions": expected}
    assert {True, False} == set(expected), "the example would prove nothing otherwise"


async def test_v1_regression(regression_server: Served, regression: Trained) -> None:
    rows: list[dict[str, Any]] = [{"x": 0.5, "y": None}, {"x": -2.0, "y": 1.0}]
    expected = regression.model.predict(frame(decode_rows(regression.schema, rows))).tolist()
    answer = await call(regression_server, "POST", "/v1/models/regression:predict", {"instances": rows})
    assert answer.json() == {"predictions": expected}


async def test_v1_columns_and_probabilities(mixed_server: Served, mixed: Trained) -> None:
    rows = mixed_rows(9)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    body = {"inputs": columns, "parameters": {"probabilities": True}}
    answer = (await call(mixed_server, "POST", "/v1/models/mixed:predict", body)).json()
    table = frame(decode_rows(mixed.schema, rows))
    assert answer["predictions"] == mixed.model.predict(table).tolist()
    expected = mixed.model.predict_proba(table).tolist()
    assert [[row["false"], row["true"]] for row in answer["probabilities"]] == expected


async def test_v2_server_and_health(iris_server: Served) -> None:
    for path in ("/v2", "/v2/"):
        answer = await call(iris_server, "GET", path)
        assert answer.json() == {"name": "solera", "version": "0.1.0", "extensions": ["binary_tensor_data"]}
    assert (await call(iris_server, "GET", "/v2/health/live")).json() == {"live": True}
    assert (await call(iris_server, "GET", "/v2/health/ready")).json() == {"live": True, "ready": True}
    for path in ("/v2/models/iris/ready", "/v2/models/iris/versions/iris-v1/ready"):
        assert (await call(iris_server, "GET", path)).json() == {"name": "iris", "ready": True}


async def test_v2_metadata(mixed_server: Served, regression_server: Served) -> None:
    for path in ("/v2/models/mixed", "/v2/models/mixed/versions/mixed-v1"):
        document = (await call(mixed_server, "GET", path)).json()
        assert document["name"] == "mixed"
        assert document["versions"] == ["mixed-v1"]
        assert document["platform"].startswith("sklearn_1.")
        assert [(t["name"], t["datatype"], t["shape"]) for t in document["inputs"]] == [
            ("age", "FP64", [-1]),
            ("visits", "INT64", [-1]),
            ("city", "BYTES", [-1]),
            ("member", "BOOL", [-1]),
            ("since", "BYTES", [-1]),
        ]
        assert document["outputs"] == [
            {"name": "predict", "datatype": "BOOL", "shape": [-1]},
            {
                "name": "predict_proba",
                "datatype": "FP64",
                "shape": [-1, 2],
                "parameters": {"classes": "[false,true]"},
            },
        ]
        parameters = document["parameters"]
        assert parameters["predictor"] == "compiled"
        assert parameters["kernels"] in ("native", "numpy")
        assert parameters["exactness"] == "bit-equal"
        assert "not_compiled" not in parameters
    document = (await call(regression_server, "GET", "/v2/models/regression")).json()
    outputs = document["outputs"]
    assert outputs == [{"name": "predict", "datatype": "FP64", "shape": [-1]}]


async def test_v2_infers_as_its_metadata_says(mixed_server: Served, mixed: Trained) -> None:
    rows = mixed_rows(7)
    document = (await call(mixed_server, "GET", "/v2/models/mixed")).json()
    inputs = [
        {**item, "shape": [len(rows)], "data": [row[item["name"]] for row in rows]}
        for item in document["inputs"]
    ]
    for path in ("/v2/models/mixed/infer", "/v2/models/mixed/versions/mixed-v1/infer"):
        answer = (await call(mixed_server, "POST", path, {"id": "q", "inputs": inputs})).json()
        assert (answer["model_name"], answer["model_version"], answer["id"]) == ("mixed", "mixed-v1", "q")
        table = frame(decode_rows(mixed.schema, rows))
        labels, chances = answer["outputs"]
        assert labels["data"] == mixed.model.predict(table).tolist()
        assert labels["datatype"] == document["outputs"][0]["datatype"]
        assert chances["shape"] == [7, 2]
        assert np.array(chances["data"]).reshape(7, 2).tolist() == mixed.model.predict_proba(table).tolist()


async def test_v2_tensor_and_chosen_output(iris_server: Served) -> None:
    tensor = {"name": "input-0", "shape": [2, 4], "datatype": "FP32", "data": IRIS_ROWS}
    body = {"inputs": [tensor], "outputs": [{"name": "predict"}]}
    answer = (await call(iris_server, "POST", "/v2/models/iris/infer", body)).json()
    assert "id" not in answer
    assert answer["outputs"] == [
        {"name": "predict", "shape": [2], "datatype": "BYTES", "data": ["setosa", "virginica"]}
    ]


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v3", 404, 'there is nothing at "/v3"; see /v1/models and /v2'),
        ("GET", "/v1/models/", 404, 'there is nothing at "/v1/models/"'),
        ("GET", "/v1/models/rose", 404, 'there is no model "rose" here; this server has "iris"'),
        ("POST", "/v1/models/rose:predict", 404, 'there is no model "rose" here; this server has "iris"'),
        ("POST", "/v2/models/rose/infer", 404, 'there is no model "rose" here; this server has "iris"'),
        ("GET", "/v2/models/..%2f..%2fetc", 404, 'there is no model ".." here'),
        ("GET", "/v2/models/iris/versions/7", 404, 'there is no version "7" here; this server has "iris-v1"'),
        ("POST", "/v1/models/iris:classify", 404, 'there is nothing at "/v1/models/iris:classify"'),
        ("POST", "/v1/models/iris:feedback", 404, "feedback is off on this server; it is on where"),
        ("POST", "/v1/models/iris:feedback", 404, "started with --receipt-keys"),
        ("POST", "/v1/models/rose:feedback", 404, 'there is no model "rose" here; this server has "iris"'),
        ("GET", "/v1/models/iris:predict", 405, "GET is not possible here; use POST"),
        ("GET", "/v2/models/iris/infer", 405, "GET is not possible here; use POST"),
        ("DELETE", "/v2/models/iris", 405, "DELETE is not possible here; use GET, HEAD"),
        ("POST", "/v2/models/iris/infer", 400, "the body is empty"),
    ],
)
async def test_errors(iris_server: Served, method: str, path: str, status: int, message: str) -> None:
    answer = await call(iris_server, method, path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert message in answer.json()["error"]


async def test_bad_input_names_the_place(iris_server: Served) -> None:
    body = {"instances": [*IRIS_ROWS, [1, 2, "abc", 4]]}
    answer = await call(iris_server, "POST", "/v1/models/iris:predict", body)
    assert answer.status_code == 400
    assert answer.json() == {"error": 'instances[2].petal_length: expected Float, got "abc"'}


async def test_values_that_the_model_cannot_take(iris_server: Served, mixed_server: Served) -> None:
    body: dict[str, Any] = {"instances": [[1, 2, "Infinity", 4]]}
    answer = await call(iris_server, "POST", "/v1/models/iris:predict", body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(
        "instances[0].petal_length: the model does not take a value that is"
    )
    body = {"instances": [mixed_rows()[1], {**mixed_rows()[2], "age": "-Infinity"}]}
    answer = await call(mixed_server, "POST", "/v1/models/mixed:predict", body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("instances[1].age: the model does not take a value that is")


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
)
mixed_instances = st.fixed_dictionaries(
    {
        "age": scalars | st.floats(allow_nan=False),
        "visits": scalars | st.integers(-(2**53), 2**53),
        "city": scalars,
        "member": scalars | st.booleans(),
        "since": scalars | st.datetimes().map(str),
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(
    rows=st.lists(mixed_instances, min_size=1, max_size=3),
    numbers=st.lists(st.floats(allow_nan=False), min_size=4, max_size=4),
)
async def test_no_input_makes_a_server_error(
    mixed_server: Served, iris_server: Served, rows: list[Any], numbers: list[float]
) -> None:
    for served, name, instances in ((mixed_server, "mixed", rows), (iris_server, "iris", [numbers])):
        body = orjson.dumps({"instances": instances})
        answers = await ask(served.port, post(f"/v1/models/{name}:predict", body))
        assert answers[0].status in (200, 400), answers[0].body


class SlowPredictor:
    """Holds the interpreter's lock for a while, as a large prediction in Python code does."""

    kind = "slow"
    reason = None
    native = False
    exact = True
    portable = True
    merges = False
    outputs: tuple[str, ...] = ("predict",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.rows: list[int] = []

    def predict(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            sum(range(100))
        self.rows.append(batch.rows)
        return {name: np.zeros(batch.rows) for name in outputs}


async def test_a_long_prediction_does_not_hold_up_probes(loaded_iris: LoadedModel) -> None:
    slow = replace(loaded_iris, predictor=SlowPredictor(1.0))
    async with serve(slow, "slow") as served, httpx.AsyncClient(base_url=served.url) as client:
        predicting = asyncio.create_task(
            client.post("/v1/models/slow:predict", json={"instances": IRIS_ROWS})
        )
        await until(lambda: served.serving.scheduler.busy_seconds() > 0)
        probes = 0
        while not predicting.done():
            assert (await client.get("/v2/health/live")).status_code == 200
            probes += 1
        assert (await predicting).status_code == 200
        assert probes >= 5, "a probe waited for the prediction"


async def test_over_capacity_is_refused_at_once(loaded_iris: LoadedModel) -> None:
    slow = replace(loaded_iris, predictor=SlowPredictor(0.3))
    async with (
        serve(slow, "slow", Limits(in_flight=2)) as served,
        httpx.AsyncClient(base_url=served.url) as client,
    ):
        waiting = [
            asyncio.create_task(client.post("/v1/models/slow:predict", json={"instances": IRIS_ROWS}))
            for _ in range(2)
        ]
        await until(lambda: served.serving.scheduler.in_flight == 2)
        refused = await client.post("/v1/models/slow:predict", json={"instances": IRIS_ROWS})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert "error" in refused.json()
        assert [(await task).status_code for task in waiting] == [200, 200]
        assert (
            await client.post("/v1/models/slow:predict", json={"instances": IRIS_ROWS})
        ).status_code == 200


async def test_work_for_a_client_that_has_gone_is_not_begun(loaded_iris: LoadedModel) -> None:
    predictor = SlowPredictor(0.3)
    async with serve(replace(loaded_iris, predictor=predictor), "slow") as served:
        predictor.rows.clear()
        body = json.dumps({"instances": IRIS_ROWS}).encode()
        _, first = await asyncio.open_connection("127.0.0.1", served.port)
        first.write(post("/v1/models/slow:predict", body))
        await until(lambda: served.serving.scheduler.busy_seconds() > 0)
        _, second = await asyncio.open_connection("127.0.0.1", served.port)
        second.write(post("/v1/models/slow:predict", body))
        await until(lambda: served.serving.scheduler.in_flight == 2)
        second.close()
        await until(lambda: served.serving.scheduler.in_flight == 0)
        first.close()
        assert predictor.rows == [2], "the abandoned request was predicted"


class BrokenPredictor(SlowPredictor):
    def predict(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        raise ValueError(f"secret detail at /etc/inside: {batch.rows} {outputs}")


async def test_a_broken_model_tells_nothing(
    loaded_iris: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(replace(loaded_iris, predictor=BrokenPredictor(0)), "broken") as served:
        answer = await call(served, "POST", "/v1/models/broken:predict", {"instances": IRIS_ROWS})
        assert answer.status_code == 500
        assert answer.json() == {"error": "the prediction failed; the server's log says why"}
        assert "secret detail" in caplog.text
        assert (await call(served, "GET", "/v1/models/broken")).status_code == 200


class HeldPredictor(SlowPredictor):
    """Predicts at once, or when it is let go."""

    def __init__(self) -> None:
        super().__init__(0)
        self.let_go = threading.Event()
        self.let_go.set()

    def predict(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        self.let_go.wait(30)
        return super().predict(batch, outputs)


async def test_readiness_and_liveness_say_why_not(loaded_iris: LoadedModel) -> None:
    held = HeldPredictor()
    async with serve(replace(loaded_iris, predictor=held), "slow") as served:
        probes = HttpServer(management.router(served.serving.health, served.serving.metrics), Limits())
        port = await probes.listen("127.0.0.1", 0)
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                missing = await client.get("/healthz")
                expected = 'there is nothing at "/healthz"; there are /livez, /readyz, /metrics and /counters'
                assert (missing.status_code, missing.json()) == (404, {"error": expected})
                await _check_reasons(served, held, client)
        finally:
            held.let_go.set()
            probes.stop_listening()
            await probes.finish(asyncio.get_running_loop().time() + 1)


async def _check_reasons(served: Served, held: HeldPredictor, client: httpx.AsyncClient) -> None:
    health, scheduler = served.serving.health, served.serving.scheduler
    assert [(await client.get(path)).status_code for path in ("/livez", "/readyz")] == [200, 200]
    health.phase = Phase.DRAINING
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "draining\n")
    assert (await client.get("/livez")).status_code == 200
    ready = await call(served, "GET", "/v2/health/ready")
    assert (ready.status_code, ready.json()) == (503, {"live": True, "ready": False, "error": "draining"})
    health.phase = Phase.SERVING
    health._stall_seconds = 0.1
    held.let_go.clear()
    predicting = asyncio.create_task(
        call(served, "POST", "/v1/models/slow:predict", {"instances": IRIS_ROWS})
    )
    await until(lambda: scheduler.busy_seconds() > 0.1)
    for path in ("/livez", "/readyz"):
        answer = await client.get(path)
        assert answer.status_code == 503
        assert "a prediction has been running for" in answer.text
    held.let_go.set()
    assert (await predicting).status_code == 200
    assert (await client.get("/livez")).status_code == 200
    scheduler.stop()
    await until(lambda: not scheduler.alive)
    assert (await client.get("/livez")).text == "the prediction thread has ended\n"


async def test_metrics_count_what_was_answered(iris_server: Served) -> None:
    await call(iris_server, "POST", "/v1/models/iris:predict", {"instances": IRIS_ROWS})
    await call(iris_server, "POST", "/v1/models/iris:predict", {"instances": []})
    await call(iris_server, "POST", "/v2/models/rose/infer", {})
    text = iris_server.serving.metrics.exposition()[0].decode()
    common = 'model="iris",protocol="v1",version="iris-v1"'
    assert f'solera_server_requests_total{{code="200",{common}}} 1.0' in text
    assert f'solera_server_requests_total{{code="400",{common}}} 1.0' in text
    assert (
        'solera_server_requests_total{code="404",model="iris",protocol="other",version="iris-v1"} 1.0' in text
    )
    assert f"solera_server_request_duration_seconds_count{{{common}}} 2.0" in text
    assert 'solera_server_rows_total{model="iris",version="iris-v1"} 2.0' in text
    assert "rose" not in text, "a client must not make labels"
