"""KServe's REST client against two models, `iris` (numbers) and `mixed`. Arguments: the URLs of their servers."""

import asyncio
import math
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

IRIS, MIXED = sys.argv[1:3]
ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 5.6, 2.4]])
LABELS = ["setosa", "virginica"]
NAMES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
PEOPLE = [
    {"age": 39.5, "visits": 3, "city": "Málaga", "member": True, "since": "2012-03-01T12:00:00Z"},
    {"age": None, "visits": 40, "city": None, "member": False, "since": "2013-03-01"},
]


async def v1() -> list:
    config = RESTConfig(protocol="v1")
    async with InferenceRESTClient(config) as client:
        assert await client.is_server_live(IRIS)
        assert await client.is_model_ready(IRIS, "iris")
        by_name = [dict(zip(NAMES, row, strict=True)) for row in ROWS.tolist()]
        for instances in (ROWS.tolist(), by_name):
            assert await client.infer(IRIS, {"instances": instances}, "iris") == {"predictions": LABELS}
        explained = await client.explain(IRIS, "iris", {"instances": ROWS.tolist()})
        assert explained["predictions"] == LABELS
        for one, label in zip(explained["explanations"], LABELS, strict=True):
            assert one["class"] == label
            assert math.isclose(one["base_value"] + sum(one["contributions"].values()), one["output"])
        return (await client.infer(MIXED, {"instances": PEOPLE}, "mixed"))["predictions"]


def columns(*, binary: bool, rows: list) -> list:
    kinds = {"age": ("FP64", float), "visits": ("INT64", np.int64), "member": ("BOOL", np.bool_)}
    inputs = []
    for name in PEOPLE[0]:
        datatype, kind = kinds.get(name, ("BYTES", np.object_))
        values = [math.nan if row[name] is None else row[name] for row in rows]
        one = InferInput(name, [len(rows)], datatype)
        one.set_data_from_numpy(np.array(values, dtype=kind), binary_data=binary)
        inputs.append(one)
    return inputs


async def v2(expected: list) -> None:
    config = RESTConfig(protocol="v2")
    async with InferenceRESTClient(config) as client:
        assert await client.is_server_live(IRIS)
        assert await client.is_server_ready(IRIS)
        assert await client.is_model_ready(IRIS, "iris")
        scores = []
        for binary in (False, True):
            one = InferInput("x", [2, 4], "FP64")
            one.set_data_from_numpy(ROWS, binary_data=binary)
            for wanted in (False, True):
                request = InferRequest(
                    "iris", [one], request_id="7", parameters={"binary_data_output": wanted}
                )
                answer = await client.infer(IRIS, request, "iris")
                assert (answer.id, answer.model_name) == ("7", "iris")
                labels, probabilities = answer.outputs
                assert labels.data == LABELS
                scores.append(probabilities.as_numpy())
        assert all((one == scores[0]).all() and one.shape == (2, 3) for one in scores)

        # A missing number is NaN in bytes and null in JSON; a missing text can only be said in JSON.
        complete = [PEOPLE[0], {**PEOPLE[1], "city": "Porto"}]
        for binary in (False, True):
            request = InferRequest(
                "mixed",
                columns(binary=binary, rows=complete),
                request_outputs=[RequestedOutput("predict", {"binary_data": binary})],
            )
            answer = await client.infer(MIXED, request, "mixed")
            assert answer.outputs[0].as_numpy().tolist() == expected, answer.outputs[0].data

        try:
            await client.infer(IRIS, {"inputs": []}, "iris")
        except httpx.HTTPStatusError as error:
            assert "inputs: expected a list of at least one tensor" in str(error)
        else:
            raise AssertionError("an empty request was answered")


async def main() -> None:
    predictions = await v1()
    assert all(isinstance(one, bool) for one in predictions)
    await v2(predictions)


asyncio.run(main())
