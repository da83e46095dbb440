"""Models of scikit-learn and their compiled forms, compared with each other and with themselves."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from solera_core.schema import FLOAT, STRING, Feature, Schema, Target
from solera_server.batch import Batch, InputError, Layout
from solera_server.compiled.pipeline import CompiledPredictor, compile_model
from solera_server.predictor import PREDICT_PROBA
from solera_trainer.model_bytes import model_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TOLERANCE = 1e-14
CLASSES = ("left", "middle", "right", "top", "under")


@dataclass(frozen=True)
class Pair:
    """A fitted pipeline and what was compiled from its file."""

    model: Any
    compiled: CompiledPredictor
    schema: Schema

    def batch(self, table: pd.DataFrame) -> Batch:
        return batch_of(self.schema, table)

    def same_bits_in_any_batch(self, table: pd.DataFrame) -> dict[str, Any]:
        """Check that rows alone, in pieces and together get the same bits; return the answers."""
        batch = self.batch(table)
        names = self.compiled.outputs
        together = self.compiled.predict(batch, names)
        for step in (1, 3, 7):
            pieces = [
                self.compiled.predict(batch.slice(start, min(start + step, batch.rows)), names)
                for start in range(0, batch.rows, step)
            ]
            for name in names:
                joined = np.concatenate([piece[name] for piece in pieces])
                assert joined.dtype == together[name].dtype
                assert joined.tolist() == together[name].tolist() or np.array_equal(
                    joined, together[name], equal_nan=True
                ), f"{name}: rows in batches of {step} differ from all together"
        return together

    def agrees(self, table: pd.DataFrame, *, scale: float = 1.0) -> None:
        """Check the answers against scikit-learn's, and that both refuse the same rows."""
        if self._taken_by_sklearn(table) is None:
            rows = table
        else:
            rows = table.iloc[[row for row in range(len(table)) if self._both_take(table.iloc[[row]])]]
        if not len(rows):
            return
        found = self.same_bits_in_any_batch(rows)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            expected = {name: np.asarray(getattr(self.model, name)(rows)) for name in self.compiled.outputs}
        exact = self.compiled.exact
        margins = np.zeros(len(rows)) if exact else TOLERANCE * scale * self._score_sizes(rows)
        for name, values in expected.items():
            if values.dtype.kind == "f":
                _close(name, found[name], values, margins)
        if self.schema.target.classes is not None:
            clear = np.ones(len(rows), dtype=bool)
            if PREDICT_PROBA in expected and not exact:
                best = np.sort(expected[PREDICT_PROBA], axis=1)
                clear = best[:, -1] - best[:, -2] > 1e-12
            assert found["predict"][clear].tolist() == expected["predict"][clear].tolist()

    def _score_sizes(self, table: pd.DataFrame) -> Any:
        """Return how large the scores of each row are, at least 1: sums of large numbers round coarsely."""
        with np.errstate(all="ignore"):
            scores = self.compiled.estimator.scores(self.compiled.matrix(self.batch(table)))
        sizes = np.abs(np.asarray(scores, dtype=np.float64)).reshape(len(table), -1)
        return np.maximum(1.0, sizes.max(axis=1, initial=0.0))

    def _both_take(self, row: pd.DataFrame) -> bool:
        refused = self._taken_by_sklearn(row)
        if refused is None:
            self.compiled.predict(self.batch(row), self.compiled.outputs)
            return True
        try:
            answer = self.compiled.predict(self.batch(row), self.compiled.outputs)
        except InputError:
            return False
        raise AssertionError(f"scikit-learn refuses {row.to_dict('records')}: {refused}; got {answer}")

    def _taken_by_sklearn(self, table: pd.DataFrame) -> ValueError | None:
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                self.model.predict(table)
        except ValueError as error:
            return error
        return None


def _close(name: str, found: Any, expected: Any, margins: Any) -> None:
    assert found.shape == expected.shape
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(all="ignore"):
        allowed = margins.reshape(-1, *[1] * (expected.ndim - 1))
        near = np.abs(found - expected) <= allowed * np.maximum(1.0, np.abs(expected))
    wrong = np.flatnonzero(~(same | near).reshape(len(found), -1).all(axis=1))
    assert not len(wrong), (
        f"{name} of row {wrong[0]}: {found[wrong[0]]} here, {expected[wrong[0]]} by scikit-learn"
    )


def batch_of(schema: Schema, table: pd.DataFrame) -> Batch:
    columns = [
        table[feature.name].to_numpy(dtype=object if feature.type == STRING else np.float64)
        for feature in schema.features
    ]
    return Layout(schema.features).batch(columns, lambda row, column: f"row {row}, column {column}")


def pair(model: Any, table: pd.DataFrame, target: Any, directory: Path) -> Pair:
    """Fit, write as the trainer does, and compile. Raises NotCompilable."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(table, target)
    path = directory / "model.skops"
    path.write_bytes(model_bytes(model))
    schema = schema_of(table, getattr(model, "classes_", None))
    return Pair(model, compile_model(path, schema), schema)


def schema_of(table: pd.DataFrame, classes: Any) -> Schema:
    features = tuple(
        Feature(name, STRING if table[name].dtype == object else FLOAT) for name in table.columns
    )
    if classes is None:
        return Schema("Regression", Target("target", FLOAT), features)
    return Schema("Classification", Target("target", STRING, tuple(classes.tolist())), features)


def numbers(generator: np.random.Generator, rows: int, columns: int, missing: float = 0.0) -> pd.DataFrame:
    """Return columns of various sizes and with repeated values, some missing."""
    values = generator.normal(size=(rows, columns)) * 10.0 ** generator.integers(-2, 3, columns)
    rounded = generator.random(columns) < 0.4
    values[:, rounded] = (values / values.std(axis=0)).round(1)[:, rounded]
    values[generator.random((rows, columns)) < missing] = np.nan
    return pd.DataFrame({f"n{column}": values[:, column] for column in range(columns)})


def odd_numbers(generator: np.random.Generator, table: pd.DataFrame, rows: int = 24) -> pd.DataFrame:
    """Return rows of the table in which single numbers are odd: missing, infinite, huge, tiny, an ulp away."""
    result = table.iloc[generator.integers(0, len(table), rows)].reset_index(drop=True).copy()
    for row in range(rows):
        for name in result.columns[generator.random(len(result.columns)) < 0.4]:
            if result[name].dtype == object:
                continue
            value = float(result.loc[row, name])
            odd = [
                np.nan,
                np.inf,
                -np.inf,
                1e250,
                -1e250,
                5e-324,
                0.0,
                -0.0,
                1e39,
                value * (1 + 2e-16),
                1e150,
            ]
            result.loc[row, name] = odd[int(generator.integers(len(odd)))]
    return result


def strings(
    generator: np.random.Generator, rows: int, categories: Sequence[str], missing: float = 0.0
) -> Any:
    """Return a column of categories, some missing."""
    column = generator.choice(np.array(categories, dtype=object), rows)
    column[generator.random(rows) < missing] = np.nan
    return objects(column)


def objects(values: Any) -> pd.Series[Any]:
    """Return a column of objects, which pandas leaves as they are."""
    return pd.Series(values, dtype=object)


def labels(generator: np.random.Generator, table: pd.DataFrame, classes: int) -> Any:
    """Return classes that depend on the numbers, every one there."""
    values = table.select_dtypes("number").fillna(0).to_numpy()
    score = (
        values @ generator.normal(size=values.shape[1]) if values.shape[1] else generator.random(len(table))
    )
    score = score + generator.normal(size=len(score)) * score.std()
    edges = np.quantile(score, np.linspace(0, 1, classes + 1)[1:-1])
    return np.array(CLASSES[:classes], dtype=object)[np.searchsorted(edges, score)]


def behind_columns(steps: Any, columns: Sequence[str], estimator: Any) -> Pipeline:
    """Return the pipeline that the trainer builds: a ColumnTransformer, then the model."""
    branches = [("part0", Pipeline(steps), list(columns))]
    preprocess = ColumnTransformer(branches, sparse_threshold=0.0, verbose_feature_names_out=False)
    return Pipeline([("preprocess", preprocess), ("model", estimator)])
