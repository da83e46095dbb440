"""What predicts: the interface that the protocols use, and scikit-learn behind it."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from solera_core.schema import frame
from solera_server.batch import Batch, InputError, Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from solera_core.schema import Column, Schema

log = logging.getLogger(__name__)

Outputs = dict[str, NDArray[Any]]

PREDICT = "predict"
PREDICT_PROBA = "predict_proba"
COMPILED = "compiled"
SKLEARN = "scikit-learn"
_SHOWN = 200
# How long the value that a model refuses is looked for; a refusal must not cost much more than an answer.
_SEARCH_SECONDS = 0.1
# Estimators may work in float32 inside: what does not fit there is infinite to them.
LARGEST = float(np.finfo(np.float32).max)


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
        self._taken: list[Column] | None = None
        """A row that the model has answered: the first of its examples."""
        self._refused_before = False
        with_classes = schema.target.classes is not None and hasattr(model, PREDICT_PROBA)
        self.outputs: tuple[str, ...] = (PREDICT, PREDICT_PROBA) if with_classes else (PREDICT,)

    def predict(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        columns = self._layout.columns(batch)
        try:
            found = self._answers(columns, outputs)
        except ValueError as error:
            if self._taken is None:
                raise
            # A model that has answered its examples is sound: the values of this request are what it refuses.
            place = self._refused(columns, self._taken, outputs)
            told = "the model does not take a value of this request"
            if place is not None:
                row, column = place
                told = f"{batch.where(row, column)}: {refusal(columns[column][row])}"
            self._tell(error, told)
            raise InputError(told) from None
        if self._taken is None:
            self._taken = [column[:1].copy() for column in columns]
        return found

    def _answers(self, columns: Sequence[Column], outputs: Sequence[str]) -> Outputs:
        rows = frame(dict(zip(self._names, columns, strict=True)))
        # A number near the end of the range may overflow on the way; the answer then says so.
        with np.errstate(all="ignore"):
            return {name: np.asarray(getattr(self._model, name)(rows)) for name in outputs}

    def _refused(
        self, columns: Sequence[Column], taken: Sequence[Column], outputs: Sequence[str]
    ) -> tuple[int, int] | None:
        """
        Return row and feature of a value that the model refuses, found by halving.

        None where that takes too long, or where no value is to blame alone.
        """
        deadline = perf_counter() + _SEARCH_SECONDS

        def half(low: int, high: int, refuses: Callable[[int, int], bool]) -> int | None:
            while high - low > 1:
                if perf_counter() > deadline:
                    return None
                middle = (low + high) // 2
                low, high = (low, middle) if refuses(low, middle) else (middle, high)
            return low

        def refuses(tried: Sequence[Column]) -> bool:
            try:
                self._answers(tried, outputs)
            except ValueError:
                return True
            return False

        row = half(0, len(columns[0]), lambda low, high: refuses([part[low:high] for part in columns]))
        if row is None:
            return None
        own = [part[row : row + 1] for part in columns]
        # With every value from the row that was taken the model answers; with the first ones it may not yet.
        column = half(0, len(own), lambda _, high: not refuses([*taken[:high], *own[high:]]))
        if column is None or not refuses([*taken[:column], own[column], *taken[column + 1 :]]):
            return None
        return row, column

    def _tell(self, error: ValueError, told: str) -> None:
        """Log what the model said: the first time for all to see, since clients decide how often it comes."""
        level = logging.DEBUG if self._refused_before else logging.WARNING
        self._refused_before = True
        log.log(level, "the model refused a request", exc_info=error, extra={"answer": told})


def refusal(value: Any) -> str:
    """Say why a model may not take a value."""
    if not isinstance(value, str):
        if np.isnan(value):
            return "the model does not take a missing value here"
        if abs(value) > LARGEST:
            return f"the model does not take a value that is infinite or larger than {LARGEST:.3g}"
    return "the model does not take this value"
