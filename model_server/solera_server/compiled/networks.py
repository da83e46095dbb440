"""Multi-layer perceptrons: layers of sums in a fixed order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled import kernels
from solera_server.compiled.blocks import Matrix
from solera_server.compiled.links import logistic, softmax, two_classes
from solera_server.compiled.node import Node, checked
from solera_server.compiled.refusals import Refused
from solera_server.compiled.registry import SUMS, Context, Estimator, Numbers, estimator

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MAX_LAYERS = 1000


def _relu(values: Matrix) -> Matrix:
    result: Matrix = np.maximum(values, 0.0)
    return result


ACTIVATIONS: dict[str, Callable[[Matrix], Matrix]] = {
    "identity": lambda values: values,
    "logistic": logistic,
    "relu": _relu,
    "tanh": np.tanh,
    "softmax": softmax,
    "exp": np.exp,
}


class Network:
    """Layers of weights (inputs, outputs) and shifts, with an activation after each."""

    exactness = SUMS
    exponentials = True
    native = kernels.NATIVE
    takes_sparse = False
    finite_scores = False

    def __init__(self, layers: list[tuple[Matrix, Matrix]], hidden: str, last: str) -> None:
        self.n_features = layers[0][0].shape[0]
        self._layers = layers
        self._hidden = ACTIVATIONS[hidden]
        self._last = ACTIVATIONS[last]

    def scores(self, X: Matrix) -> Matrix:
        if not np.isfinite(X).all():
            raise Refused("a number is missing or infinite")
        values = X
        with np.errstate(all="ignore"):
            for number, (weights, shift) in enumerate(self._layers, start=1):
                sums = np.empty((len(X), weights.shape[1]))
                kernels.linear(values, weights, shift, sums)
                values = self._hidden(sums) if number < len(self._layers) else self._last(sums)
        return values


class NetworkRegressor(Numbers, Network):
    """A number, of one output."""


class NetworkClassifier(Network):
    """The class of the largest output, or of one output that is more than a half."""

    has_probabilities = True

    def __init__(
        self, classes: NDArray[Any], layers: list[tuple[Matrix, Matrix]], hidden: str, last: str
    ) -> None:
        super().__init__(layers, hidden, last)
        self.classes = classes

    def predict(self, scores: Matrix) -> NDArray[Any]:
        one = scores.shape[1] == 1
        classes: NDArray[Any] = self.classes[
            (scores[:, 0] > 0.5).view(np.int8) if one else scores.argmax(axis=1)
        ]
        return classes

    def predict_proba(self, scores: Matrix) -> NDArray[Any]:
        return two_classes(scores) if scores.shape[1] == 1 else scores


def _layers(node: Node, outputs: int) -> list[tuple[Matrix, Matrix]]:
    width = node.integer("n_features_in_", 1)
    matrices = node.listed("coefs_")
    shifts = node.listed("intercepts_", len(matrices))
    if not 1 <= len(matrices) <= MAX_LAYERS:
        raise node.fail("it has no layers, or too many")
    layers = []
    for weights, shift in zip(matrices, shifts, strict=True):
        checked_weights = checked(weights, f"{node.name}: coefs_", (width, None))
        width = checked_weights.shape[1]
        layers.append((checked_weights, checked(shift, f"{node.name}: intercepts_", (width,))))
    if width != outputs:
        raise node.fail(f"it has {width} outputs, not {outputs}")
    return layers


_HIDDEN = ("identity", "logistic", "relu", "tanh")


@estimator("sklearn.neural_network._multilayer_perceptron.MLPRegressor")
def mlp_regressor(node: Node, _context: Context) -> Estimator:
    last = node.text("out_activation_", ("identity", "exp"))
    return NetworkRegressor(_layers(node, 1), node.text("activation", _HIDDEN), last)


@estimator("sklearn.neural_network._multilayer_perceptron.MLPClassifier")
def mlp_classifier(node: Node, _context: Context) -> Estimator:
    classes = node.array_like("classes_")
    last = node.text("out_activation_", ("logistic", "softmax"))
    outputs = 1 if last == "logistic" else len(classes)
    if len(classes) < 2 or (outputs == 1) != (len(classes) == 2):
        raise node.fail("its outputs are not those of its classes")
    return NetworkClassifier(classes, _layers(node, outputs), node.text("activation", _HIDDEN), last)
