"""Odd but legal data ends in an artifact."""

import math

import numpy as np
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from trainer_cases import CATALOGUE, problem

from solera_core import artifact
from solera_core.schema import FLOAT, INTEGER, STRING, Feature, Schema, Target, decode_rows, frame
from solera_trainer.exemplars import MAX_ROWS, examples
from solera_trainer.thresholds import SPLITS, threshold_rows
from solera_trainer.training import train

RANDOM = np.random.default_rng(0)
ODD = {
    "a date for ever": pa.array(["2024-01-01"] * 115 + ["9999-12-31"] * 5),
    "the last moment": pa.array(["2024-01-01"] * 115 + ["9999-12-31T23:59:59.999999-14:00"] * 5),
    "the first moment": pa.array(["2024-01-01"] * 115 + ["0001-01-01T00:00:00+14:00"] * 5),
    "card numbers": pa.array(RANDOM.integers(0, 6_000_000_000_000_000, 120)),
    "the largest integers": pa.array([-(2**53), 2**53] * 60),
    "huge numbers": pa.array([-1.7e308, 1.7e308] * 60),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_values_are_trained_on_and_stored(case, tmp_path):
    columns = {"odd": ODD[case], "x": RANDOM.normal(size=120), "y": [str(index % 2) for index in range(120)]}
    tree = [{"name": "tree", "estimator": "sklearn.tree.DecisionTreeClassifier"}]
    steps = [{"transformer": "sklearn.impute.SimpleImputer", "params": {"strategy": "most_frequent"}}]
    asked = problem(
        candidates=tree,
        preprocessing=[{"columnTypes": ["Float", "Integer", "DateTime"], "steps": steps}],
    )
    if case == "huge numbers":
        steps.append(
            {"transformer": "sklearn.preprocessing.QuantileTransformer", "params": {"n_quantiles": 9}}
        )
        asked = problem(candidates=tree, preprocessing=[{"columns": ["odd"], "steps": steps}])
    train(asked, CATALOGUE, pa.table(columns), tmp_path / "a", cpus=1, images={})
    schema = Schema.from_json(artifact.read_json(tmp_path / "a", artifact.SCHEMA))
    inputs = artifact.read_json(tmp_path / "a", artifact.EXAMPLES)["inputs"]
    assert len(inputs) >= 12
    decode_rows(schema, inputs)


SCHEMA = Schema(
    "Classification",
    Target("y", STRING, ("0", "1")),
    (Feature("size", FLOAT), Feature("count", INTEGER), Feature("kind", STRING), Feature("plain", FLOAT)),
)


def fitted(estimator):
    """A pipeline as the trainer makes it, on columns of which some are scaled and one is left as it is."""
    random = np.random.default_rng(0)
    columns = {
        "size": random.normal(size=200),
        "count": random.integers(0, 100, 200).astype(float),
        "kind": random.choice(np.array(["x", "y"], dtype=object), 200),
        "plain": random.normal(size=200) * 1e6,
    }
    columns["size"][::9] = np.nan
    target = np.where(
        np.nan_to_num(columns["size"]) + columns["plain"] / 1e6 > columns["count"] / 50, "0", "1"
    )
    numbers = Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler())])
    words = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    preprocess = ColumnTransformer(
        [("n", numbers, ["size", "count"]), ("p", "passthrough", ["plain"]), ("w", words, ["kind"])],
        sparse_threshold=0.0,
        verbose_feature_names_out=False,
    )
    return Pipeline([("preprocess", preprocess), ("model", estimator)]).fit(frame(columns), target), columns


@pytest.mark.parametrize(
    "estimator",
    [
        DecisionTreeClassifier(max_depth=4),
        RandomForestClassifier(20, random_state=0),
        ExtraTreesClassifier(20, random_state=0),
        GradientBoostingClassifier(n_estimators=20),
        HistGradientBoostingClassifier(max_iter=20),
        BaggingClassifier(n_estimators=20, max_features=0.5, random_state=0),
    ],
)
def test_rows_lie_on_both_sides_of_the_models_own_splits(estimator):
    """Two rows that differ by one step of one number come to different leaves."""
    model, columns = fitted(estimator)
    rows = threshold_rows(SCHEMA, model, columns)
    matrix = model[0].transform(frame(decode_rows(SCHEMA, rows)))
    places = getattr(estimator, "apply", estimator.predict_proba)(matrix).reshape(len(rows), -1).tolist()
    parted = 0
    for first, second, left, right in zip(rows, rows[1:], places, places[1:], strict=False):
        differing = [name for name in first if first[name] != second[name]]
        if len(differing) == 1:
            below, above = first[differing[0]], second[differing[0]]
            following = below + 1 if differing == ["count"] else math.nextafter(below, math.inf)
            parted += following == above and left != right
    assert parted >= SPLITS - 2, "hardly any split parts two neighbouring numbers"


def test_examples_hold_the_rows_at_the_splits_and_stay_few():
    model, columns = fitted(RandomForestClassifier(20, random_state=0))
    inputs = examples(SCHEMA, model, columns)["inputs"]
    assert len(inputs) <= MAX_ROWS
    assert all(row in inputs for row in threshold_rows(SCHEMA, model, columns))
    assert any(row["size"] is None for row in inputs)
    assert any(row["kind"] == "never seen in training" for row in inputs)


def test_a_model_without_trees_has_no_such_rows():
    model, columns = fitted(LogisticRegression(C=1e-9))
    assert threshold_rows(SCHEMA, model, columns) == []
