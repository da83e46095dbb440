"""LitServe: one API server and one worker. ``python litserve_server.py``, settings in the environment."""

import os

import joblib
import litserve
import numpy as np

BATCH = int(os.environ.get("BENCH_BATCH", "1"))
FRAME = os.environ["BENCH_FRAME"] == "1"


class Predictor(litserve.LitAPI):
    def setup(self, device):  # noqa: ARG002 - LitServe passes it
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    def decode_request(self, request):
        return request["rows"]

    def batch(self, inputs):
        self.sizes = [len(rows) for rows in inputs]
        return [row for rows in inputs for row in rows]

    def predict(self, rows):
        if FRAME:
            import pandas as pd

            return self.model.predict(pd.DataFrame(rows))
        return self.model.predict(np.array(rows))

    def unbatch(self, output):
        ends = np.cumsum(self.sizes)
        return [output[end - size : end] for size, end in zip(self.sizes, ends, strict=True)]

    def encode_response(self, output):
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    api = Predictor(max_batch_size=BATCH, batch_timeout=float(os.environ.get("BENCH_BATCH_SECONDS", "0")))
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        devices=1,
        workers_per_device=1,
        fast_queue=os.environ.get("BENCH_FAST_QUEUE") == "1",
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
