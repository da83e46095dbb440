"""
Categorical features of histogram boosting: numbers that become 0, 1, 2, ... before the trees see them.

The model has a small preprocessing of its own for that, which puts these features first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled.node import Node, checked
from solera_server.compiled.refusals import Refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

MOST_CATEGORIES = 256


class Recoding:
    """
    From the matrix that the model gets to the one that its trees get.

    ``columns`` are the features in the trees' order; ``categories`` has for each of the first of them its
    values, ascending. A value that is none of them, or missing, becomes NaN.
    """

    def __init__(self, columns: NDArray[np.int64], categories: list[Matrix]) -> None:
        self.columns = columns
        self.categories = categories

    def __call__(self, x: Matrix) -> Matrix:
        result: Matrix = np.ascontiguousarray(x[:, self.columns])
        for column, known in enumerate(self.categories):
            values = result[:, column]
            if np.isinf(values).any():
                row = int(np.isinf(values).argmax())
                raise Refused(f"the value of row {row} in column {self.columns[column]} is infinite")
            place = np.searchsorted(known, values)
            found = known[np.minimum(place, len(known) - 1)] == values
            result[:, column] = np.where(found, place, np.nan)
        return result

    def known_sets(self, features: int) -> NDArray[np.uint32]:
        """Return a bit for each category of each feature in the trees' order, (features, 8)."""
        sets = np.zeros((features, 8), dtype=np.uint32)
        for column, known in enumerate(self.categories):
            for code in range(len(known)):
                sets[column, code // 32] |= np.uint32(1 << (code % 32))
        return sets


def recoding(node: Node, features: int) -> Recoding | None:
    """Return the recoding that a fitted histogram boosting does first, if any. Raises NotCompilable."""
    if not node.has("_preprocessor"):
        return None
    preprocessor = node.node("_preprocessor", "sklearn.compose._column_transformer.ColumnTransformer")
    steps = {}
    for part in preprocessor.listed("transformers_"):
        if not isinstance(part, tuple) or len(part) != 3:
            raise node.fail("its preprocessing has odd steps")
        steps[part[0]] = part[1:]
    if not {"encoder", "numerical"} <= set(steps) <= {"encoder", "numerical", "remainder"}:
        raise node.fail("its preprocessing has other steps")
    (encoder, chosen), (numerical, others) = steps["encoder"], steps["numerical"]
    categorical = checked(chosen, "categorical features", (features,), "b")
    if (categorical == checked(others, "numerical features", (features,), "b")).any():
        raise node.fail("its preprocessing does not take each feature once")
    _check_numerical(node, numerical)
    columns = np.concatenate([np.flatnonzero(categorical), np.flatnonzero(~categorical)])
    return Recoding(columns, _categories(node, encoder, int(categorical.sum())))


def _check_numerical(node: Node, step: Any) -> None:
    """See that the other features stay as they are: passed on, as the trainer stores it, or only checked."""
    if not isinstance(step, Node) or step.name != "FunctionTransformer" or step.flag("validate"):
        raise node.fail("its preprocessing changes the numerical features")
    function = step.get("func")
    if function is None:
        return
    if not isinstance(function, Node) or function.type != "functools.partial":
        raise node.fail("its preprocessing changes the numerical features")
    if function.text("func") != "sklearn.utils.validation.check_array":
        raise node.fail("its preprocessing calls something else than check_array")


def _categories(node: Node, encoder: Any, count: int) -> list[Matrix]:
    if not isinstance(encoder, Node) or encoder.type != "sklearn.preprocessing._encoders.OrdinalEncoder":
        raise node.fail("its categories are not encoded in order")
    odd = any(
        not isinstance(encoder.get(name), float) or not np.isnan(encoder.get(name))
        for name in ("unknown_value", "encoded_missing_value")
    )
    if odd or encoder.text("handle_unknown") != "use_encoded_value" or encoder.has("min_frequency"):
        raise node.fail("its categories are encoded with other settings")
    result = []
    for values in encoder.listed("categories_", count):
        known = checked(values, "categories_", (None,), "f", finite=False)
        known = known[~np.isnan(known)]
        if not 0 < len(known) <= MOST_CATEGORIES or not (known[1:] > known[:-1]).all():
            raise node.fail("a feature has no categories, too many, or not in order")
        result.append(known)
    return result


def node_sets(
    tree: Node, nodes: NDArray[Any], inner: NDArray[np.bool_], known: NDArray[np.uint32]
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """
    Return the rows of sets of a tree's categorical nodes, -1 for others, and the sets, (sets, 16).

    A set's first half are the categories that go left, the second the other known ones, which go right.
    """
    categorical = inner & (nodes["is_categorical"] != 0)
    which = np.full(len(nodes), -1, dtype=np.int64)
    which[categorical] = np.arange(int(categorical.sum()))
    left = tree.get("raw_left_cat_bitsets")
    if not isinstance(left, np.ndarray) or left.ndim != 2 or left.dtype != np.uint32 or left.shape[1] != 8:
        raise tree.fail("it has no sets of categories")
    places = checked(nodes["bitset_idx"], "bitset_idx", (None,), "i")[categorical]
    features = checked(nodes["feature_idx"], "feature_idx", (None,), "i")[categorical]
    if not ((places >= 0) & (places < len(left)) & (features >= 0) & (features < len(known))).all():
        raise tree.fail("it splits by categories that it does not have")
    chosen = left[places]
    return which, np.ascontiguousarray(np.hstack([chosen, known[features] & ~chosen]))
