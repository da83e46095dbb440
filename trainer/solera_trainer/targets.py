"""The target column: which type it has, and its values as scikit-learn gets them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from solera_core.failures import Failure, Reason
from solera_core.schema import BOOLEAN, DATETIME, FLOAT, INTEGER, STRING
from solera_core.spec import Task
from solera_trainer.columns import convert, infer_type


def target_values(
    task: Task, name: str, array: Any, kind: str | None, rows: npt.NDArray[np.int64]
) -> tuple[str, npt.NDArray[Any]]:
    """Return the target's type and its values in the rows given, none of which is missing.

    Classes are strings (fixed width, so that they are stored plainly), 64-bit integers or booleans;
    Regression has float64. `kind` None: inferred. Raises Failure (DataUnreadable).
    """
    chosen = array.take(rows)
    kind = kind or infer_type(name, chosen)
    if task is Task.REGRESSION:
        return FLOAT, _numbers(name, chosen, kind)
    if kind == FLOAT:
        # A missing value turns integers into floats; classes that are floats are integers then.
        values = np.asarray(convert(name, chosen, FLOAT), dtype=np.float64)
        if not np.all(np.isfinite(values) & (values == np.round(values))):
            message = (
                f'the target "{name}" holds real numbers, which are no classes: '
                "write task: Regression, or name another target."
            )
            raise Failure(Reason.DATA_UNREADABLE, message)
        return INTEGER, values.astype(np.int64)
    if kind in {STRING, DATETIME}:
        return STRING, np.asarray(convert(name, chosen, STRING).tolist(), dtype=np.str_)
    values = np.asarray(convert(name, chosen, kind), dtype=np.float64)
    return kind, values.astype(np.bool_ if kind == BOOLEAN else np.int64)


def _numbers(name: str, array: Any, kind: str) -> npt.NDArray[np.float64]:
    if kind not in {FLOAT, INTEGER}:
        message = (
            f'the target "{name}" is {kind}, and Regression predicts numbers: '
            "write task: Classification, or name another target."
        )
        raise Failure(Reason.DATA_UNREADABLE, message)
    values = np.asarray(convert(name, array, kind), dtype=np.float64)
    infinite = int(np.isinf(values).sum())
    if infinite:
        message = f'the target "{name}" is infinite in {infinite} rows.'
        raise Failure(Reason.DATA_UNREADABLE, message)
    return values
