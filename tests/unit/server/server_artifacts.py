"""Small real artifacts, written with the core's own code: trained here, dumped by skops, with examples."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import sklearn
from request_bodies import MIXED
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skops import io

from solera_core import artifact
from solera_core.schema import Feature, Schema, Target, decode_rows, encode_value, frame

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Trained:
    """An artifact on disk with what it was made of."""

    directory: Path
    digest: str
    schema: Schema
    model: Any


IRIS_FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def write_iris(directory: Path, estimator: Any = None) -> Trained:
    data = load_iris()
    names = data.target_names[data.target].astype(object)
    rows = [dict(zip(IRIS_FEATURES, map(float, row), strict=True)) for row in data.data]
    schema = Schema(
        "Classification",
        Target("species", "String", ("setosa", "versicolor", "virginica")),
        tuple(Feature(name, "Float", nullable=False) for name in IRIS_FEATURES),
    )
    model = make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=500) if estimator is None else estimator
    )
    return _write(directory, schema, model, rows, target=names, examples=rows[::10])


def mixed_rows(count: int = 120) -> list[dict[str, Any]]:
    generator = np.random.default_rng(7)
    return [
        {
            "age": None if index % 11 == 0 else float(generator.integers(18, 80)) + 0.5,
            "visits": int(generator.integers(0, 50)),
            "city": None if index % 13 == 0 else ["Porto", "Jerez", "Málaga"][index % 3],
            "member": bool(index % 2),
            "since": f"20{10 + index % 15}-03-01T12:00:00Z",
        }
        for index in range(count)
    ]


def write_mixed(directory: Path) -> Trained:
    rows = mixed_rows()
    numbers = ["age", "visits", "member", "since"]
    prepare = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            (
                "texts",
                make_pipeline(
                    SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
                ),
                ["city"],
            ),
        ]
    )
    model = make_pipeline(prepare, RandomForestClassifier(n_estimators=10, random_state=7, n_jobs=2))
    target = np.array([(row["visits"] > 25) ^ row["member"] for row in rows])
    examples = [*rows[:20], {**rows[0], "city": "Cádiz", "age": -1e9}]
    return _write(directory, MIXED, model, rows, target=target, examples=examples)


def write_refusing(directory: Path) -> Trained:
    """Write a model without a compiled form, which takes no unseen city, and nothing missing but an age."""
    rows: list[dict[str, Any]] = [
        {"age": float(i % 7), "size": float(i), "city": ["Porto", "Jerez"][i % 2]} for i in range(60)
    ]
    schema = Schema(
        "Classification",
        Target("buys", "Boolean", (False, True)),
        (Feature("age", "Float"), Feature("size", "Float"), Feature("city", "String")),
    )
    prepare = ColumnTransformer(
        [
            ("age", SimpleImputer(), ["age"]),
            ("size", "passthrough", ["size"]),
            ("city", OneHotEncoder(handle_unknown="error"), ["city"]),
        ]
    )
    model = make_pipeline(prepare, OneVsRestClassifier(LogisticRegression(max_iter=500)))
    target = np.array([row["size"] > 30 for row in rows])
    return _write(directory, schema, model, rows, target=target, examples=rows[:20])


def write_cities(directory: Path) -> Trained:
    """Write a model with a text and a compiled form, which takes no missing size."""
    rows: list[dict[str, Any]] = [{"size": float(i), "city": ["Porto", "Jerez"][i % 2]} for i in range(60)]
    schema = Schema(
        "Classification",
        Target("buys", "Boolean", (False, True)),
        (Feature("size", "Float"), Feature("city", "String")),
    )
    encode = ("city", OneHotEncoder(handle_unknown="ignore"), ["city"])
    prepare = ColumnTransformer([("size", "passthrough", ["size"]), encode])
    model = make_pipeline(prepare, LogisticRegression(max_iter=500))
    target = np.array([row["size"] > 30 for row in rows])
    return _write(directory, schema, model, rows, target=target, examples=rows[:20])


def write_regression(directory: Path) -> Trained:
    generator = np.random.default_rng(3)
    numbers = generator.normal(size=80)
    rows = [{"x": float(x), "y": None if x > 1.5 else float(-x)} for x in numbers]
    schema = Schema(
        "Regression", Target("z", "Float"), (Feature("x", "Float", nullable=False), Feature("y", "Float"))
    )
    target = numbers**2
    model = make_pipeline(HistGradientBoostingRegressor(max_iter=20, random_state=0))
    return _write(directory, schema, model, rows, target=target, examples=rows[:30])


def _write(
    directory: Path, schema: Schema, model: Any, rows: list[Any], *, target: Any, examples: list[Any]
) -> Trained:
    model.fit(frame(decode_rows(schema, rows)), target)
    directory.mkdir(parents=True, exist_ok=True)
    io.dump(model, directory / artifact.MODEL)
    table = frame(decode_rows(schema, examples))
    outputs: dict[str, Any] = {"predict": [_json(value) for value in model.predict(table).tolist()]}
    if schema.target.classes is not None:
        outputs["predict_proba"] = model.predict_proba(table).tolist()
    write_json(directory, artifact.SCHEMA, schema.to_json())
    write_json(directory, artifact.EXAMPLES, {"inputs": examples, "outputs": outputs})
    write_json(directory, artifact.METRICS, {})
    write_json(
        directory, artifact.PROVENANCE, {"runtime": {"versions": {"scikit-learn": sklearn.__version__}}}
    )
    return Trained(directory, artifact.write_manifest(directory).digest, schema, model)


def _json(value: Any) -> Any:
    return encode_value(value) if isinstance(value, float) else value


def write_json(directory: Path, name: str, value: Any) -> None:
    (directory / name).write_text(json.dumps(value), encoding="utf-8")
