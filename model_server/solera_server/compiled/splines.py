"""Splines of columns: SplineTransformer, by de Boor's recursion on all columns at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled.blocks import NUMBERS, Matrix
from solera_server.compiled.refusals import Refused
from solera_server.compiled.registry import SUMS, Shape, Step, Transformer, transformer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from solera_server.compiled.node import Node

CONTINUE, LINEAR, CONSTANT, PERIODIC, ERROR = "continue", "linear", "constant", "periodic", "error"
MAX_DEGREE = 64
_BEYOND = "a number lies beyond the knots"


class Basis:
    """
    The splines of one degree over columns of knots, shape (knots, columns), in order.

    The first ``degree`` knots and the last ones lie outside of the range of training.
    """

    def __init__(self, knots: Matrix, degree: int) -> None:
        self.knots = knots
        self.degree = degree
        self.low, self.high = knots[degree], knots[-degree - 1]
        self._flat = knots.ravel()
        self._columns = knots.shape[1]
        self._inner = np.ascontiguousarray(knots[degree + 1 : -degree - 1].T)
        self._coincide = bool((np.diff(knots, axis=0) == 0).any())

    def intervals(self, x: Matrix) -> NDArray[np.int64]:
        """Return for each of ``x`` (rows, columns) the number of its interval, the first being 0."""
        found: NDArray[np.int64] = (x[:, :, None] >= self._inner).sum(axis=2)
        return found

    def values(self, x: Matrix, intervals: NDArray[np.int64], *, slopes: bool = False) -> list[Matrix]:
        """Return the splines that are not zero in the interval, or their first derivatives: degree + 1."""
        degree = self.degree
        first = (intervals + degree) * self._columns + np.arange(self._columns)
        near = {
            offset: self._flat.take(first + offset * self._columns)
            for offset in range(1 - degree, degree + 1)
        }
        found: list[Any] = [np.ones(x.shape)]
        for order in range(1, degree + 1):
            sloping = slopes and order == degree
            before, found = found, [0.0]
            for place in range(1, order + 1):
                right, left = near[place], near[place - order]
                width = right - left
                if self._coincide:
                    width = np.where(right == left, np.inf, width)
                share = (float(order) * before[place - 1] if sloping else before[place - 1]) / width
                if sloping:
                    found[-1] = found[-1] - share
                    found.append(share)
                else:
                    found[-1] = found[-1] + share * (right - x)
                    found.append(share * (x - left))
        return [np.zeros(x.shape)] if slopes and not degree else found


class Splines(Step):
    """For each column the splines at its value, one column after the other."""

    exactness = SUMS

    def __init__(self, basis: Basis, extrapolation: str, *, bias: bool, takes_missing: bool) -> None:
        columns = basis.knots.shape[1]
        self._basis = basis
        self._splines = len(basis.knots) - basis.degree - 1
        self._wraps = extrapolation == PERIODIC
        if self._wraps:
            self._splines -= basis.degree
            self._period = basis.high - basis.low
        self._kept = self._splines if bias else self._splines - 1
        self._extrapolation = extrapolation
        super().__init__(columns * self._kept, np.repeat(np.arange(columns), self._kept).tolist())
        # scikit-learn looks for neither, or for both.
        self.takes_missing = self.takes_infinite = takes_missing
        self.makes_missing = extrapolation == CONTINUE

    def __call__(self, block: Matrix, calm: bool) -> Matrix:
        with np.errstate(all="ignore"):
            out = self._transformed(block, calm)
        return out[:, :, : self._kept].reshape(len(block), self.width)

    def _transformed(self, block: Matrix, calm: bool) -> Matrix:
        missing = None if calm else np.isnan(block)
        x = block if missing is None or not missing.any() else np.where(missing, self._basis.low, block)
        if self._extrapolation == ERROR and ((x < self._basis.low) | (x > self._basis.high)).any():
            raise Refused(_BEYOND)
        if self._wraps:
            low, period = self._basis.low, self._period
            x = np.where(period > 0, low + (x - low) % np.where(period > 0, period, 1.0), 0.0)
        out = self.at(x)
        if missing is not None:
            out[np.isnan(x)] = np.nan  # An infinite number has no place in a period.
            out[missing] = 0.0
        return out

    def at(self, x: Matrix, *, slopes: bool = False) -> Matrix:
        """Return all splines at ``x`` (rows, columns), or their slopes: (rows, columns, splines)."""
        intervals = self._basis.intervals(x)
        values = self._basis.values(x, intervals, slopes=slopes)
        out = np.zeros((*x.shape, self._splines))
        flat = out.reshape(-1)
        starts = (np.arange(x.size) * self._splines).reshape(x.shape)
        for number, value in enumerate(values):
            places = intervals + number
            flat[starts + (places % self._splines if self._wraps else places)] += value
        if self._extrapolation == CONTINUE:
            self._spread(out, intervals, values)
        return out

    def _spread(self, out: Matrix, intervals: NDArray[np.int64], values: list[Matrix]) -> None:
        """Multiply with zeros where something has overflown, as a product with a matrix of ones does."""
        odd = ~np.isfinite(np.add.reduce(values))
        if odd.any():
            places = np.arange(self._splines)
            sums = np.zeros((int(odd.sum()), self._splines))
            for number, value in enumerate(values):
                sums += (places == (intervals[odd] + number)[:, None]) * value[odd][:, None]
            out[odd] = sums


class BoundedSplines(Splines):
    """Splines that are computed in the range of training only, and go on flat or straight beyond."""

    def __init__(
        self, basis: Basis, node: Node, extrapolation: str, *, bias: bool, takes_missing: bool
    ) -> None:
        super().__init__(basis, extrapolation, bias=bias, takes_missing=takes_missing)
        columns = basis.knots.shape[1]
        # Below degree 2 scikit-learn lets its count of the splines at the edge grow from column to column.
        starts = [basis.degree] * columns
        counts = [basis.degree] * columns
        if extrapolation == LINEAR:
            counts = [min(2, basis.degree + 1 + column) for column in range(columns)]
            counts = [max(basis.degree, count) for count in counts]
            starts = [basis.degree, *counts[:-1]]
        if max(counts) > self._splines:
            raise node.fail("it has fewer splines than it continues")
        every = np.arange(columns)
        ends = len(basis.knots) - 1 - np.array(starts)
        self._low, self._high = basis.knots[starts, every], basis.knots[ends, every]
        self._counts = np.array(counts)
        self._low_values, self._high_values = self.at(self._low[None])[0], self.at(self._high[None])[0]
        self._low_slopes = self._high_slopes = np.zeros(self._low_values.shape)
        if extrapolation == LINEAR:
            self._low_slopes = self.at(self._low[None], slopes=True)[0]
            self._high_slopes = self.at(self._high[None], slopes=True)[0]
        self._refuses_above = (
            basis.degree == 0 and extrapolation == CONSTANT and not node.flag("sparse_output")
        )

    def _transformed(self, block: Matrix, calm: bool) -> Matrix:
        inside = (block >= self._low) & (block <= self._high)
        if inside.all():
            return self.at(block)
        out = self.at(np.where(inside, block, self._low))
        out[~inside] = 0.0
        below, above = block < self._low, block > self._high
        if self._refuses_above and above.any():
            raise Refused(_BEYOND)
        for number in range(int(self._counts.max())):
            counts = number < self._counts
            self._continue(
                out, number, block, below & counts, (self._low, self._low_values, self._low_slopes)
            )
            last = self._splines - 1 - number
            self._continue(
                out, last, block, above & counts, (self._high, self._high_values, self._high_slopes)
            )
        return out

    def _continue(
        self,
        out: Matrix,
        spline: int,
        block: Matrix,
        where: NDArray[Any],
        edge: tuple[Matrix, Matrix, Matrix],
    ) -> None:
        start, values, slopes = edge
        straight = values[:, spline]
        if self._extrapolation == LINEAR:
            straight = straight + (block - start) * slopes[:, spline]
        out[:, :, spline] = np.where(where, straight, out[:, :, spline])


@transformer("sklearn.preprocessing._polynomial.SplineTransformer")
def spline_transformer(node: Node, shape: Shape) -> Transformer:
    shape.expect(node, NUMBERS)
    degree = node.integer("degree", 0, MAX_DEGREE)
    extrapolation = node.text("extrapolation", (CONTINUE, LINEAR, CONSTANT, PERIODIC, ERROR))
    takes_missing = node.text("handle_missing", ("error", "zeros")) == "zeros"
    bias = node.flag("include_bias")
    knots = _knots(node, shape.width, degree)
    basis = Basis(knots, degree)
    result: Splines
    if extrapolation in (LINEAR, CONSTANT):
        if extrapolation == LINEAR and (np.diff(knots, axis=0) == 0).any():
            raise node.fail("its knots coincide, and slopes there are undefined")
        result = BoundedSplines(basis, node, extrapolation, bias=bias, takes_missing=takes_missing)
    else:
        if extrapolation == PERIODIC and len(knots) < 3 * degree + 2:
            raise node.fail("it has too few knots for a period")
        result = Splines(basis, extrapolation, bias=bias, takes_missing=takes_missing)
    if result.width != node.integer("n_features_out_"):
        raise node.fail("it makes another number of columns")
    return result


def _knots(node: Node, width: int, degree: int) -> Matrix:
    columns = []
    for spline in node.listed("bsplines_", width):
        if getattr(spline, "name", "") != "BSpline" or spline.integer("k") != degree:
            raise node.fail("its splines are odd")
        columns.append(spline.array("_t", (None,)))
    if not columns or any(len(column) != len(columns[0]) for column in columns):
        raise node.fail("its columns have different numbers of knots")
    knots = np.stack(columns, axis=1)
    if len(knots) < 2 * degree + 2 or (np.diff(knots, axis=0) < 0).any():
        raise node.fail("its knots are too few or out of order")
    return knots
