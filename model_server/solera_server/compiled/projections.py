"""Columns made of several columns, or bent: PCA, TruncatedSVD, polynomials, powers, quantiles, norms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled import kernels
from solera_server.compiled.blocks import NUMBERS, SPARSE, Matrix, Sparse
from solera_server.compiled.links import column_sums
from solera_server.compiled.refusals import Refused
from solera_server.compiled.registry import SUMS, Shape, Step, Transformer, transformer
from solera_server.compiled.scalers import Elementwise, standard_scaler
from solera_server.compiled.texts import normalised

if TYPE_CHECKING:
    from solera_server.compiled.node import Node

MAX_DEGREE_COLUMNS = 200_000
MAX_DEGREE_PAIRS = 5_000_000
_SMALLEST_POWER = 1e-19


class Projection(Step):
    """Sums of products with components, in the columns' order, plus a shift, over a scale."""

    exactness = SUMS
    takes_missing = False

    def __init__(self, weights: Matrix, shift: Matrix, scale: Matrix | None) -> None:
        super().__init__(weights.shape[1], None)
        self._weights = weights
        self._shift = shift
        self._scale = scale

    def __call__(self, block: Any, calm: bool) -> Matrix:
        if isinstance(block, Sparse):
            out = block.times(self._weights)
            out += self._shift
        else:
            out = np.empty((len(block), self.width))
            kernels.linear(np.ascontiguousarray(block), self._weights, self._shift, out)
        if self._scale is not None:
            out /= self._scale
        return out


def _components(node: Node, shape: Shape) -> Matrix:
    shape.expect(node, SPARSE if shape.kind == SPARSE else NUMBERS)
    return np.ascontiguousarray(node.array("components_", (None, shape.width)).T)


@transformer("sklearn.decomposition._pca.PCA")
def principal_components(node: Node, shape: Shape) -> Transformer:
    weights = _components(node, shape)
    centre = np.empty((1, weights.shape[1]))
    mean = node.array("mean_", (shape.width,)).reshape(1, -1)
    kernels.linear(np.ascontiguousarray(mean), weights, np.zeros(weights.shape[1]), centre)
    scale = None
    if node.flag("whiten"):
        variance = node.array("explained_variance_", (weights.shape[1],))
        scale = np.maximum(np.sqrt(np.maximum(variance, 0)), np.finfo(np.float64).eps)
    return Projection(weights, -centre[0], scale)


@transformer("sklearn.decomposition._truncated_svd.TruncatedSVD")
def truncated_svd(node: Node, shape: Shape) -> Transformer:
    weights = _components(node, shape)
    return Projection(weights, np.zeros(weights.shape[1]), None)


class Products(Step):
    """Products of columns: each of a column that was made before with one of the first."""

    takes_missing = False

    def __init__(self, width: int, pairs: list[tuple[int, int]], *, bias: bool, skipped: int) -> None:
        super().__init__(int(bias) + width + len(pairs) - skipped, None)
        self._inputs = width
        self._pairs = pairs
        self._bias = bias
        self._skipped = skipped

    def __call__(self, block: Matrix, calm: bool) -> Matrix:
        made = np.empty((len(block), self._inputs + len(self._pairs)))
        made[:, : self._inputs] = block
        with np.errstate(all="ignore"):
            for number, (left, right) in enumerate(self._pairs):
                np.multiply(made[:, left], block[:, right], made[:, self._inputs + number])
        kept = made[:, self._skipped :]
        return np.concatenate((np.ones((len(block), 1)), kept), axis=1) if self._bias else kept


@transformer("sklearn.preprocessing._polynomial.PolynomialFeatures")
def polynomial_features(node: Node, shape: Shape) -> Transformer:
    """Compile the products in scikit-learn's order: by degree, each term of one less times a later column."""
    shape.expect(node, NUMBERS)
    lowest, highest = node.integer("_min_degree"), node.integer("_max_degree", 1)
    only_different = node.flag("interaction_only")
    bias = node.flag("include_bias")
    terms: list[tuple[int, ...]] = [(column,) for column in range(shape.width)]
    places = {term: place for place, term in enumerate(terms)}
    pairs: list[tuple[int, int]] = []
    skipped = len(terms) if lowest > 1 else 0
    for degree in range(2, highest + 1):
        if shape.width * len(terms) > MAX_DEGREE_PAIRS:
            raise node.fail("it makes too many products")
        longer = [
            (column, *term)
            for column in range(shape.width)
            for term in terms
            if (term[0] > column or (term[0] == column and not only_different))
        ]
        for term in longer:
            places[term] = shape.width + len(pairs)
            pairs.append((places[term[1:]], term[0]))
        if len(pairs) > MAX_DEGREE_COLUMNS:
            raise node.fail("it makes too many products")
        if degree < lowest:
            skipped += len(longer)
        if not longer:
            break
        terms = longer
    result = Products(shape.width, pairs, bias=bias, skipped=skipped)
    if result.width != node.integer("n_output_features_"):
        raise node.fail("it makes another number of columns")
    return result


class Powers(Step):
    """The Yeo-Johnson or the Box-Cox transform of each column."""

    exactness = SUMS

    def __init__(self, exponents: Matrix, *, positive_only: bool) -> None:
        super().__init__(len(exponents), range(len(exponents)))
        self._transform = self._box_cox if positive_only else self._yeo_johnson
        self._exponents = exponents

    def __call__(self, block: Matrix, calm: bool) -> Matrix:
        with np.errstate(all="ignore"):
            return self._transform(block)

    def _yeo_johnson(self, block: Matrix) -> Matrix:
        size = np.log1p(np.absolute(block))
        smallest = np.finfo(np.float64).eps
        above = _expm1_over(size, self._exponents, np.absolute(self._exponents) < smallest)
        rest = 2 - self._exponents
        below = _expm1_over(size, rest, np.absolute(rest) <= smallest)
        return np.where(block >= 0, above, -below)

    def _box_cox(self, block: Matrix) -> Matrix:
        if (block <= 0).any():
            raise Refused("a number is not positive")
        return _expm1_over(np.log(block), self._exponents, np.absolute(self._exponents) < _SMALLEST_POWER)


def _expm1_over(logarithms: Matrix, exponents: Matrix, is_zero: Any) -> Matrix:
    """Return (exp(exponent x logarithm) - 1) / exponent, and the logarithm itself for an exponent of zero."""
    divisors = np.where(is_zero, 1.0, exponents)
    return np.where(is_zero, logarithms, np.expm1(divisors * logarithms) / divisors)


class Then(Step):
    """Two steps as one."""

    def __init__(self, first: Transformer, second: Transformer) -> None:
        super().__init__(second.width, second.origins)
        self.exactness = first.exactness
        self.takes_missing = first.takes_missing
        self._first = first
        self._second = second

    def __call__(self, block: Matrix, calm: bool) -> Any:
        return self._second(self._first(block, calm), calm)


@transformer("sklearn.preprocessing._data.PowerTransformer")
def power_transformer(node: Node, shape: Shape) -> Transformer:
    shape.expect(node, NUMBERS)
    method = node.text("method", ("yeo-johnson", "box-cox"))
    powers = Powers(node.array("lambdas_", (shape.width,)), positive_only=method == "box-cox")
    if not node.flag("standardize"):
        return powers
    return Then(powers, standard_scaler(node.node("_scaler", "StandardScaler"), shape))


class Quantiles(Step):
    """Where among the quantiles of training a number lies, from 0 to 1."""

    def __init__(self, quantiles: Matrix, references: Matrix) -> None:
        super().__init__(quantiles.shape[1], range(quantiles.shape[1]))
        self._columns = [(column, -column[::-1]) for column in np.ascontiguousarray(quantiles.T)]
        self._references = references
        self._backwards = -references[::-1]

    def __call__(self, block: Matrix, calm: bool) -> Matrix:
        out = np.empty(block.shape)
        for number, (quantiles, backwards) in enumerate(self._columns):
            values = block[:, number]
            # From both sides, for quantiles that are equal.
            places = 0.5 * (
                np.interp(values, quantiles, self._references)
                - np.interp(-values, backwards, self._backwards)
            )
            places[values == quantiles[-1]] = 1.0
            places[values == quantiles[0]] = 0.0
            places[np.isnan(values)] = np.nan
            out[:, number] = places
        return out


@transformer("sklearn.preprocessing._data.QuantileTransformer")
def quantile_transformer(node: Node, shape: Shape) -> Transformer:
    shape.expect(node, NUMBERS)
    node.text("output_distribution", ("uniform",))
    count = node.integer("n_quantiles_", 1)
    quantiles = node.array("quantiles_", (count, shape.width))
    references = node.array("references_", (count,))
    if (np.diff(quantiles, axis=0) < 0).any() or (np.diff(references) < 0).any():
        raise node.fail("its quantiles are not sorted")
    return Quantiles(quantiles, references)


class Normed(Step):
    """Rows over their norm."""

    takes_missing = False

    def __init__(self, width: int, norm: str) -> None:
        super().__init__(width, range(width))
        self.exactness = Elementwise.exactness if norm == "max" else SUMS
        self._norm = norm

    def __call__(self, block: Matrix, calm: bool) -> Matrix:
        with np.errstate(all="ignore"):
            if self._norm == "l2":
                norms = np.sqrt(column_sums(block * block))
            elif self._norm == "l1":
                norms = column_sums(np.absolute(block))
            else:
                norms = np.absolute(block).max(axis=1)
            # As scikit-learn has it: what is as good as zero divides nothing.
            norms[norms == 0.0] = 1.0
            return block / norms[:, None]


class SparseNormed(Normed):
    """The same for a sparse block."""

    kind = SPARSE

    def __call__(self, block: Any, calm: bool) -> Any:
        return Sparse(block.width, block.indptr, block.indices, normalised(block, self._norm))


@transformer("sklearn.preprocessing._data.Normalizer")
def normalizer(node: Node, shape: Shape) -> Transformer:
    if shape.kind == SPARSE:
        shape.expect(node, SPARSE)
        return SparseNormed(shape.width, node.text("norm", ("l1", "l2")))
    shape.expect(node, NUMBERS)
    return Normed(shape.width, node.text("norm", ("l1", "l2", "max")))
