"""Steps that treat every number for itself: scalers, Binarizer, selection of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled.blocks import NUMBERS, SPARSE, Matrix, Sparse
from solera_server.compiled.node import Node, checked, checked_indices
from solera_server.compiled.registry import Shape, Step, Transformer, transformer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Operation = Callable[..., Any]


class Elementwise(Step):
    """Operations of numpy with a row of operands, one after the other on all columns."""

    def __init__(
        self,
        width: int,
        operations: list[tuple[Operation, Any]],
        limits: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(width, range(width))
        self._operations = operations
        self._limits = limits

    def shift_and_divisor(self) -> tuple[Matrix, Matrix] | None:
        """Return what is subtracted and what divides, a row each; None where it is otherwise."""
        shift, divisor = np.zeros(self.width), np.ones(self.width)
        operations = list(self._operations)
        if operations and operations[0][0] is np.subtract:
            shift = operations.pop(0)[1]
        if operations and operations[0][0] is np.divide:
            divisor = operations.pop(0)[1]
        return None if operations or self._limits is not None else (shift, divisor)

    def __call__(self, block: Matrix, calm: bool) -> Matrix:
        operations = self._operations
        if not operations:
            result = block if self._limits is None else block.copy()
        else:
            operation, operand = operations[0]
            result = operation(block, operand)
            for operation, operand in operations[1:]:
                operation(result, operand, result)
        if self._limits is not None:
            np.clip(result, *self._limits, out=result)
        return result


class SparseScale(Step):
    """Columns of a sparse block times a factor each."""

    kind = SPARSE

    def __init__(self, factors: Matrix, limits: tuple[float, float] | None = None) -> None:
        super().__init__(len(factors), range(len(factors)))
        self._factors = factors
        self._limits = limits

    def __call__(self, block: Sparse, calm: bool) -> Sparse:
        data = block.data * self._factors[block.indices]
        if self._limits is not None:
            np.clip(data, *self._limits, out=data)
        return Sparse(block.width, block.indptr, block.indices, data)


def _scaled(node: Node, shape: Shape, key: str) -> Matrix:
    scale = node.array(key, (shape.width,))
    if not scale.all():
        raise node.fail(f"{key} holds a zero")
    return scale


def _reciprocal(node: Node, shape: Shape, key: str | None, limits: tuple[float, float] | None) -> Transformer:
    """Compile a scaler of sparse columns, which multiplies by the reciprocal where dense ones are divided."""
    shape.expect(node, SPARSE)
    factors = np.ones(shape.width) if key is None else 1.0 / _scaled(node, shape, key)
    return SparseScale(factors, limits)


@transformer("sklearn.preprocessing._data.StandardScaler")
def standard_scaler(node: Node, shape: Shape) -> Transformer:
    scales = node.has("scale_")
    if shape.kind == SPARSE:
        if node.flag("with_mean"):
            raise node.fail("it centres a sparse block")
        return _reciprocal(node, shape, "scale_" if scales else None, None)
    shape.expect(node, NUMBERS)
    operations: list[tuple[Operation, Any]] = []
    if node.flag("with_mean"):
        operations.append((np.subtract, node.array("mean_", (shape.width,))))
    if node.flag("with_std"):
        operations.append((np.divide, _scaled(node, shape, "scale_")))
    return Elementwise(shape.width, operations)


@transformer("sklearn.preprocessing._data.MinMaxScaler")
def min_max_scaler(node: Node, shape: Shape) -> Transformer:
    shape.expect(node, NUMBERS)
    scale, low = node.array("scale_", (shape.width,)), node.array("min_", (shape.width,))
    limits = None
    if node.flag("clip"):
        bounds = node.listed("feature_range", 2)
        if not all(isinstance(bound, int | float) for bound in bounds) or not bounds[0] < bounds[1]:
            raise node.fail("feature_range is no pair of numbers")
        limits = (float(bounds[0]), float(bounds[1]))
    return Elementwise(shape.width, [(np.multiply, scale), (np.add, low)], limits)


@transformer("sklearn.preprocessing._data.MaxAbsScaler")
def max_abs_scaler(node: Node, shape: Shape) -> Transformer:
    limits = (-1.0, 1.0) if "clip" in node.state and node.flag("clip") else None
    if shape.kind == SPARSE:
        return _reciprocal(node, shape, "scale_", limits)
    shape.expect(node, NUMBERS)
    return Elementwise(shape.width, [(np.divide, _scaled(node, shape, "scale_"))], limits)


@transformer("sklearn.preprocessing._data.RobustScaler")
def robust_scaler(node: Node, shape: Shape) -> Transformer:
    scales = node.flag("with_scaling")
    if shape.kind == SPARSE:
        if node.flag("with_centering"):
            raise node.fail("it centres a sparse block")
        return _reciprocal(node, shape, "scale_" if scales else None, None)
    shape.expect(node, NUMBERS)
    operations: list[tuple[Operation, Any]] = []
    if node.flag("with_centering"):
        operations.append((np.subtract, node.array("center_", (shape.width,))))
    if scales:
        operations.append((np.divide, _scaled(node, shape, "scale_")))
    return Elementwise(shape.width, operations)


class Threshold(Step):
    """One for what is larger than a threshold, otherwise zero."""

    takes_missing = False

    def __init__(self, width: int, threshold: float) -> None:
        super().__init__(width, range(width))
        self._threshold = threshold

    def __call__(self, block: Matrix, calm: bool) -> Matrix:
        return (block > self._threshold).astype(np.float64)


class SparseThreshold(Threshold):
    """The same for sparse blocks and a threshold that is not negative."""

    kind = SPARSE

    def __call__(self, block: Any, calm: bool) -> Any:
        return Sparse(
            block.width, block.indptr, block.indices, (block.data > self._threshold).astype(np.float64)
        )


@transformer("sklearn.preprocessing._data.Binarizer")
def binarizer(node: Node, shape: Shape) -> Transformer:
    threshold = node.number("threshold")
    if shape.kind == SPARSE:
        shape.expect(node, SPARSE)
        if threshold < 0:
            raise node.fail("the threshold of a sparse block is negative")
        return SparseThreshold(shape.width, threshold)
    shape.expect(node, NUMBERS)
    return Threshold(shape.width, threshold)


class Selection(Step):
    """Some of the columns, in order."""

    def __init__(self, columns: NDArray[np.int64], *, takes_all: bool) -> None:
        super().__init__(len(columns), columns.tolist())
        self.takes_missing = self.takes_infinite = takes_all
        self._columns = columns

    def __call__(self, block: Matrix, calm: bool) -> Matrix:
        return block.take(self._columns, axis=1)


class SparseSelection(Step):
    """Some of the columns of a sparse block."""

    kind = SPARSE

    def __init__(self, width: int, columns: NDArray[np.int64]) -> None:
        super().__init__(len(columns), columns.tolist())
        self._places = np.full(width, -1, dtype=np.int64)
        self._places[columns] = np.arange(len(columns))

    def __call__(self, block: Sparse, calm: bool) -> Sparse:
        places = self._places[block.indices]
        kept = places >= 0
        indptr = np.concatenate(([0], np.cumsum(kept)))[block.indptr]
        return Sparse(self.width, indptr, places[kept], block.data[kept])


def selection(node: Node, shape: Shape, mask: Any, *, takes_all: bool) -> Transformer:
    """Compile the choice of the columns where ``mask`` (width,) is true."""
    shape.expect(node, SPARSE if shape.kind == SPARSE else NUMBERS)
    chosen = np.flatnonzero(checked(mask, f"{node.name}: its mask", (shape.width,), "b"))
    columns = checked_indices(chosen, node.name, 0, shape.width)
    if shape.kind == SPARSE:
        return SparseSelection(shape.width, columns)
    return Selection(columns, takes_all=takes_all)
