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
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from solera_server.compiled.node import Node

VERSIONS = ("1.9",)
"""Minor versions of scikit-learn whose attributes and arithmetic the compiled forms follow."""


def minor(version: str) -> str:
    """Return the minor version, such as "1.9"."""
    return ".".join(version.split(".")[:2])


BITS = "bit-equal"
SUMS = "1e-14"


class Estimator(Protocol):
    """
    A compiled model of numbers: what stands at the end of a pipeline.

    Reentrant, and an answer never depends on the other rows of the call, to the bit.
    """

    n_features: int

    @property
    def exactness(self) -> str:
        """BITS: equal to scikit-learn to the bit. SUMS: sums in a fixed order, where BLAS chooses its own."""

    @property
    def exponentials(self) -> bool:
        """
        Whether outputs go through exponentials or the like, whose last bit numpy chooses by the processor.

        Then answers are not compared to the bit with those of the machine that trained.
        """

    @property
    def native(self) -> bool:
        """Whether a native kernel computes it."""

    @property
    def classes(self) -> NDArray[Any] | None:
        """The class values, as in `classes_`; None for regression."""

    @property
    def has_probabilities(self) -> bool:
        """Whether there is predict_proba."""

    @property
    def takes_sparse(self) -> bool:
        """Whether ``scores`` takes a Split (blocks.py) too."""

    @property
    def finite_scores(self) -> bool:
        """
        Whether the estimator takes finite numbers only, and others make a score of their row not finite.

        Sums of products are so. Then the caller looks for such values, and refuses them as scikit-learn does.
        Otherwise ``scores`` raises Refused for what scikit-learn refuses.
        """

    def scores(self, X: Any) -> NDArray[Any]:
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

    kind: str
    """The kind of block that comes out."""

    width: int
    """Columns of the result."""

    origins: tuple[int, ...] | None
    """For each column of the result the one column that it is made of; None where it is made of several."""

    takes_missing: bool
    """Whether scikit-learn's step takes NaN. The caller looks for it, and for infinities."""

    takes_infinite: bool
    """Whether it takes infinities."""

    makes_missing: bool
    """Whether NaN may come out of finite numbers or of strings."""

    def __call__(self, block: Any, calm: bool) -> Any:
        """
        Transform a block, without changing it.

        ``calm`` says that no number of the block is NaN, infinite or larger than 1e100, so that nobody need
        look.
        """


class Step:
    """The usual attributes of a Transformer."""

    exactness = BITS
    kind = "numbers"
    takes_missing = True
    takes_infinite = False
    makes_missing = False

    def __init__(self, width: int, origins: Iterable[int] | None) -> None:
        self.width = width
        self.origins = None if origins is None else tuple(origins)


class Numbers:
    """The part of an Estimator of numbers, which has neither classes nor probabilities."""

    classes = None
    has_probabilities = False

    def predict(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Return the one sum."""
        return scores[:, 0]

    def predict_proba(self, scores: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError


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
    """What a transformer is given and what is wanted of it, known when it is compiled."""

    kind: str
    """NUMBERS, STRINGS, TEXTS or SPARSE of blocks.py."""

    width: int

    numeric: tuple[bool, ...] = ()
    """For STRINGS: which columns hold numbers, where a branch mixes them."""

    sparse: bool = False
    """Whether the result may be SPARSE where scikit-learn's is."""

    def expect(self, node: Node, kind: str, width_key: str | None = "n_features_in_") -> None:
        """Check that this is what the fitted object takes. Raises NotCompilable."""
        if self.kind != kind:
            raise node.fail(f"it gets {self.kind}, not {kind}")
        if width_key is not None and node.integer(width_key) != self.width:
            raise node.fail(f"it was fitted on {node.get(width_key)} columns and gets {self.width}")


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
