"""Models that do not look at the features: DummyClassifier, DummyRegressor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled.blocks import Matrix, Split
from solera_server.compiled.node import Node
from solera_server.compiled.registry import BITS, Context, Estimator, estimator

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Constant:
    """One answer to every row. The scores are zeros, one a row."""

    exactness = BITS
    exponentials = False
    native = False
    takes_sparse = True
    finite_scores = False

    def __init__(
        self, n_features: int, answer: Any, classes: NDArray[Any] | None = None, odds: Matrix | None = None
    ) -> None:
        self.n_features = n_features
        self.classes = classes
        self.has_probabilities = odds is not None
        self._answer = answer
        self._odds = odds

    def scores(self, X: Any) -> Matrix:
        return np.zeros(X.rows if isinstance(X, Split) else len(X))

    def predict(self, scores: Matrix) -> NDArray[Any]:
        return np.full(len(scores), self._answer, dtype=None if self.classes is None else self.classes.dtype)

    def predict_proba(self, scores: Matrix) -> NDArray[Any]:
        if self._odds is None:
            raise NotImplementedError
        return np.tile(self._odds, (len(scores), 1))


@estimator("sklearn.dummy.DummyClassifier")
def dummy_classifier(node: Node, _context: Context) -> Estimator:
    classes = node.array_like("classes_")
    priors = node.array("class_prior_", (len(classes),))
    strategy = node.text("strategy", ("most_frequent", "prior", "constant"))
    if strategy == "constant":
        # Beside random draws, which have no compiled form: an answer would depend on those before it.
        value = node.get("constant")
        found = np.flatnonzero(classes == (value.item() if isinstance(value, np.ndarray) else value))
        if len(found) != 1:
            raise node.fail("its constant is no class")
        index = int(found[0])
    else:
        index = int(priors.argmax())
    odds = priors if strategy == "prior" else np.eye(len(classes))[index]
    return Constant(node.integer("n_features_in_"), classes[index], classes, odds)


@estimator("sklearn.dummy.DummyRegressor")
def dummy_regressor(node: Node, _context: Context) -> Estimator:
    return Constant(node.integer("n_features_in_"), node.number("constant_"))
