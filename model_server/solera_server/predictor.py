"""What predicts: the interface that the protocols use, and scikit-learn behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from solera_core.schema import frame
from solera_server.batch import Batch, InputError, Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solera_core.schema import Column, Schema
    from solera_server.batch import Where

Outputs = dict[str, NDArray[Any]]

PREDICT = "predict"
PREDICT_PROBA = "predict_proba"
COMPILED = "compiled"
SKLEARN = "scikit-learn"
_SHOWN = 200
# Estimators may work in float32 inside: what does not fit there is infinite to them.
_LARGEST = float(np.finfo(np.float32).max)


class Predictor(Protocol):
    """Predicts batches."""

    outputs: tuple[str, ...]
    """Names of what ``predict`` can return: ``predict``, and ``predict_proba`` where there are classes."""

    kind: str
    """How it computes, for metadata and metrics: ``compiled`` or ``scikit-learn``."""

    reason: str | None
    """Why it is not compiled, in words for an operator; None when it is."""

    native: bool
    """Whether native kernels compute, and not numpy or scikit-learn."""

    exact: bool
    """Whether it gives scikit-learn's bits; otherwise sums may differ in the last."""

    portable: bool
    """Whether the bits are the same on every machine: the examples must come out exactly."""

    merges: bool
    """Whether an answer does not depend on the other rows of a call, so that requests may be merged."""

    def predict(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """
        Return the wanted outputs: ``predict`` of shape (rows,), ``predict_proba`` of (rows, classes).

        Raises InputError for values that fit the schema and that the model cannot take.
        """


def described(predictor: Predictor) -> dict[str, str]:
    """Return what metadata and metrics say of a predictor, as short texts."""
    facts = {"predictor": predictor.kind}
    if predictor.kind == COMPILED:
        facts["kernels"] = "native" if predictor.native else "numpy"
        facts["exactness"] = "bit-equal" if predictor.exact else "sums in a fixed order"
    if predictor.reason is not None:
        facts["not_compiled"] = predictor.reason[:_SHOWN]
    return facts


class SklearnPredictor:
    """A fitted scikit-learn pipeline, called as the trainer called it."""

    kind = SKLEARN
    native = False

    def __init__(self, model: Any, schema: Schema, reason: str | None = None, *, exact: bool = False) -> None:
        self.reason = reason
        # What only compares, or adds in a fixed order, treats every row for itself.
        self.exact = self.portable = self.merges = exact
        self._model = model
        self._layout = Layout(schema.features)
        self._names = [feature.name for feature in schema.features]
        with_classes = schema.target.classes is not None and hasattr(model, PREDICT_PROBA)
        self.outputs: tuple[str, ...] = (PREDICT, PREDICT_PROBA) if with_classes else (PREDICT,)

    def predict(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        columns = self._layout.columns(batch)
        rows = frame(dict(zip(self._names, columns, strict=True)))
        try:
            # A number near the end of the range may overflow on the way; the answer then says so.
            with np.errstate(all="ignore"):
                return {name: np.asarray(getattr(self._model, name)(rows)) for name in outputs}
        except ValueError:
            refused = refused_value(columns, batch.where)
            if refused is None:
                raise
            raise InputError(refused) from None


def refused_value(columns: Sequence[Column], where: Where) -> str | None:
    """Name the first value of which a ValueError of the model can come, if there is one."""
    for column, values in enumerate(columns):
        if values.dtype == np.float64:
            odd = np.flatnonzero(~(np.abs(values) <= _LARGEST))
            missing = [row for row in odd if np.isnan(values[row])]
            extreme = [row for row in odd if not np.isnan(values[row])]
            if extreme:
                place = where(int(extreme[0]), column)
                return (
                    f"{place}: the model does not take a value that is infinite or larger than {_LARGEST:.3g}"
                )
            if missing:
                return f"{where(int(missing[0]), column)}: the model does not take a missing value here"
        else:
            for row, value in enumerate(values):
                if not isinstance(value, str):
                    return f"{where(row, column)}: the model does not take a missing value here"
    return None
