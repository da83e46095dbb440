"""Plain FastAPI: typed request and response, which Pydantic reads and writes; run by uvicorn."""

import json
import os
from pathlib import Path

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, create_model

MODEL = joblib.load(os.environ["BENCH_MODEL"])
COLUMNS = json.loads(Path(os.environ["BENCH_MODEL"]).with_name("columns.json").read_text())
FRAME = os.environ["BENCH_FRAME"] == "1"

if FRAME:
    import pandas as pd

    TYPES = {"Float": float | None, "Integer": int | None, "String": str | None}
    Row = create_model("Row", **{name: (TYPES[kind], ...) for name, kind in COLUMNS.items()})
else:
    Row = list[float]


class Question(BaseModel):
    rows: list[Row]


class Answer(BaseModel):
    predictions: list[str]


app = FastAPI()


def answer(question):
    rows = question.rows
    table = pd.DataFrame([row.model_dump() for row in rows]) if FRAME else np.array(rows)
    return Answer(predictions=MODEL.predict(table).tolist())


if os.environ.get("BENCH_THREADS") == "1":

    @app.post("/predict")
    def predict(question: Question) -> Answer:
        return answer(question)
else:

    @app.post("/predict")
    async def predict(question: Question) -> Answer:
        return answer(question)
