"""
Which estimators and transformers can be compiled, and what a compiled one offers.

A module that compiles registers its functions with the decorators; `compiled/pipeline.py` imports the
modules. A compile function gets the fitted object's Node and a Context, checks everything that it reads (the
bytes have the right digest and are foreign all the same), and raises NotCompilable for what it does not
know; it never guesses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from solera_server.compiled.refusals import NotCompilable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from solera_server.compiled.blocks import Block
    from solera_server.compiled.node import Node

VERSIONS = ("1.9",)
"""Minor versions of scikit-learn whose attributes and arithmetic the compiled forms follow."""

BITS = "bit-equal"
SUMS = "1e-14"


class Estimator(Protocol):
    """
    A compiled model of numbers: what stands at the end of a pipeline.

    Reentrant, and an answer never depends on the other rows of the call, to the bit.
    """

    n_features: int
    exactness: str
    """BITS: equal to scikit-learn to the bit. SUMS: sums in a fixed order, where BLAS chooses its own."""

    native: bool
    """Whether a native kernel computes it."""

    classes: NDArray[Any] | None
    """The class values, as in `classes_`; None for regression."""

    has_probabilities: bool

    takes_sparse: bool
    """Whether ``scores`` takes a Split (blocks.py) too."""

    finite_scores: bool
    """
    Whether any value of X that is not finite makes a score of its row that is not finite (sums of products
    do). Then nothing else looks for such values first; the caller looks at X when a score is not finite, and
    refuses as scikit-learn does. Otherwise ``scores`` raises Refused for what scikit-learn refuses.
    """

    def scores(self, X: Any) -> NDArray[Any]:  # noqa: N803 - scikit-learn's name
        """
        Return what both outputs are made from, rows first; X is float64 (rows, n_features), C-order.

        Raises Refused.
        """

    def predict(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Return the class values or numbers, shape (rows,)."""

    def predict_proba(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Return the probabilities, float64 (rows, classes)."""


class Transformer(Protocol):
    """
    A compiled step of preprocessing: from a block of columns to a block of columns.

    Raises Refused as scikit-learn raises ValueError. Reentrant; a row's result depends on no other row.
    """

    exactness: str

    width: int
    """Columns of the result."""

    def __call__(self, block: Block) -> Block: ...


@dataclass(frozen=True, slots=True)
class Context:
    """What a compile function may use beside its node."""

    sklearn: str
    """The version that fitted the model, such as "1.9.1"."""

    def estimator(self, node: Any) -> Estimator:
        """Compile a part that is an estimator itself (of a vote, a bag). Raises NotCompilable."""
        return compile_estimator(node, self)


_estimators: dict[str, Callable[[Node, Context], Estimator]] = {}
_transformers: dict[str, Callable[[Node, Shape], Transformer]] = {}


@dataclass(frozen=True, slots=True)
class Shape:
    """What a transformer is given: the kind of block and its columns, known when it is compiled."""

    kind: str
    """NUMBERS, STRINGS, TEXTS or SPARSE of blocks.py."""

    width: int


def estimator(
    *names: str,
) -> Callable[[Callable[[Node, Context], Estimator]], Callable[[Node, Context], Estimator]]:
    """Register a function that compiles estimators of these dotted types."""

    def register(function: Callable[[Node, Context], Estimator]) -> Callable[[Node, Context], Estimator]:
        _estimators.update(dict.fromkeys(names, function))
        return function

    return register


def transformer(
    *names: str,
) -> Callable[[Callable[[Node, Shape], Transformer]], Callable[[Node, Shape], Transformer]]:
    """Register a function that compiles transformers of these dotted types."""

    def register(function: Callable[[Node, Shape], Transformer]) -> Callable[[Node, Shape], Transformer]:
        _transformers.update(dict.fromkeys(names, function))
        return function

    return register


def compile_estimator(node: Any, context: Context) -> Estimator:
    """Return the compiled form of a fitted estimator. Raises NotCompilable."""
    function = _estimators.get(getattr(node, "type", ""))
    if function is None:
        raise NotCompilable(f"there is no compiled form of {getattr(node, 'type', type(node).__name__)}")
    return function(node, context)


def compile_transformer(node: Any, shape: Shape) -> Transformer:
    """Return the compiled form of a fitted transformer. Raises NotCompilable."""
    function = _transformers.get(getattr(node, "type", ""))
    if function is None:
        raise NotCompilable(f"there is no compiled form of {getattr(node, 'type', type(node).__name__)}")
    return function(node, shape)


def compiled_types() -> tuple[list[str], list[str]]:
    """Return the dotted names of the estimators and of the transformers that are registered."""
    return sorted(_estimators), sorted(_transformers)
