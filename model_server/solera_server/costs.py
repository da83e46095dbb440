"""What predictions cost, as measured: for deciding where one runs and how long others wait for it."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from solera_server.batch import Batch, InputError

if TYPE_CHECKING:
    from solera_server.batch import Layout, Texts
    from solera_server.predictor import Predictor

_ROWS = 64
_SLOW = 0.05
_UNKNOWN = 0.001
_WEIGHT = 0.1
_BYTE_SECONDS = 20e-9
_JOB_SECONDS = 50e-6


class Costs:
    """
    Seconds of a prediction: ``fixed`` for each call and ``per_row``, times a factor that follows the load.

    ``fixed`` and ``per_row`` are measured before the first request. The factor is a moving average of what
    predictions took over what was expected.
    """

    def __init__(self, fixed: float, per_row: float, row_bytes: float) -> None:
        self._fixed = fixed
        self._per_row = per_row
        self._row_bytes = row_bytes
        self._factor = 1.0

    def of_rows(self, rows: int) -> float:
        """Return the seconds of one call with so many rows."""
        return self._factor * (self._fixed + rows * self._per_row)

    @property
    def of_call(self) -> float:
        """Seconds of a call beside those of its rows."""
        return self._factor * self._fixed

    @property
    def of_row(self) -> float:
        """Seconds of a row beside those of its call."""
        return self._factor * self._per_row

    def of_body(self, size: int) -> float:
        """Return the seconds that a body of so many bytes is going to take, beside the call's."""
        rows = max(1.0, size / self._row_bytes)
        return _JOB_SECONDS + size * _BYTE_SECONDS + self._factor * rows * self._per_row

    def rows_within(self, seconds: float) -> int:
        """Return how many rows a call may have to take at most so long; at least one."""
        if self._per_row <= 0:
            return 1_000_000
        return max(1, int((seconds / self._factor - self._fixed) / self._per_row))

    def observe(self, rows: int, seconds: float) -> None:
        """Take a prediction into account."""
        expected = self._fixed + rows * self._per_row
        if expected > 0:
            # One stall of the machine should not turn away a second's requests.
            ratio = min(seconds / expected, 4 * self._factor)
            self._factor = max(0.05, self._factor + _WEIGHT * (ratio - self._factor))

    def observe_body(self, size: int, rows: int) -> None:
        """Take into account how many rows were in a body."""
        self._row_bytes += _WEIGHT * (size / rows - self._row_bytes)


def measure(predictor: Predictor, layout: Layout) -> Costs:
    """Measure a predictor with rows of zeros and empty texts; what it does not take counts as slow."""
    features = max(1, len(layout.features))
    try:
        one = _seconds(predictor, layout, 1, 4)
        many = _seconds(predictor, layout, _ROWS, 2) if one < _SLOW else 2 * one
    except (InputError, ValueError):
        return Costs(_UNKNOWN, _UNKNOWN / _ROWS, 16.0 * features)
    per_row = max(0.0, (many - one) / (_ROWS - 1))
    return Costs(max(0.0, one - per_row), per_row, 16.0 * features)


def _seconds(predictor: Predictor, layout: Layout, rows: int, times: int) -> float:
    text: Texts = [""] * rows
    numbers = np.zeros((rows, len(layout.numbers)))
    batch = Batch(rows, numbers, tuple(text for _ in layout.texts), lambda row, feature: f"{row}.{feature}")
    best = float("inf")
    for _ in range(times):
        started = perf_counter()
        predictor.predict(batch, predictor.outputs)
        best = min(best, perf_counter() - started)
        if best > _SLOW:
            break
    return best
