"""Triton's gRPC client against two models. Arguments: URLs of their servers, then their gRPC addresses."""

import asyncio
import math
import queue
import sys

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

IRIS, MIXED = sys.argv[3:5]
ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 5.6, 2.4]])
LABELS = [b"setosa", b"virginica"]


def tensor(module, name: str, array: np.ndarray, datatype: str):
    one = module.InferInput(name, list(array.shape), datatype)
    one.set_data_from_numpy(array)
    return one


def refused(call, status: str, *words: str) -> None:
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{status}", error
        assert all(word in error.message() for word in words), error
    else:
        raise AssertionError(f"expected {status}")


def iris() -> None:
    client = triton.InferenceServerClient(IRIS)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.get_server_metadata().name == "solera"
    metadata = client.get_model_metadata("iris", "iris-v1", as_json=True)
    assert [one["name"] for one in metadata["outputs"]] == ["predict", "predict_proba"]
    for datatype, dtype in (("FP64", np.float64), ("FP32", np.float32), ("FP16", np.float16)):
        one = tensor(triton, "x", ROWS.astype(dtype), datatype)
        result = client.infer("iris", [one], request_id="7", headers={"x-request-id": "a"})
        assert result.get_response().id == "7"
        assert result.as_numpy("predict").tolist() == LABELS
        assert result.as_numpy("predict_proba").shape == (2, 3)
    wanted = [triton.InferRequestedOutput("predict")]
    assert client.infer("iris", [one], outputs=wanted).as_numpy("predict_proba") is None
    answers: queue.Queue = queue.Queue()
    for _ in range(8):
        client.async_infer("iris", [one], lambda result, error: answers.put((result, error)))
    for _ in range(8):
        result, error = answers.get(timeout=10)
        assert error is None, error
        assert result.as_numpy("predict").tolist() == LABELS
    refused(lambda: client.infer("rose", [one]), "NOT_FOUND", 'no model "rose"')
    refused(
        lambda: client.infer("iris", [tensor(triton, "x", ROWS[:, :3].copy(), "FP64")]),
        "INVALID_ARGUMENT",
        "[n, 4]",
    )
    refused(lambda: client.infer("iris", [one], compression_algorithm="gzip"), "UNIMPLEMENTED")
    refused(
        lambda: client.infer("iris", [one], outputs=[triton.InferRequestedOutput("predict", class_count=2)]),
        "INVALID_ARGUMENT",
        "classification",
    )
    refused(client.get_inference_statistics, "UNIMPLEMENTED")


def mixed() -> None:
    client = triton.InferenceServerClient(MIXED)
    since = np.array(["2012-03-01T12:00:00Z", "2013-03-01"], dtype=object)
    inputs = [
        tensor(triton, "age", np.array([39.5, math.nan]), "FP64"),
        tensor(triton, "visits", np.array([3, 40]), "INT64"),
        tensor(triton, "city", np.array(["Málaga", "Porto"], dtype=object), "BYTES"),
        tensor(triton, "member", np.array([True, False]), "BOOL"),
        tensor(triton, "since", since, "BYTES"),
    ]
    labels = client.infer("mixed", inputs).as_numpy("predict")
    assert (labels.dtype, labels.shape) == (np.bool_, (2,)), labels


async def asynchronous() -> None:
    client = triton_aio.InferenceServerClient(IRIS)
    one = tensor(triton_aio, "x", ROWS, "FP64")
    results = await asyncio.gather(*(client.infer("iris", [one]) for _ in range(8)))
    assert all(result.as_numpy("predict").tolist() == LABELS for result in results)
    await client.close()


iris()
mixed()
asyncio.run(asynchronous())
