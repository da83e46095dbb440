"""What a linear model's contributions are counted from: the means of the columns that it was fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from solera_core.schema import Column, frame


def column_means(model: Any, columns: Mapping[str, Column]) -> list[float] | None:
    """Return the mean of each column that the pipeline's estimator gets, over the training rows.

    None where the estimator has no coefficients, or where a mean is beyond a float.
    """
    if not hasattr(model[-1], "coef_"):
        return None
    with np.errstate(all="ignore"):
        means = np.asarray(model[:-1].transform(frame(columns)).mean(axis=0), dtype=np.float64).reshape(-1)
    return means.tolist() if np.isfinite(means).all() else None
