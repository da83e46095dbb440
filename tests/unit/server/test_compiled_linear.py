"""Linear models: as scikit-learn within 1e-14, and the same bits in any batch."""

from __future__ import annotations

import importlib.util
import itertools
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from compiled_models import behind_columns, labels, numbers, objects, odd_numbers, pair, strings
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC, LinearSVR

from solera_server.compiled import kernels, kernels_numpy
from solera_server.compiled.blocks import Split
from solera_server.compiled.linear import LinearClassifier
from solera_server.compiled.links import (
    indicator_sums,
    log_softmax_exponentials,
    normalised_logistic,
    softmax,
)
from solera_server.compiled.pipeline import SPARSE_FROM

if TYPE_CHECKING:
    from pathlib import Path

STEPS = [("fill", SimpleImputer(keep_empty_features=True)), ("scale", StandardScaler())]
CLASSIFIERS = [
    LogisticRegression(),
    LogisticRegression(fit_intercept=False),
    RidgeClassifier(),
    SGDClassifier(random_state=1),
    SGDClassifier(loss="log_loss", random_state=1),
    SGDClassifier(loss="modified_huber", random_state=1),
    LinearSVC(random_state=1),
    LinearDiscriminantAnalysis(),
    LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
]
REGRESSORS = [
    BayesianRidge(),
    ElasticNet(alpha=0.01),
    GammaRegressor(),
    HuberRegressor(max_iter=1000),
    Lasso(alpha=0.01),
    LinearRegression(),
    LinearRegression(fit_intercept=False),
    LinearSVR(random_state=1),
    PoissonRegressor(),
    QuantileRegressor(),
    Ridge(),
    SGDRegressor(random_state=1),
    TweedieRegressor(power=0),
    TweedieRegressor(power=1.5),
]


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=str)
@pytest.mark.parametrize("classes", [2, 4])
def test_classifiers(estimator: Any, classes: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(classes)
    table = numbers(generator, 150, 6, missing=0.05)
    both = pair(
        behind_columns(STEPS, table.columns, estimator), table, labels(generator, table, classes), tmp_path
    )
    both.agrees(table.iloc[:16])
    both.agrees(odd_numbers(generator, table, 6))


@pytest.mark.parametrize("estimator", REGRESSORS, ids=str)
def test_regressors(estimator: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    table = numbers(generator, 150, 6, missing=0.05)
    target = np.exp(generator.normal(size=150) / 4 + table["n0"].fillna(0).to_numpy() / table["n0"].std() / 8)
    both = pair(behind_columns(STEPS, table.columns, estimator), table, target, tmp_path)
    both.agrees(table.iloc[:16], scale=10)
    both.agrees(odd_numbers(generator, table, 6), scale=10)


PROBABILITIES = [softmax, normalised_logistic, indicator_sums, log_softmax_exponentials, None]


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_batch_never_changes_a_bit(data: st.DataObject) -> None:
    """Whichever rows stand together and whichever kernels sum: each row's scores and answers are the same."""
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows, columns = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 70))
    classes = data.draw(st.sampled_from([2, 3, 5, 9]))
    outputs = 1 if classes == 2 else classes
    table = generator.normal(size=(rows, columns)) * 10.0 ** generator.integers(-6, 6, columns)
    table[generator.random((rows, columns)) < 0.2] = data.draw(st.sampled_from([0.0, -0.0, 1.0]))
    weights = generator.normal(size=(columns, outputs))
    probabilities = data.draw(st.sampled_from(PROBABILITIES))
    if outputs == 1 and probabilities in (softmax, log_softmax_exponentials):
        probabilities = normalised_logistic
    model = LinearClassifier(weights, generator.normal(size=outputs), np.arange(classes), probabilities)

    def answers(part: Any) -> list[tuple[bytes, ...]]:
        scores = model.scores(part)
        found = [scores, model.predict(scores)]
        if probabilities is not None:
            found.append(model.predict_proba(scores))
        return [tuple(values[row].tobytes() for values in found) for row in range(len(part))]

    together = answers(table)
    cuts = sorted({0, rows, *data.draw(st.lists(st.integers(0, rows), max_size=5))})
    pieces = [answers(table[start:end]) for start, end in itertools.pairwise(cuts)]
    assert list(itertools.chain(*pieces)) == together
    assert list(itertools.chain(*(answers(table[row : row + 1]) for row in range(rows)))) == together
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "linear", kernels_numpy.linear)
        assert answers(table) == together
        assert list(itertools.chain(*(answers(table[row : row + 1]) for row in range(rows)))) == together


def test_the_extension_is_tested_where_it_is_built() -> None:
    """The tests above compare two kernels only where there are two."""
    found = importlib.util.find_spec("solera_native") is not None
    assert (found and os.environ.get(kernels.CHOICE) != "numpy") == kernels.NATIVE


def test_wide_models_are_summed_sparsely(tmp_path: Path) -> None:
    """One-hot columns of a wide model are not made dense, and the answers are the same as ever."""
    generator = np.random.default_rng(2)
    table = numbers(generator, 900, 2, missing=0.05)
    names = [f"category {number}" for number in range(400)]
    table["a"] = strings(generator, 900, names, missing=0.05)
    table["b"] = strings(generator, 900, names)
    branches = [
        ("numbers", Pipeline(STEPS), ["n0", "n1"]),
        ("names", OneHotEncoder(handle_unknown="ignore"), ["a", "b"]),
    ]
    model = Pipeline([("preprocess", ColumnTransformer(branches)), ("model", LogisticRegression())])
    for classes in (2, 3):
        both = pair(model, table, labels(generator, table, classes), tmp_path)
        assert both.compiled.prepare.width > SPARSE_FROM
        batch = both.batch(table.iloc[:3])
        assert isinstance(both.compiled.prepare(batch, False), Split)
        both.agrees(table.iloc[:30])
        odd = table.iloc[:4].copy()
        odd["a"] = objects(["never seen", np.nan, "", names[0]])
        odd["b"] = objects(["never seen", names[1], names[2], ""])
        both.agrees(odd)
