"""BentoML: a service as its guide for scikit-learn has it. BENCH_MODEL is the joblib file."""

import os
from typing import Any

import bentoml
import joblib
import numpy as np
import pandas as pd

FRAME = os.environ["BENCH_FRAME"] == "1"
BATCH = int(os.environ.get("BENCH_BATCH", "0"))
# Batching does not take data frames in this version: it fails at the first request. A list of rows works.
Rows, Labels = (list[dict[str, Any]], list[str]) if FRAME else (np.ndarray, np.ndarray)
HOW = {"batchable": True, "max_batch_size": BATCH, "max_latency_ms": 10_000} if BATCH else {}


@bentoml.service(
    workers=1,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    monitoring={"enabled": False},
    traffic={"timeout": 60},
)
class Predictor:
    """One worker, since there is one core."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @bentoml.api(route="/predict", **HOW)
    def predict(self, rows: Rows) -> Labels:
        if FRAME:
            return self.model.predict(pd.DataFrame(rows)).tolist()
        return self.model.predict(rows)
