"""Odd but legal data ends in an artifact."""

import numpy as np
import pyarrow as pa
import pytest
from trainer_cases import CATALOGUE, problem

from solera_core import artifact
from solera_core.schema import Schema, decode_rows
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
