"""From a batch to the matrix that the model gets: Pipeline and ColumnTransformer, compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled.blocks import NUMBERS, SPARSE, STRINGS, TEXTS, Matrix, Sparse, Split
from solera_server.compiled.encoders import OneHot
from solera_server.compiled.imputers import StringImputer
from solera_server.compiled.node import Named, Node
from solera_server.compiled.refusals import NotCompilable, Refused
from solera_server.compiled.registry import (
    BITS,
    SUMS,
    Shape,
    Step,
    Transformer,
    compile_transformer,
    transformer,
)
from solera_server.compiled.scalers import Elementwise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from solera_server.batch import Batch, Layout

    _Checked = tuple[Transformer, Callable[[Any], None] | None]

PIPELINE = "sklearn.pipeline.Pipeline"
COLUMN_TRANSFORMER = "sklearn.compose._column_transformer.ColumnTransformer"
MAX_FILLED_WIDTH = 1_000_000
_ODD_NUMBER = "a number is missing or infinite"


class Chain:
    """Steps one after the other."""

    def __init__(self, shape: Shape, steps: Sequence[Transformer]) -> None:
        self._steps = [(step, _check_before(step, kind)) for step, kind in _with_inputs(shape, steps)]
        last, check = self._steps[-1] if self._steps else (None, None)
        # A step that can write into the matrix needs no block of its own, if nothing looks at numbers before.
        self._writes = last.write if isinstance(last, OneHot) and check is None else None
        self._first = self._steps[:-1]
        self.kind = steps[-1].kind if steps else shape.kind
        self.width = steps[-1].width if steps else shape.width
        self.exactness = SUMS if any(step.exactness == SUMS for step in steps) else BITS
        self.makes_missing = False
        origins: tuple[int, ...] | None = tuple(range(shape.width))
        for step in steps:
            # What fills in everything missing would clear this; no need to be so fine.
            self.makes_missing = self.makes_missing or step.makes_missing
            origins = _composed(origins, step)
        self.origins = origins

    def __call__(self, block: Any, calm: bool) -> Any:
        return _through(self._steps, block, calm)

    def scaling(self) -> tuple[Matrix, Matrix] | None:
        """Return what is subtracted and what divides, where nothing else is done to numbers."""
        if len(self._steps) != 1 or not isinstance(self._steps[0][0], Elementwise):
            return None
        return self._steps[0][0].shift_and_divisor()

    def write(self, block: Any, calm: bool, out: Matrix, start: int) -> None:
        """Write the result into zeros of shape (rows, columns), from the column ``start`` on."""
        if self._writes is not None:
            self._writes(_through(self._first, block, calm), out, start)
            return
        block = _through(self._steps, block, calm)
        if isinstance(block, Sparse):
            block.write(out, start)
        else:
            out[:, start : start + self.width] = block


def _through(steps: Sequence[_Checked], block: Any, calm: bool) -> Any:
    for step, check in steps:
        if not calm and check is not None:
            check(block)
        block = step(block, calm)
        if step.makes_missing:
            calm = False
    return block


def _with_inputs(shape: Shape, steps: Sequence[Transformer]) -> Sequence[tuple[Transformer, str]]:
    return list(zip(steps, [shape.kind, *(step.kind for step in steps)], strict=False))


def _composed(origins: tuple[int, ...] | None, step: Transformer) -> tuple[int, ...] | None:
    if origins is None or step.origins is None:
        return None
    return tuple(origins[column] for column in step.origins)


def _check_before(step: Transformer, kind: str) -> Callable[[Any], None] | None:
    """Return what looks at the numbers that a step gets, as scikit-learn's does."""
    if kind != NUMBERS or step.takes_infinite:
        return None
    return _refuse_infinite if step.takes_missing else refuse_odd


def _refuse_infinite(block: Matrix) -> None:
    if np.isinf(block).any():
        raise Refused(_ODD_NUMBER)


def refuse_odd(block: Matrix) -> None:
    """Raise Refused where a number is NaN or infinite."""
    if not np.isfinite(block).all():
        raise Refused(_ODD_NUMBER)


class RavelledTexts(Step):
    """One column of strings as a list of texts."""

    kind = TEXTS

    def __init__(self, fill: str | None = None) -> None:
        super().__init__(1, (0,))
        self.fill = fill

    def __call__(self, block: list[Any], calm: bool) -> list[str]:
        fill = self.fill
        texts = [value if type(value) is str else fill for value in block[0]]
        if fill is None and None in texts:
            raise Refused("a text is missing")
        return texts  # type: ignore[return-value]  # no None is left

    def filled(self, fills: list[Any]) -> RavelledTexts:
        """Return the step that replaces missing texts first."""
        return RavelledTexts(fills[0]) if isinstance(fills[0], str) else self


class Identity(Step):
    """What passes through."""

    takes_infinite = True

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape.width, range(shape.width))
        self.kind = shape.kind

    def __call__(self, block: Any, calm: bool) -> Any:
        return block


@transformer("sklearn.preprocessing._function_transformer.FunctionTransformer")
def function_transformer(node: Node, shape: Shape) -> Transformer:
    if node.get("validate"):
        raise node.fail("it validates")
    if node.get("func") is None:
        return Identity(shape)
    if node.get("kw_args") or node.get("func") != Named("numpy.ravel"):
        raise node.fail("it calls a function that has no compiled form")
    if shape.kind != STRINGS or shape.width != 1 or any(shape.numeric):
        raise node.fail("it makes several columns one")
    return RavelledTexts()


def compile_chain(nodes: Sequence[Any], shape: Shape) -> Chain:
    """Return the compiled form of steps: fitted objects, nested pipelines, "passthrough" or None."""
    steps: list[Transformer] = []
    for node in flat_steps(nodes):
        previous = steps[-1] if steps else None
        given = shape
        if previous is not None:
            given = Shape(previous.kind, previous.width, sparse=shape.sparse)
        step = compile_transformer(node, given)
        if (
            isinstance(previous, StringImputer)
            and hasattr(step, "filled")
            and len(previous.kept) == (steps[-2].width if len(steps) > 1 else shape.width)
        ):
            # Filling in and looking up are one look-up.
            steps[-1] = step.filled(previous.fills)
        else:
            steps.append(step)
    return Chain(shape, steps)


def flat_steps(nodes: Sequence[Any]) -> list[Any]:
    """Return the steps of nested pipelines one after the other, without what only passes through."""
    result = []
    for node in nodes:
        if node is None or node == "passthrough":
            continue
        if isinstance(node, Node) and node.type == PIPELINE:
            result += flat_steps(pipeline_steps(node))
        else:
            result.append(node)
    return result


def pipeline_steps(node: Node) -> list[Any]:
    """Return the objects of a Pipeline's steps. Raises NotCompilable."""
    steps = node.listed("steps")
    if not steps or not all(isinstance(step, tuple | list) and len(step) == 2 for step in steps):
        raise node.fail("its steps are no pairs")
    return [step for _, step in steps]


class Source:
    """Some features of a batch, as a block."""

    def __init__(self, layout: Layout, features: Sequence[int]) -> None:
        self.features = tuple(features)
        texts = {feature: place for place, feature in enumerate(layout.texts)}
        numbers = {feature: place for place, feature in enumerate(layout.numbers)}
        self._places = [texts[feature] if feature in texts else numbers[feature] for feature in features]
        self._is_text = [feature in texts for feature in features]
        self.every = not texts and self._places == list(range(len(numbers)))
        """Whether these are all features of the batch, all numbers, in their order."""
        first, last = self._places[0], self._places[-1] + 1
        self._slice = slice(first, last) if self._places == list(range(first, last)) else None
        self.take = self._strings if any(self._is_text) else self._numbers
        self.shape = Shape(NUMBERS, len(self.features))
        if any(self._is_text):
            mixed = not all(self._is_text)
            numeric = tuple(not text for text in self._is_text) if mixed else ()
            self.shape = Shape(STRINGS, len(self.features), numeric)

    def _numbers(self, batch: Batch) -> Matrix:
        if self.every:
            return batch.numbers
        if self._slice is not None:
            return batch.numbers[:, self._slice]
        return batch.numbers.take(self._places, axis=1)

    def _strings(self, batch: Batch) -> list[Any]:
        return [
            batch.texts[place] if text else batch.numbers[:, place].tolist()
            for place, text in zip(self._places, self._is_text, strict=True)
        ]


class Assembly:
    """All branches side by side, then what follows them: from a batch to a matrix or a Split."""

    def __init__(self, branches: Sequence[tuple[Source, Chain]], *, sparse: bool) -> None:
        self._branches = [(source.take, chain) for source, chain in branches]
        self._only = branches[0] if len(branches) == 1 else None
        self._sparse = sparse
        self._starts: list[int] = []
        self.width = 0
        for _, chain in branches:
            if chain.kind not in (NUMBERS, SPARSE):
                raise NotCompilable("a column of strings reaches the model")
            self._starts.append(self.width)
            self.width += chain.width
        kinds = {chain.kind for _, chain in branches}
        if SPARSE in kinds and not sparse and self.width > MAX_FILLED_WIDTH:
            raise NotCompilable(f"the model takes no sparse columns, and there are {self.width}")
        self._dense = kinds == {NUMBERS}
        self.exactness = SUMS if any(chain.exactness == SUMS for _, chain in branches) else BITS
        self.makes_missing = any(chain.makes_missing for _, chain in branches)
        self.origins = _feature_origins(branches)

    def scaling(self) -> tuple[Matrix, Matrix] | None:
        """Return what is subtracted and what divides, where nothing else is done to a batch's numbers."""
        if self._only is None:
            return None
        source, chain = self._only
        return chain.scaling() if source.every else None

    def __call__(self, batch: Batch, calm: bool) -> Any:
        branches = self._branches
        if len(branches) == 1 and self._dense:
            take, chain = branches[0]
            return np.ascontiguousarray(chain(take(batch), calm))
        if self._dense or not self._sparse:
            out = np.zeros((batch.rows, self.width))
            for (take, chain), start in zip(branches, self._starts, strict=True):
                chain.write(take(batch), calm, out, start)
            return out
        blocks = [chain(take(batch), calm) for take, chain in branches]
        placed = list(zip(self._starts, blocks, strict=True))
        dense = [(start, block) for start, block in placed if not isinstance(block, Sparse)]
        sparse = [(start, block) for start, block in placed if isinstance(block, Sparse)]
        return Split(batch.rows, self.width, dense, sparse)


def _feature_origins(branches: Sequence[tuple[Source, Chain]]) -> tuple[int | None, ...]:
    """Return for each column the index of the feature that it is made of, None where there are several."""
    result: list[int | None] = []
    for source, chain in branches:
        if chain.origins is None:
            only = source.features[0] if len(source.features) == 1 else None
            result += [only] * chain.width
        else:
            result += [source.features[column] for column in chain.origins]
    return tuple(result)


def compile_branches(node: Node, layout: Layout, *, sparse: bool) -> Assembly:
    """Compile a fitted ColumnTransformer over the features of a batch."""
    names = [feature.name for feature in layout.features]
    fitted = node.get("feature_names_in_")
    if not isinstance(fitted, np.ndarray) or fitted.tolist() != names:
        raise node.fail("it was fitted on other columns than those of schema.json")
    if node.get("transformer_weights") is not None:
        raise node.fail("it has weights")
    branches = []
    for entry in node.listed("transformers_"):
        if not isinstance(entry, tuple | list) or len(entry) != 3:
            raise node.fail("transformers_ holds something odd")
        _, step, columns = entry
        chosen = _chosen(node, columns, names)
        if step == "drop" or not chosen:
            continue
        source = Source(layout, chosen)
        shape = Shape(source.shape.kind, source.shape.width, source.shape.numeric, sparse)
        branches.append((source, compile_chain([step], shape)))
    if not branches:
        raise node.fail("it gives no columns")
    return Assembly(branches, sparse=sparse)


def _chosen(node: Node, columns: Any, names: list[str]) -> list[int]:
    """Return the indices of the columns that an entry names, by name, position, slice or mask."""
    if isinstance(columns, np.ndarray):
        columns = columns.tolist()
    if isinstance(columns, slice):
        if not all(part is None or isinstance(part, int) for part in (columns.start, columns.stop)):
            raise node.fail("it takes a slice of names")
        return list(range(len(names)))[columns]
    if not isinstance(columns, list):
        raise node.fail("it takes one column as a row of values")
    if columns and all(isinstance(column, bool) for column in columns) and len(columns) == len(names):
        return [index for index, chosen in enumerate(columns) if chosen]
    result = []
    for column in columns:
        if isinstance(column, str) and column in names:
            result.append(names.index(column))
        elif isinstance(column, int) and not isinstance(column, bool) and -len(names) <= column < len(names):
            result.append(column % len(names))
        else:
            raise node.fail("it names a column that is not in schema.json")
    return result
