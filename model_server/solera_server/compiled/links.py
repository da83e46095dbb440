"""
From scores to probabilities.

A row alone and the same row among others must give the same bits. So sums go over the columns in their order,
and exponentials are numpy's in every case: its vectorised ones and those of the C library differ in the last
bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solera_server.compiled import kernels

if TYPE_CHECKING:
    from solera_server.compiled.blocks import Matrix

_LARGEST_EXPONENT = 709.0
_FEW_COLUMNS = 4


def softmax(scores: Matrix) -> Matrix:
    """Return the exponentials over their sum, row by row."""
    if len(scores) == 1:
        result: Matrix = np.exp(scores - max(scores[0].tolist()))
        total = 0.0
        for value in result[0].tolist():
            total += value
        result /= total
        return result
    largest = scores.max(axis=1)
    result = np.exp(scores - largest[:, None])
    result /= column_sums(result)[:, None]
    return result


def log_softmax_exponentials(scores: Matrix) -> Matrix:
    """Return the exponentials of the scores less the logarithm of the sum of their exponentials."""
    largest = scores.max(axis=1)
    total = np.log(column_sums(np.exp(scores - largest[:, None]))) + largest
    result: Matrix = np.exp(scores - total[:, None])
    return result


def column_sums(values: Matrix) -> Matrix:
    """Return the sums of the rows, added up column after column."""
    rows, columns = values.shape
    total = np.zeros(rows)
    if columns > _FEW_COLUMNS:
        # As products with one, which change no number: each sum begins at 0.0 and takes the columns in order.
        sums = total.reshape(rows, 1)
        kernels.linear(np.ascontiguousarray(values), np.ones((columns, 1)), np.zeros(1), sums)
        return total
    for column in range(columns):
        total += values[:, column]
    return total


def logistic(scores: Matrix) -> Matrix:
    """Return 1 / (1 + exp(-score)) without overflow."""
    result = np.minimum(-scores, _LARGEST_EXPONENT)
    np.exp(result, result)
    result += 1.0
    return np.divide(1.0, result, result)


def two_classes(positive: Matrix) -> Matrix:
    """Return the probabilities of two classes from those of the second, shape (rows, 1)."""
    result = np.empty((len(positive), 2))
    np.subtract(1.0, positive[:, 0], result[:, 0])
    result[:, 1] = positive[:, 0]
    return result


def normalised_logistic(scores: Matrix) -> Matrix:
    """Return the logistic function of one class against the rest, over its sum where there are several."""
    return _shares(logistic(scores))


def indicator_sums(scores: Matrix) -> Matrix:
    """Return the probabilities of the modified Huber loss: scores cut to -1..1, moved to 0..1, normalised."""
    return _shares((np.clip(scores, -1, 1) + 1) / 2.0)


def _shares(each: Matrix) -> Matrix:
    """Return probabilities from one number a class, or of the second of two; all equal where all are 0."""
    if each.shape[1] == 1:
        return two_classes(each)
    total = column_sums(each)
    none = total == 0
    if none.any():
        each[none] = 1.0
        total[none] = each.shape[1]
    each /= total[:, None]
    return each
