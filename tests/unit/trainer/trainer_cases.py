"""Problems and tables for the trainer's tests."""

import copy

import numpy as np
import pyarrow as pa

from solera_core.catalogue import load
from solera_core.salt import split_salt
from solera_core.spec import Gate, Invalid, Task, Training, parse
from solera_trainer.problem import Problem

CATALOGUE = load()
LOGISTIC = {"name": "logistic", "estimator": "sklearn.linear_model.LogisticRegression"}
RIDGE = {"name": "ridge", "estimator": "sklearn.linear_model.Ridge"}


def problem(task="Classification", data=None, gates=(), **training):
    """Return a Problem: target `y`, one plain candidate, 3 folds, unless said otherwise."""
    candidate = LOGISTIC if task == "Classification" else RIDGE
    document = {
        "data": {"uri": "s3://bucket/x.csv", "target": "y", **(data or {})},
        "candidates": [candidate],
        "validation": {"folds": 3},
        **copy.deepcopy(training),
    }
    parsed = parse(Training, document)
    assert not isinstance(parsed, Invalid), str(parsed)
    judged = [parse(Gate, gate) for gate in gates]
    assert not any(isinstance(gate, Invalid) for gate in judged), judged
    return Problem(Task(task), parsed, split_salt("model", parsed.data.split.seed), tuple(judged))


def table(rows=200, seed=0):
    """Return a table with a feature of each type, missing values, and a target that depends on them."""
    random = np.random.default_rng(seed)
    number = random.normal(size=rows)
    count = random.integers(0, 50, size=rows)
    colour = random.choice(["red", "green", "blue"], size=rows)
    flag = random.random(rows) < 0.5
    day = random.integers(0, 1000, size=rows)
    score = number + (colour == "red") + 0.02 * count + flag
    y = np.where(score > np.median(score), "high", "low")
    gone = random.random((rows, 3)) < 0.1
    return pa.table(
        {
            "number": pa.array(np.where(gone[:, 0], np.nan, number), from_pandas=True),
            "count": pa.array(count.tolist()),
            "colour": pa.array([None if g else c for g, c in zip(gone[:, 1], colour.tolist(), strict=True)]),
            "flag": pa.array([None if g else f for g, f in zip(gone[:, 2], flag.tolist(), strict=True)]),
            "day": pa.array([int(d) * 86_400_000_000 for d in day], type=pa.timestamp("us")),
            "id": pa.array([f"row-{index:05d}" for index in range(rows)]),
            "value": pa.array(score),
            "y": pa.array(y.tolist()),
        }
    )
