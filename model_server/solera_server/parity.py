"""
The stored examples: inputs with the outputs that the trainer saw, which a loaded model must give again.

What only compares and adds in a fixed order (trees and their like, behind transformers that treat every
value for itself) gives the same bits on every machine. What multiplies matrices does not, since BLAS
chooses its order by processor: there the labels must be the same and the numbers agree to 1e-9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_core.failures import ArtifactCorrupt, Failure, Reason
from solera_core.schema import InvalidValue, decode_rows
from solera_server.batch import InputError, Layout

if TYPE_CHECKING:
    from solera_core.schema import Schema
    from solera_server.predictor import Predictor

TOLERANCE = 1e-9
"""Absolute up to 1, relative above."""

_EXACT_ESTIMATORS = frozenset(
    {
        "DecisionTreeClassifier",
        "DecisionTreeRegressor",
        "ExtraTreeClassifier",
        "ExtraTreeRegressor",
        "RandomForestClassifier",
        "RandomForestRegressor",
        "ExtraTreesClassifier",
        "ExtraTreesRegressor",
        "GradientBoostingRegressor",
        "HistGradientBoostingRegressor",
        "DummyClassifier",
        "DummyRegressor",
    }
)
_EXACT_TRANSFORMERS = frozenset(
    {
        "Binarizer",
        "FunctionTransformer",
        "KBinsDiscretizer",
        "MaxAbsScaler",
        "MinMaxScaler",
        "MissingIndicator",
        "OneHotEncoder",
        "OrdinalEncoder",
        "RobustScaler",
        "SimpleImputer",
        "StandardScaler",
        "TargetEncoder",
    }
)


def reproduces_exactly(model: Any) -> bool:
    """Whether every step of a fitted pipeline is one whose results do not depend on the machine."""
    steps = getattr(model, "steps", None)
    if steps is None:
        return type(model).__name__ in _EXACT_ESTIMATORS
    *before, (_, estimator) = steps
    return type(estimator).__name__ in _EXACT_ESTIMATORS and all(_elementwise(step) for _, step in before)


def _elementwise(transformer: Any) -> bool:
    if isinstance(transformer, str):
        return transformer in ("passthrough", "drop")
    if hasattr(transformer, "transformers_"):
        return all(_elementwise(inner) for _, inner, _ in transformer.transformers_)
    if hasattr(transformer, "steps"):
        return all(_elementwise(inner) for _, inner in transformer.steps)
    return type(transformer).__name__ in _EXACT_TRANSFORMERS


def check_examples(predictor: Predictor, schema: Schema, document: Any, *, exactly: bool) -> int:
    """
    Predict the stored inputs and compare; return the number of rows.

    Raises ArtifactCorrupt when the document is not one, ParityFailed at the first difference.
    """
    inputs, expected = _read(document, predictor.outputs)
    try:
        columns = list(decode_rows(schema, inputs).values())
    except InvalidValue as error:
        raise ArtifactCorrupt(f"examples.json does not fit schema.json: {error}.") from error
    batch = Layout(schema.features).batch(
        columns, lambda row, column: f"inputs[{row}].{schema.features[column].name}"
    )
    try:
        found = predictor.predict(batch, predictor.outputs)
    except InputError as error:
        raise ArtifactCorrupt(f"examples.json holds what its model does not take: {error}.") from error
    for name in predictor.outputs:
        _compare(name, found[name], expected[name], exactly=exactly)
    return len(inputs)


def _read(document: Any, outputs: tuple[str, ...]) -> tuple[list[Any], dict[str, list[Any]]]:
    inputs = document.get("inputs") if isinstance(document, dict) else None
    expected = document.get("outputs") if isinstance(document, dict) else None
    if not isinstance(inputs, list) or not inputs or not all(isinstance(row, dict) for row in inputs):
        raise ArtifactCorrupt("examples.json has no list of inputs.")
    if not isinstance(expected, dict) or set(expected) != set(outputs):
        raise ArtifactCorrupt(f"examples.json has not the outputs of this model: {', '.join(outputs)}.")
    for name, rows in expected.items():
        if not isinstance(rows, list) or len(rows) != len(inputs):
            raise ArtifactCorrupt(f"examples.json has not one {name} for each of its inputs.")
    return inputs, expected


def _compare(name: str, found: Any, expected: list[Any], *, exactly: bool) -> None:
    numeric = found.dtype.kind == "f"
    for row, (here, stored) in enumerate(zip(found.tolist(), expected, strict=True)):
        same = _numbers_agree(here, stored, exactly=exactly) if numeric else here == stored
        if not same:
            raise Failure(
                Reason.PARITY_FAILED,
                f"example {row} of the artifact gives {name} {here!r} here, and gave {stored!r} in training: "
                "this installation computes something else than the trainer's did.",
            )


def _numbers_agree(here: Any, stored: Any, *, exactly: bool) -> bool:
    values = np.atleast_1d(np.asarray(here, dtype=np.float64))
    listed = stored if isinstance(stored, list) else [stored]
    wanted = np.array([np.nan if value is None else float(value) for value in listed], dtype=np.float64)
    if values.shape != wanted.shape:
        return False
    if exactly:
        return bool(np.array_equal(values, wanted, equal_nan=True))
    return bool(np.allclose(values, wanted, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
