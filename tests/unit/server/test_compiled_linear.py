"""Linear models: as scikit-learn within 1e-14, and the same bits in any batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from compiled_models import behind_columns, labels, numbers, odd_numbers, pair
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
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC, LinearSVR

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
    both.agrees(odd_numbers(generator, table, 10))


@pytest.mark.parametrize("estimator", REGRESSORS, ids=str)
def test_regressors(estimator: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    table = numbers(generator, 150, 6, missing=0.05)
    target = np.exp(generator.normal(size=150) / 4 + table["n0"].fillna(0).to_numpy() / table["n0"].std() / 8)
    both = pair(behind_columns(STEPS, table.columns, estimator), table, target, tmp_path)
    both.agrees(table.iloc[:16], scale=10)
    both.agrees(odd_numbers(generator, table, 10), scale=10)
