"""Triton's HTTP client against two models. Arguments: the URLs of their servers."""

import asyncio
import math
import sys

import numpy as np
import tritonclient.http.aio as http_aio
from tritonclient import http
from tritonclient.utils import InferenceServerException

IRIS, MIXED = (url.removeprefix("http://") for url in sys.argv[1:3])
ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 5.6, 2.4]])
LABELS = ["setosa", "virginica"]


def tensor(module, name: str, array: np.ndarray, datatype: str, *, binary: bool):
    one = module.InferInput(name, list(array.shape), datatype)
    one.set_data_from_numpy(array, binary_data=binary)
    return one


def texts(array: np.ndarray) -> list:
    return [one.decode() if isinstance(one, bytes) else one for one in array.tolist()]


def refused(call, *words: str) -> None:
    try:
        call()
    except InferenceServerException as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError(f"expected a refusal with {words}")


def iris() -> None:
    client = http.InferenceServerClient(IRIS)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "iris-v1")
    assert not client.is_model_ready("rose")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("iris")
    assert [one["name"] for one in metadata["outputs"]] == ["predict", "predict_proba"]
    scores = []
    for datatype, dtype in (("FP64", np.float64), ("FP32", np.float32), ("FP16", np.float16)):
        for binary in (True, False):
            one = tensor(http, "x", ROWS.astype(dtype), datatype, binary=binary)
            for binary_outputs in (True, False):
                outputs = [
                    http.InferRequestedOutput("predict_proba", binary_data=binary_outputs),
                    http.InferRequestedOutput("predict", binary_data=not binary_outputs),
                ]
                result = client.infer("iris", [one], outputs=outputs, request_id="7")
                assert result.get_response()["id"] == "7"
                assert texts(result.as_numpy("predict")) == LABELS
                scores.append((datatype, result.as_numpy("predict_proba")))
            # Without chosen outputs this client asks for all of them as bytes.
            assert texts(client.infer("iris", [one]).as_numpy("predict")) == LABELS
    for datatype, found in scores:
        same = next(other for kind, other in scores if kind == datatype)
        assert found.shape == (2, 3)
        assert (found == same).all(), "one answer however it travels"
    waiting = [client.async_infer("iris", [one]) for _ in range(8)]
    assert all(texts(each.get_result().as_numpy("predict")) == LABELS for each in waiting)

    refused(lambda: client.infer("iris", [one], request_compression_algorithm="gzip"), "415", "compressed")
    refused(lambda: client.infer("rose", [one]), "404", 'no model "rose"')
    refused(
        lambda: client.infer("iris", [tensor(http, "x", ROWS[:, :3].copy(), "FP64", binary=True)]), "[n, 4]"
    )
    refused(
        lambda: client.infer("iris", [one], outputs=[http.InferRequestedOutput("predict", class_count=2)]),
        "classification",
    )
    refused(client.get_inference_statistics, "404")
    # This client writes NaN, which is no JSON, into JSON; in bytes, as it sends by itself, it is a value.
    broken = np.array([[math.nan, 1, 1, 1]])
    refused(
        lambda: client.infer("iris", [tensor(http, "x", broken, "FP64", binary=False)]), "JSON has no NaN"
    )
    refused(lambda: client.infer("iris", [tensor(http, "x", broken, "FP64", binary=True)]), "missing values")


def people(module, *, binary: bool) -> list:
    return [
        tensor(module, "age", np.array([39.5, math.nan if binary else 20]), "FP64", binary=binary),
        tensor(module, "visits", np.array([3, 40]), "INT64", binary=binary),
        tensor(module, "city", np.array(["Málaga", "Porto"], dtype=object), "BYTES", binary=binary),
        tensor(module, "member", np.array([True, False]), "BOOL", binary=binary),
        tensor(
            module,
            "since",
            np.array(["2012-03-01T12:00:00Z", "2013-03-01"], dtype=object),
            "BYTES",
            binary=binary,
        ),
    ]


def mixed() -> None:
    client = http.InferenceServerClient(MIXED)
    for binary in (True, False):
        labels = client.infer("mixed", people(http, binary=binary)).as_numpy("predict")
        assert (labels.dtype, labels.shape) == (np.bool_, (2,)), labels


async def asynchronous() -> None:
    client = http_aio.InferenceServerClient(IRIS)
    one = tensor(http_aio, "x", ROWS, "FP64", binary=True)
    results = await asyncio.gather(*(client.infer("iris", [one]) for _ in range(8)))
    assert all(texts(result.as_numpy("predict")) == LABELS for result in results)
    await client.close()


iris()
mixed()
asyncio.run(asynchronous())
