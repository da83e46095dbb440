"""Contributions against those of the package shap, which lives in an environment of its own."""

from __future__ import annotations

import json
import pickle
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from compiled_models import CLASSES, Pair, behind_columns, labels, numbers, pair, strings
from explained import explainer_for, means_of
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from own_environment import environment

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from solera_server.explain.explainer import Explainer

SCRIPT = Path(__file__).parent / "references" / "shap_values.py"
ROWS = 12

# Name: (estimator, number of classes or 0 for regression, whether values may be missing).
ESTIMATORS: dict[str, tuple[Any, int, bool]] = {
    "tree": (DecisionTreeClassifier(max_depth=6, random_state=0), 3, True),
    "tree-regressor": (DecisionTreeRegressor(random_state=0), 0, True),
    "forest": (RandomForestClassifier(20, random_state=0), 2, True),
    "forest-3": (RandomForestClassifier(20, random_state=0, class_weight="balanced"), 3, True),
    "forest-regressor": (RandomForestRegressor(20, random_state=0), 0, False),
    "extra": (ExtraTreesClassifier(20, random_state=0), 3, True),
    "boosting": (GradientBoostingClassifier(n_estimators=20, random_state=0), 2, False),
    "boosting-regressor": (GradientBoostingRegressor(n_estimators=20, random_state=0), 0, False),
    "histogram": (HistGradientBoostingClassifier(max_iter=20, random_state=0), 2, True),
    "histogram-3": (HistGradientBoostingClassifier(max_iter=20, random_state=0), 3, True),
    "histogram-regressor": (HistGradientBoostingRegressor(max_iter=20, random_state=0), 0, True),
    "logistic": (LogisticRegression(), 2, False),
    "logistic-3": (LogisticRegression(), 3, False),
    "ridge": (Ridge(), 0, False),
}


def mixed_table(generator: np.random.Generator, *, missing: bool) -> pd.DataFrame:
    table = numbers(generator, 200, 4, missing=0.1 if missing else 0.0)
    cities = strings(generator, 200, ["Cádiz", "Jerez", "Rota"])
    return table.assign(city=pd.Series(cities, dtype=object))


def pipeline_of(estimator: Any, *, missing: bool) -> Pipeline:
    steps = [] if missing else [("impute", SimpleImputer()), ("scale", StandardScaler())]
    pipeline = behind_columns(steps or "passthrough", ["n0", "n1", "n2", "n3"], estimator)
    branch = ("cities", OneHotEncoder(sparse_output=False), ["city"])
    preprocess = pipeline.steps[0][1]
    if missing:
        preprocess.transformers = [("numbers", "passthrough", ["n0", "n1", "n2", "n3"])]
    preprocess.transformers.append(branch)
    return pipeline


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Pair, pd.DataFrame, Explainer]]:
    made: dict[str, Any] = {}
    for name, (estimator, classes, missing) in ESTIMATORS.items():
        generator = np.random.default_rng(len(made))
        table = mixed_table(generator, missing=missing)
        target = labels(generator, table, classes) if classes else table["n1"].fillna(3).to_numpy()
        directory = tmp_path_factory.mktemp(name)
        model = pair(pipeline_of(estimator, missing=missing), table, target, directory)
        made[name] = (model, table, explainer_for(model, directory, means_of(model, table)))
    return made


@pytest.fixture(scope="module")
def expected(
    pairs: dict[str, tuple[Pair, pd.DataFrame, Explainer]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("shap")
    cases = []
    for name, (model, table, _) in pairs.items():
        estimator = model.model[-1]
        kind = "linear" if hasattr(estimator, "coef_") else "trees"
        columns = model.model[:-1].transform(table)
        cases.append((name, kind, estimator, columns[:ROWS], columns.mean(axis=0)))
    (directory / "cases.pickle").write_bytes(pickle.dumps(cases))
    arguments = [environment("shap"), SCRIPT, directory / "cases.pickle", directory / "values.json"]
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((directory / "values.json").read_text())
    return found


@pytest.mark.parametrize("name", ESTIMATORS)
def test_contributions_are_those_of_shap(name, pairs, expected):
    model, table, explainer = pairs[name]
    explanation = explainer.explain(model.batch(table[:ROWS]))
    values, base = np.array(expected[name]["values"]), np.array(expected[name]["base"])
    classes = ESTIMATORS[name][1]
    if classes == 2 and values.shape[2] == 1:
        values, base = np.concatenate([-values, values], axis=2), np.array([-base[0], base[0]])
    # The last three columns are of the one feature "city".
    summed = np.concatenate([values[:, :4], values[:, 4:].sum(axis=1, keepdims=True)], axis=1)
    assert explanation.contributions.shape == (ROWS, 5, classes or 1)
    np.testing.assert_allclose(explanation.contributions, summed, rtol=0, atol=1e-9)
    np.testing.assert_allclose(explanation.base, base, rtol=0, atol=1e-9)
    if classes:
        assert set(explanation.predictions) <= set(CLASSES)
