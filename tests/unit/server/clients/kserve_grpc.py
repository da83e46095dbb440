"""KServe's gRPC client against two models. Arguments: URLs of their servers, then their gRPC addresses."""

import asyncio
import math
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

IRIS, MIXED = sys.argv[3:5]
ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 5.6, 2.4]])


async def iris() -> None:
    async with InferenceGRPCClient(IRIS) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("iris")
        scores = []
        for binary in (False, True):
            one = InferInput("x", [2, 4], "FP64")
            if binary:
                one.set_data_from_numpy(ROWS, binary_data=True)
            else:
                one = InferInput("x", [2, 4], "FP64", data=ROWS.ravel().tolist())
            answer = await client.infer(InferRequest("iris", [one], request_id="7"))
            assert (answer.id, answer.model_version) == ("7", "iris-v1")
            labels, probabilities = answer.outputs
            assert labels.as_numpy().tolist() == [b"setosa", b"virginica"], labels.as_numpy()
            scores.append(probabilities.as_numpy())
        assert (scores[0] == scores[1]).all()
        assert scores[0].shape == (2, 3)
        try:
            await client.infer(InferRequest("rose", [one]))
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
        else:
            raise AssertionError("another model was answered")


async def mixed() -> None:
    async with InferenceGRPCClient(MIXED) as client:
        inputs = [
            InferInput("age", [2], "FP64", data=[39.5, math.nan]),
            InferInput("visits", [2], "INT64", data=[3, 40]),
            InferInput("city", [2], "BYTES", data=[b"Porto", "Málaga".encode()]),
            InferInput("member", [2], "BOOL", data=[True, False]),
            InferInput("since", [2], "BYTES", data=[b"2012-03-01T12:00:00Z", b"2013-03-01"]),
        ]
        answer = await client.infer(InferRequest("mixed", inputs))
        labels = answer.outputs[0].as_numpy()
        assert (labels.dtype, labels.shape) == (np.bool_, (2,)), labels


async def main() -> None:
    await iris()
    await mixed()


asyncio.run(main())
