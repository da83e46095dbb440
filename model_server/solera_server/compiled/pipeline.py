"""A whole model from its file: compiled preprocessing, a compiled estimator, and the predictor of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_core.failures import ArtifactCorrupt
from solera_server.batch import InputError, Layout, nowhere
from solera_server.compiled import (  # noqa: F401 - each registers what it compiles
    bayes,
    boosting,
    dummy,
    encoders,
    forests,
    imputers,
    kernel_machines,
    kernels,
    linear,
    neighbor_imputer,
    neighbors,
    networks,
    projections,
    scalers,
    selectors,
    splines,
    texts,
    trees,
)
from solera_server.compiled.blocks import NUMBERS, Matrix, Split
from solera_server.compiled.columns import (
    COLUMN_TRANSFORMER,
    PIPELINE,
    Assembly,
    Chain,
    Source,
    compile_branches,
    compile_chain,
    pipeline_steps,
    refuse_odd,
)
from solera_server.compiled.linear import Sums
from solera_server.compiled.node import Node
from solera_server.compiled.refusals import NotCompilable, Refused
from solera_server.compiled.refused_value import refused_value
from solera_server.compiled.registry import (
    BITS,
    SUMS,
    VERSIONS,
    Context,
    Estimator,
    Shape,
    compile_estimator,
    minor,
)
from solera_server.compiled.skeleton import read
from solera_server.predictor import COMPILED, PREDICT, PREDICT_PROBA, Outputs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from solera_core.schema import Column, Schema
    from solera_server.batch import Batch

SPARSE_FROM = 512
"""From this many columns on, one-hot columns of linear models are kept sparse."""

_CALM = 1e100


class CompiledPredictor:
    """
    A model as flat arrays. Scores are computed once for all outputs.

    Reentrant; an answer depends on no other row of the batch, to the bit.
    """

    kind = COMPILED
    reason: str | None = None
    merges = True
    fitted: tuple[list[Any], Node] | None = None
    """What fitted_steps returns, until it has been seen whether answers can be explained."""

    def __init__(self, schema: Schema, prepare: Preparation, estimator: Estimator) -> None:
        self.schema = schema
        self.prepare = prepare
        self.estimator = estimator
        self._layout = Layout(schema.features)
        self._scaling = prepare.scaling()
        self.native = estimator.native
        self.exact = estimator.exactness == prepare.exactness == BITS
        self.portable = self.exact and not estimator.exponentials
        """Whether the bits are the same on every machine."""
        with_classes = schema.target.classes is not None and estimator.has_probabilities
        self.outputs: tuple[str, ...] = (PREDICT, PREDICT_PROBA) if with_classes else (PREDICT,)

    def predict(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return the wanted outputs. Raises InputError for values that the model cannot take."""
        try:
            scores = self._calm_scores(batch)
            if scores is not None:
                return self._outputs(scores, outputs)
            with np.errstate(all="ignore"):
                return self._outputs(self._scores(batch), outputs)
        except Refused as refused:
            columns = self._layout.columns(batch)
            named = None if refused.certain else refused_value(columns, batch.where, self._refuses)
            raise InputError(named or str(refused)) from None

    def _refuses(self, columns: Sequence[Column]) -> bool:
        try:
            with np.errstate(all="ignore"):
                self._outputs(self._scores(self._layout.batch(columns, nowhere)), (PREDICT,))
        except Refused:
            return True
        return False

    def matrix(self, batch: Batch) -> Matrix:
        """Return what the estimator gets, dense, float64 (rows, columns). Raises Refused."""
        with np.errstate(all="ignore"):
            X = self.prepare(batch, False)
        return X.filled() if isinstance(X, Split) else X

    def _calm_scores(self, batch: Batch) -> Any:
        """Return scores, or None where something along the way is not finite and needs a closer look."""
        prepare, estimator = self.prepare, self.estimator
        if self._scaling is not None and isinstance(estimator, Sums):
            return estimator.scaled(batch.numbers, *self._scaling, _CALM)
        if not is_calm(batch.numbers.reshape(-1)):
            return None
        X = prepare(batch, True)
        scores = estimator.scores(X)
        if estimator.finite_scores and not is_calm(scores.reshape(-1)):
            return None
        return scores

    def _scores(self, batch: Batch) -> Any:
        X = self.prepare(batch, False)
        if self.estimator.finite_scores:
            for matrix in [part for _, part in X.dense] if isinstance(X, Split) else [X]:
                refuse_odd(matrix)
        return self.estimator.scores(X)

    def _outputs(self, scores: Any, outputs: Sequence[str]) -> Outputs:
        estimator = self.estimator
        return {
            name: estimator.predict(scores) if name == PREDICT else estimator.predict_proba(scores)
            for name in outputs
        }


def is_calm(values: Any) -> bool:
    """Say whether no number of a row of numbers is NaN, infinite or larger than 1e100."""
    return kernels.calm(values, _CALM)


class Preparation:
    """From a batch to what the estimator gets."""

    def __init__(self, assembly: Assembly, rest: Chain | None) -> None:
        self._assembly = assembly
        self._rest = rest
        sums = assembly.exactness == SUMS or (rest is not None and rest.exactness == SUMS)
        self.exactness = SUMS if sums else BITS
        self.width = assembly.width if rest is None else rest.width
        self.origins = assembly.origins
        """For each column the index of the feature that it is made of, None where there are several."""
        if rest is not None:
            origins = rest.origins
            self.origins = (
                (None,) * rest.width
                if origins is None
                else tuple(assembly.origins[column] for column in origins)
            )

    def scaling(self) -> tuple[Matrix, Matrix] | None:
        """Return what is subtracted and what divides, where nothing else is done to a batch's numbers."""
        return self._assembly.scaling() if self._rest is None else None

    def __call__(self, batch: Batch, calm: bool) -> Any:
        block = self._assembly(batch, calm)
        if self._rest is None:
            return block
        if isinstance(block, Split):
            block = block.filled()
        return np.ascontiguousarray(self._rest(block, calm and not self._assembly.makes_missing))


def compile_model(path: Path, schema: Schema) -> CompiledPredictor:
    """
    Return the predictor for a model file whose digest has been verified.

    Raises NotCompilable, saying why; ArtifactCorrupt where the file is no model of this schema.
    """
    root = read(path)
    version = root.text("_sklearn_version")
    if minor(version) not in VERSIONS:
        raise NotCompilable(f"there are no compiled forms for scikit-learn {version}")
    before, last = _steps(root)
    estimator = compile_estimator(last, Context(version))
    prepare = _preparation([node for node in before if node not in (None, "passthrough")], schema, estimator)
    if prepare.width != estimator.n_features:
        raise NotCompilable(f"the model takes {estimator.n_features} columns and gets {prepare.width}")
    _check_classes(estimator, schema)
    predictor = CompiledPredictor(schema, prepare, estimator)
    predictor.fitted = (before, last)
    return predictor


def fitted_steps(path: Path) -> tuple[list[Any], Any]:
    """
    Return the steps before the estimator, and the estimator, as a model file has them.

    Raises NotCompilable, ArtifactCorrupt.
    """
    return _steps(read(path))


def _steps(root: Node) -> tuple[list[Any], Any]:
    nodes: list[Any] = [root]
    while isinstance(nodes[0], Node) and nodes[0].type == PIPELINE:
        nodes = pipeline_steps(nodes[0]) + nodes[1:]
    *before, last = nodes
    while isinstance(last, Node) and last.type == PIPELINE:
        *inner, last = pipeline_steps(last)
        before += inner
    return before, last


def _preparation(nodes: list[Any], schema: Schema, estimator: Estimator) -> Preparation:
    layout = Layout(schema.features)
    if nodes and isinstance(nodes[0], Node) and nodes[0].type == COLUMN_TRANSFORMER:
        rest = nodes[1:]
        sparse = estimator.takes_sparse and estimator.n_features >= SPARSE_FROM and not rest
        assembly = compile_branches(nodes[0], layout, sparse=sparse)
        return Preparation(assembly, compile_chain(rest, Shape(NUMBERS, assembly.width)) if rest else None)
    source = Source(layout, range(len(schema.features)))
    if source.shape.kind != NUMBERS:
        raise NotCompilable("strings reach the model without a ColumnTransformer")
    whole = Assembly([(source, compile_chain(nodes, source.shape))], sparse=False)
    return Preparation(whole, None)


def _check_classes(estimator: Estimator, schema: Schema) -> None:
    if schema.target.classes is None:
        if estimator.classes is not None:
            raise ArtifactCorrupt("the model has classes, and schema.json says Regression.")
    elif estimator.classes is None or estimator.classes.tolist() != list(schema.target.classes):
        raise ArtifactCorrupt("the model's classes are not those of schema.json.")
