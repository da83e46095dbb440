"""The models that every server serves, with the rows that are asked: fixed seeds, made once into a directory.

Each model is fitted once. Solera gets it as an artifact (skops), the others as a joblib file. For models of
numbers only the joblib file has no feature names, so that the others may pass arrays without a warning from
scikit-learn at each call; the fitted parameters are the same.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_iris, make_classification
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, SplineTransformer, StandardScaler
from skops import io

from solera_core import artifact
from solera_core.schema import Feature, Schema, Target, decode_rows, frame

if TYPE_CHECKING:
    from collections.abc import Callable

JOBLIB = "model.joblib"
ROWS = "rows.json"
COLUMNS = "columns.json"
ASKED = 512
"""Rows to ask with: enough that no cache of answers could help."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A fitted model on disk. ``rows`` and ``labels`` are what is asked and what scikit-learn answers."""

    name: str
    directory: Path
    schema: Schema
    rows: list[Row]
    labels: list[str]

    @property
    def artifact(self) -> Path:
        return self.directory / "artifact"

    @property
    def joblib(self) -> Path:
        return self.directory / JOBLIB

    @property
    def framed(self) -> bool:
        """Whether it takes a data frame: columns of several types."""
        return any(feature.type == "String" for feature in self.schema.features)


@dataclass(frozen=True)
class _Source:
    estimator: Any
    features: tuple[Feature, ...]
    rows: list[Row]
    target: list[str]


def _numbers(bunch: Any, estimator: Any) -> _Source:
    names = [name.replace(" (cm)", "").replace(" ", "_") for name in bunch.feature_names]
    rows = [dict(zip(names, map(float, row), strict=True)) for row in bunch.data]
    features = tuple(Feature(name, "Float", nullable=False) for name in names)
    return _Source(estimator, features, rows, [str(bunch.target_names[index]) for index in bunch.target])


def _iris() -> _Source:
    return _numbers(load_iris(), make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)))


def _forest() -> _Source:
    return _numbers(load_breast_cancer(), RandomForestClassifier(n_estimators=100, random_state=7))


def _boosting() -> _Source:
    return _numbers(load_breast_cancer(), HistGradientBoostingClassifier(random_state=7))


def _neighbours() -> _Source:
    """For overload: compiled, and heavy for the size of its requests."""
    data, target = make_classification(80_000, 30, n_informative=12, random_state=7)
    names = [f"x{index}" for index in range(data.shape[1])]
    rows = [dict(zip(names, row, strict=True)) for row in data.round(3).tolist()]
    features = tuple(Feature(name, "Float", nullable=False) for name in names)
    labels = ["yes" if one else "no" for one in target]
    return _Source(KNeighborsClassifier(n_neighbors=15), features, rows, labels)


def _splines() -> _Source:
    """For overload: a model that is not compiled, so that scikit-learn predicts."""
    weighing = KNNImputer(weights="distance")
    splines = make_pipeline(weighing, SplineTransformer(n_knots=5), LogisticRegression(max_iter=2000))
    return _numbers(load_breast_cancer(), splines)


def _two_classes(rows: int, estimator: Any) -> _Source:
    data, target = make_classification(rows, 8, n_informative=6, n_redundant=0, flip_y=0.1, random_state=7)
    names = [f"x{index}" for index in range(data.shape[1])]
    asked = [dict(zip(names, row, strict=True)) for row in data.tolist()]
    features = tuple(Feature(name, "Float", nullable=False) for name in names)
    return _Source(estimator, features, asked, ["yes" if one else "no" for one in target])


def _large_forest() -> _Source:
    """For the time of loading: trees as deep as the rows allow."""
    return _two_classes(20_000, RandomForestClassifier(n_estimators=1000, random_state=7, n_jobs=-1))


def _many_trees() -> _Source:
    """For the time of loading: many small trees."""
    return _two_classes(2000, GradientBoostingClassifier(n_estimators=2000, random_state=7))


def _mixed() -> _Source:
    rows, target = adults(4000)
    numbers, choices = ["age", "education_years", "hours_per_week", "capital_gain"], ["workclass", "marital"]
    choices += ["occupation", "sex", "country"]
    # A column of texts as the trainer makes it: missing ones are empty, and a vectoriser takes one dimension.
    filled = SimpleImputer(strategy="constant", fill_value="", keep_empty_features=True)
    prepare = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            ("choices", OneHotEncoder(handle_unknown="ignore"), choices),
            (
                "text",
                make_pipeline(filled, FunctionTransformer(np.ravel), TfidfVectorizer()),
                ["job_description"],
            ),
        ]
    )
    features = (
        *(Feature(name, "Float") for name in numbers),
        *(Feature(name, "String", nullable=False) for name in choices),
        Feature("job_description", "String", nullable=False),
    )
    return _Source(make_pipeline(prepare, LogisticRegression(max_iter=1000)), features, rows, target)


_WORKCLASSES = ("private", "self-employed", "federal", "state", "local", "without pay")
_MARITAL = ("married", "single", "divorced", "widowed", "separated")
_OCCUPATIONS = ("sales", "clerical", "craft", "executive", "transport", "farming", "support", "protection")
_COUNTRIES = ("United-States", "Mexico", "Philippines", "Germany", "Canada", "India", "Cuba", "England")
_WORDS = [
    "manages",
    "plans",
    "sells",
    "repairs",
    "builds",
    "drives",
    "teaches",
    "designs",
    "writes",
    "audits",
    "trains",
    "cooks",
    "guards",
    "ships",
    "stores",
    "orders",
    "tests",
    "measures",
    "paints",
    "cleans",
    "plants",
    "harvests",
    "codes",
    "sews",
    "cuts",
    "welds",
    "loads",
    "files",
    "reports",
    "accounts",
    "budgets",
    "contracts",
    "teams",
    "customers",
    "machines",
    "trucks",
    "crops",
    "records",
    "schedules",
    "data",
    "fields",
]


def adults(count: int) -> tuple[list[Row], list[str]]:
    """Return rows like those of the adult census set, generated, with a text; 5% of ages and gains missing."""
    random = np.random.default_rng(1994)
    rows, target = [], []
    for _ in range(count):
        words = random.choice(_WORDS, size=int(random.integers(4, 12)))
        row = {
            "age": float(random.integers(17, 90)),
            "education_years": float(random.integers(4, 17)),
            "hours_per_week": float(random.integers(10, 80)),
            "capital_gain": float(random.choice([0, 0, 0, 0, 2174, 5178, 7688, 15024])),
            "workclass": str(random.choice(_WORKCLASSES)),
            "marital": str(random.choice(_MARITAL)),
            "occupation": str(random.choice(_OCCUPATIONS)),
            "sex": str(random.choice(("Male", "Female"))),
            "country": str(random.choice(_COUNTRIES)),
            "job_description": " ".join(words.tolist()),
        }
        score = (
            0.03 * (row["age"] - 40)
            + 0.3 * (row["education_years"] - 10)
            + 0.03 * (row["hours_per_week"] - 40)
            + 0.0003 * row["capital_gain"]
            + (row["marital"] == "married")
            + (row["occupation"] == "executive")
            + ("designs" in words)
            - 1.5
        )
        target.append(">50K" if random.random() < 1 / (1 + np.exp(-score)) else "<=50K")
        for name in ("age", "capital_gain"):
            if random.random() < 0.05:
                row[name] = None
        rows.append(row)
    return rows, target


SOURCES: dict[str, Callable[[], _Source]] = {
    "iris": _iris,
    "forest": _forest,
    "boosting": _boosting,
    "mixed": _mixed,
    "neighbours": _neighbours,
    "splines": _splines,
    "large-forest": _large_forest,
    "many-trees": _many_trees,
}


def model(name: str, build: Path) -> Model:
    """Return a model, made under ``build`` unless it is there already, made by this same code."""
    directory = build.resolve() / "models" / name
    stamp = directory / "made-by"
    made_by = hashlib.sha256(Path(__file__).read_bytes() + sklearn.__version__.encode()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != made_by:
        shutil.rmtree(directory, ignore_errors=True)
        _make(SOURCES[name](), directory)
        stamp.write_text(made_by)
    asked = json.loads((directory / ROWS).read_text())
    schema = Schema.from_json(json.loads((directory / "artifact" / artifact.SCHEMA).read_text()))
    return Model(name, directory, schema, asked["rows"], asked["labels"])


def _make(source: _Source, directory: Path) -> None:
    classes = tuple(sorted(set(source.target)))
    schema = Schema("Classification", Target("label", "String", classes), source.features)
    fitted = source.estimator.fit(_table(schema, source.rows), np.array(source.target, dtype=object))
    _write_artifact(directory / "artifact", schema, fitted, source.rows[:: len(source.rows) // 60])
    asked = _asked(source.rows)
    table = _table(schema, asked)
    bare = copy.deepcopy(fitted)
    if not any(feature.type == "String" for feature in schema.features):
        for step in [bare, *dict(getattr(bare, "steps", ())).values()]:
            vars(step).pop("feature_names_in_", None)
    joblib.dump(bare, directory / JOBLIB)
    kinds = {feature.name: feature.type for feature in schema.features}
    (directory / COLUMNS).write_text(json.dumps(kinds), encoding="utf-8")
    labels = fitted.predict(table).tolist()
    (directory / ROWS).write_text(json.dumps({"rows": asked, "labels": labels}), encoding="utf-8")


def _asked(rows: list[Row]) -> list[Row]:
    """Return rows near those of training, all different."""
    random = np.random.default_rng(11)
    asked = []
    for index in range(ASKED):
        row = dict(rows[int(random.integers(len(rows)))])
        name = next(name for name, value in row.items() if isinstance(value, float))
        row[name] = round(row[name] + index / 1000, 3)
        asked.append(row)
    return asked


def _table(schema: Schema, rows: list[Row]) -> Any:
    return frame(decode_rows(schema, rows))


def _write_artifact(directory: Path, schema: Schema, fitted: Any, examples: list[Row]) -> None:
    directory.mkdir(parents=True)
    io.dump(fitted, directory / artifact.MODEL)
    table = _table(schema, examples)
    outputs = {
        "predict": fitted.predict(table).tolist(),
        "predict_proba": fitted.predict_proba(table).tolist(),
    }
    versions = {"runtime": {"versions": {"scikit-learn": sklearn.__version__}}}
    for name, value in (
        (artifact.SCHEMA, schema.to_json()),
        (artifact.EXAMPLES, {"inputs": examples, "outputs": outputs}),
        (artifact.METRICS, {}),
        (artifact.PROVENANCE, versions),
    ):
        (directory / name).write_text(json.dumps(value), encoding="utf-8")
    artifact.write_manifest(directory)
