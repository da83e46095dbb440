"""Pipelines from a spec: preprocessing of columns, then an estimator."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from solera_core.catalogue import BadValue, Catalogue
from solera_core.failures import Failure, Reason
from solera_core.nearest import did_you_mean, listed
from solera_core.schema import BOOLEAN, STRING, Feature, Schema
from solera_core.spec import Training

MAX_CATEGORIES = 100
"""Default one-hot encoding: of more categories the rarest share one column, as unknown ones do."""


def build_pipeline(
    catalogue: Catalogue,
    schema: Schema,
    training: Training,
    estimator: str,
    params: Mapping[str, Any],
) -> Any:
    """Return an unfitted pipeline: `preprocess` (a ColumnTransformer), then `model`.

    The same arguments give the same pipeline: nothing in it is random that does not come from the seed.
    Raises Failure (BadParameter, ColumnMissing).
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    branches, text = [], False
    for name, features, steps in _branches(catalogue, schema, training):
        text = text or any(dotted in _text_names(catalogue) for dotted, _ in steps)
        built = _branch(catalogue, steps, training.seed)
        branches.append((name, built, [feature.name for feature in features]))
    preprocess = ColumnTransformer(
        branches, remainder="drop", sparse_threshold=0.3 if text else 0.0, verbose_feature_names_out=False
    )
    model = component_of(catalogue, estimator, params, training.seed)
    return Pipeline([("preprocess", preprocess), ("model", model)])


Steps = list[tuple[str, Mapping[str, Any]]]


def _branches(
    catalogue: Catalogue, schema: Schema, training: Training
) -> list[tuple[str, list[Feature], Steps]]:
    """Return (name, features, steps) for each entry of the spec and for what no entry names."""
    left = {feature.name: feature for feature in schema.features}
    branches: list[tuple[str, list[Feature], Steps]] = []
    by_name = [entry for entry in training.preprocessing or () if entry.columns is not None]
    by_type = [entry for entry in training.preprocessing or () if entry.columns is None]
    for entry in [*by_name, *by_type]:
        if entry.columns is not None:
            _require(entry.columns, schema)
            features = [left.pop(name) for name in entry.columns]
        else:
            wanted = {kind.value for kind in entry.column_types or ()}
            features = [left.pop(f.name) for f in schema.features if f.name in left and f.type in wanted]
        if features:
            steps: Steps = [(step.transformer, step.params) for step in entry.steps]
            branches.extend(_text_branches(catalogue, f"part{len(branches)}", features, steps))
    numbers = [feature for feature in left.values() if feature.type not in {STRING, BOOLEAN}]
    others = [feature for feature in left.values() if feature.type in {STRING, BOOLEAN}]
    if numbers:
        branches.append(("numbers", numbers, _DEFAULT_NUMBERS))
    if others:
        # A Boolean column is numbers and a String column is objects: together they would all be objects.
        for name, kind in (("strings", STRING), ("booleans", BOOLEAN)):
            chosen = [feature for feature in others if feature.type == kind]
            if chosen:
                branches.append((name, chosen, _DEFAULT_CATEGORIES))
    return branches


_DEFAULT_NUMBERS: Steps = [
    ("sklearn.impute.SimpleImputer", {"strategy": "median"}),
    ("sklearn.preprocessing.StandardScaler", {}),
]
_DEFAULT_CATEGORIES: Steps = [
    ("sklearn.impute.SimpleImputer", {"strategy": "most_frequent"}),
    (
        "sklearn.preprocessing.OneHotEncoder",
        {
            "handle_unknown": "infrequent_if_exist",
            "max_categories": MAX_CATEGORIES,
            "sparse_output": False,
        },
    ),
]


def _text_branches(
    catalogue: Catalogue, name: str, features: list[Feature], steps: Steps
) -> list[tuple[str, list[Feature], Steps]]:
    """Give each column its own vectoriser: they take one column of texts."""
    if not any(dotted in _text_names(catalogue) for dotted, _ in steps):
        return [(name, features, steps)]
    wrong = [feature.name for feature in features if feature.type != STRING]
    if wrong:
        message = f"text is taken from String columns only, not from {listed(wrong)}."
        raise Failure(Reason.BAD_PARAMETER, message)
    return [(f"{name}_{index}", [feature], steps) for index, feature in enumerate(features)]


def _branch(catalogue: Catalogue, steps: Steps, seed: int) -> Any:
    from sklearn.pipeline import Pipeline

    built: list[tuple[str, Any]] = []
    for dotted, params in steps:
        if dotted in _text_names(catalogue):
            built += _flat_texts(len(built))
        built.append((f"step{len(built)}", component_of(catalogue, dotted, params, seed)))
    return Pipeline(built)


def _flat_texts(number: int) -> list[tuple[str, Any]]:
    """Return steps that make one column of texts, the missing ones empty, into what a vectoriser takes."""
    import numpy as np
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import FunctionTransformer

    filled = SimpleImputer(strategy="constant", fill_value="", keep_empty_features=True)
    return [(f"step{number}", filled), (f"step{number + 1}", FunctionTransformer(np.ravel))]


def component_of(catalogue: Catalogue, dotted: str, params: Mapping[str, Any], seed: int) -> Any:
    """Return an unfitted estimator or transformer with the parameters as a spec writes them."""
    module, _, name = dotted.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    values = _coerced(catalogue, dotted, params)
    known = catalogue.component(dotted)
    if known is not None and known.random:
        values.setdefault("random_state", seed)
    if known is not None and "keep_empty_features" in known.managed:
        values["keep_empty_features"] = True
    return cls(**values)


def _coerced(catalogue: Catalogue, dotted: str, params: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return catalogue.coerce_params(dotted, params)
    except BadValue as error:
        raise Failure(Reason.BAD_PARAMETER, str(error)) from error


def _text_names(catalogue: Catalogue) -> frozenset[str]:
    return frozenset(name for name, item in catalogue.transformers.items() if item.text)


def _require(columns: Sequence[str], schema: Schema) -> None:
    for name in columns:
        if name not in schema.index:
            hint = did_you_mean(name, schema.index)
            there = f"There are {listed(schema.index)}."
            message = f'preprocessing names "{name}", which is not a feature.{hint} {there}'
            raise Failure(Reason.COLUMN_MISSING, message)
