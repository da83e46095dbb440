"""Estimators that are neither linear nor trees, behind the usual preprocessing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from compiled_models import Pair, behind_columns, labels, numbers, odd_numbers, pair
from sklearn.cluster import KMeans
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.kernel_ridge import KernelRidge
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, SVR, NuSVC, NuSVR

from solera_server.compiled.refusals import NotCompilable

if TYPE_CHECKING:
    from pathlib import Path

FILL = ("fill", SimpleImputer(keep_empty_features=True))
CLASSIFIERS = [
    BernoulliNB(binarize=0.4),
    ComplementNB(),
    ComplementNB(norm=True),
    GaussianNB(),
    MultinomialNB(),
    QuadraticDiscriminantAnalysis(reg_param=0.1),
    DummyClassifier(),
    DummyClassifier(strategy="most_frequent"),
    DummyClassifier(strategy="constant", constant="left"),
    MLPClassifier((6, 4), max_iter=30, random_state=1),
    MLPClassifier(5, activation="tanh", max_iter=30, random_state=1),
    SVC(),
    SVC(kernel="linear"),
    SVC(kernel="poly", degree=2, coef0=1),
    NuSVC(nu=0.1, kernel="sigmoid", gamma=0.2),
    KNeighborsClassifier(),
    KNeighborsClassifier(7, weights="distance"),
    KNeighborsClassifier(4, p=1, algorithm="ball_tree", leaf_size=5),
    KNeighborsClassifier(3, algorithm="brute"),
]
REGRESSORS = [
    DummyRegressor(),
    DummyRegressor(strategy="quantile", quantile=0.3),
    MLPRegressor(hidden_layer_sizes=5, activation="logistic", max_iter=30, random_state=1),
    MLPRegressor(hidden_layer_sizes=5, activation="identity", max_iter=30, random_state=1),
    SVR(),
    NuSVR(kernel="poly"),
    KernelRidge(kernel="rbf", gamma=0.3),
    KernelRidge(),
    KNeighborsRegressor(),
    KNeighborsRegressor(6, weights="distance", algorithm="kd_tree"),
    KMeans(4, random_state=1, n_init=1),
]


def coarse(generator: np.random.Generator, rows: int) -> Any:
    """Return numbers with so few values that many distances are equal."""
    table = numbers(generator, rows, 4, missing=0.05)
    for name in table.columns:
        step = float(table[name].std())
        table[name] = (table[name] / step).round(0)
    return table


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=str)
@pytest.mark.parametrize("classes", [2, 4])
def test_classifiers(estimator: Any, classes: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(classes)
    table = numbers(generator, 120, 5, missing=0.05)
    steps = [FILL, ("scale", MinMaxScaler(clip=True))]
    both = pair(
        behind_columns(steps, table.columns, estimator), table, labels(generator, table, classes), tmp_path
    )
    both.agrees(table.iloc[:16])
    both.agrees(odd_numbers(generator, table, 10))


@pytest.mark.parametrize("estimator", REGRESSORS, ids=str)
def test_regressors(estimator: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    table = numbers(generator, 120, 5, missing=0.05)
    target = generator.normal(size=120)
    both = pair(
        behind_columns([FILL, ("scale", StandardScaler())], table.columns, estimator), table, target, tmp_path
    )
    both.agrees(table.iloc[:16], scale=100)
    both.agrees(odd_numbers(generator, table, 10), scale=100)


@pytest.mark.parametrize("algorithm", ["kd_tree", "ball_tree"])
@pytest.mark.parametrize("p", [1, 2, np.inf])
@pytest.mark.parametrize("count", [1, 4])
def test_neighbours_at_equal_distances(algorithm: str, p: float, count: int, tmp_path: Path) -> None:
    """Which of the equally distant ones count is as the tree comes by them; labels are bit-equal even so."""
    generator = np.random.default_rng(count)
    table = coarse(generator, 60)
    estimator = KNeighborsClassifier(count, p=p, algorithm=algorithm, leaf_size=3)
    both = pair(
        behind_columns([FILL], table.columns, estimator), table, labels(generator, table, 4), tmp_path
    )
    assert both.compiled.exact
    ties = count_ties(both, table)
    assert ties > 5, "the test wants ties"
    both.agrees(table)


@pytest.mark.parametrize("count", [1, 15, 1500])
def test_neighbours_among_many(count: int, tmp_path: Path) -> None:
    """Most are put aside by a sample; sorted points are the worst case for it."""
    generator = np.random.default_rng(count)
    table = coarse(generator, 9000)
    table["n4"] = np.arange(9000.0) // 3
    estimator = KNeighborsClassifier(count, algorithm="kd_tree")
    both = pair(
        behind_columns([FILL], table.columns, estimator), table, labels(generator, table, 3), tmp_path
    )
    assert both.compiled.exact
    both.agrees(table.iloc[::900])


def count_ties(both: Pair, table: Any) -> int:
    """Count the rows where a neighbour that counts is as far as one that does not."""
    points = both.model[:-1].transform(table)
    found = both.model[-1]
    distances, _ = found.kneighbors(points, found.n_neighbors + 1)
    return int((distances[:, -1] == distances[:, -2]).sum())


def test_what_depends_on_earlier_answers_is_not_compiled(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    table = numbers(generator, 30, 2)
    model = behind_columns([FILL], table.columns, DummyClassifier(strategy="stratified", random_state=1))
    with pytest.raises(NotCompilable, match="DummyClassifier: strategy is 'stratified'"):
        pair(model, table, labels(generator, table, 2), tmp_path)
