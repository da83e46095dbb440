"""Requests to be counted, and windows of counts to be compared."""

from __future__ import annotations

import numpy as np
import orjson

from solera_core.baseline import Baseline, Histogram
from solera_core.counters import read_report
from solera_core.histogram import CategoricalBins, NumericBins
from solera_core.schema import Feature, Schema, Target
from solera_server.batch import Layout as BatchLayout
from solera_server.counter_memory import Boot, CounterMemory
from solera_server.counter_report import CounterReport
from solera_server.counters import Noted, counted
from solera_server.subjects import DRAWN, UNIT, Subject

SECONDS = 60
START = 1_800_000_000 // SECONDS * SECONDS
SCHEMA = Schema(
    "Classification",
    Target("y", "String", ("no", "yes")),
    (Feature("x", "Float"), Feature("colour", "String")),
)
FOUND = Baseline(
    0,
    0,
    {
        "x": Histogram(NumericBins((0.0, 1.0)), (0, 0, 0, 0)),
        "colour": Histogram(CategoricalBins(("blue", "red")), (0, 0, 0, 0)),
    },
    {
        "predict": Histogram(CategoricalBins(("no", "yes")), (0, 0, 0, 0)),
        "score": Histogram(NumericBins((0.5,)), (0, 0, 0)),
    },
)
WHAT = counted(SCHEMA, FOUND, (0.1, 1.0))
BATCH = BatchLayout(SCHEMA.features)


class Clock:
    """A steady clock that a test sets; seconds since START."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def memory(clock, pod="pod", *, began=0.0, kept=12, processes=1, limit=8192):
    clock.time = began
    made = Boot(pod, f"{pod}-{began}", wall=START + began, steady=began, clock=clock)
    return CounterMemory(WHAT.layout, made, seconds=SECONDS, kept=kept, processes=processes, unit_limit=limit)


def batch(rows):
    columns = [
        np.array([x for x, _ in rows], dtype=np.float64),
        np.array([colour for _, colour in rows], dtype=object),
    ]
    return BATCH.batch(columns, lambda _row, _feature: "")


def noted(
    moment, *, rows=((0.5, "red"),), unit=None, arm=None, epoch=None, status=200, seconds=0.01, number=0
):
    outputs = {
        "predict": np.array(["yes" if x > 0 else "no" for x, _ in rows], dtype=object),
        "predict_proba": np.array([[0.3, 0.7] if x > 0 else [0.8, 0.2] for x, _ in rows]).reshape(-1, 2),
    }
    good = status == 200
    return Noted(
        (Subject((arm, epoch, False), *((DRAWN, number) if unit is None else (UNIT, unit))),),
        status,
        (seconds,),
        moment,
        (len(rows) if good else 0,),
        batch(rows) if good else None,
        outputs if good else None,
    )


def report(memory, after=-1):
    return read_report(orjson.loads(CounterReport(memory, "m", "m-v1", "sha256:0").document(after)))


def same(left, right):
    """Say whether two windows hold the same counts; zeros may be written or left out."""

    def arrays(window):
        found = {("features",): window.features}
        for kind, table in (("arm", window.arms), ("outcome", window.outcomes)):
            found |= {(kind, key, name): array for key, row in table.items() for name, array in row.items()}
        return {key: array.tolist() for key, array in found.items() if array is not None and array.any()}

    assert arrays(left) == arrays(right)
    assert left.units == right.units
    return True
