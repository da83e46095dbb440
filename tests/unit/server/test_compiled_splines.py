"""Splines and imputation by neighbours, each before a model that shows every bit of what it gets, or nearly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from compiled_models import behind_columns, numbers, odd_numbers, pair
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyRegressor
from sklearn.impute import KNNImputer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import SplineTransformer

from solera_server.compiled.refusals import NotCompilable

if TYPE_CHECKING:
    from pathlib import Path


SPLINES = [
    (extrapolation, degree, knots, sparse)
    for extrapolation in ("constant", "linear", "continue", "periodic", "error")
    for degree in (0, 1, 2, 3, 5)
    for knots in ("uniform", "quantile")
    for sparse in (False, True)
    # scikit-learn itself fails.
    if not (extrapolation == "periodic" and sparse and not degree)
]


def beyond(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows, then others at the edges of training and beyond them, in all columns or in one."""
    low, high = table.min(), table.max()
    outside = [low, high, low - 0.3 * (high - low), high + 2.0 * (high - low), low - 40.0, high + 3000.0]
    edges = pd.concat([row.to_frame().T for row in outside], ignore_index=True)
    middle = pd.DataFrame(np.tile(table.median().to_numpy(), (len(edges), 1)), columns=table.columns)
    middle["n0"] = edges["n0"]
    return pd.concat([table, edges, middle], ignore_index=True)


def same_columns(both: Any, table: pd.DataFrame, tolerance: float) -> None:
    expected = np.asarray(both.model[:-1].transform(table), dtype=np.float64)
    found = both.compiled.matrix(both.batch(table))
    assert both.compiled.prepare.width == expected.shape[1] == len(both.compiled.prepare.origins)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("extrapolation", "degree", "knots", "sparse"), SPLINES)
def test_splines(extrapolation: str, degree: int, knots: str, sparse: bool, tmp_path: Path) -> None:
    generator = np.random.default_rng(degree)
    table = numbers(generator, 80, 4)
    step = SplineTransformer(
        8 if extrapolation == "periodic" else 5,
        degree=degree,
        knots=knots,
        extrapolation=extrapolation,
        include_bias=degree % 2 == 1,
        sparse_output=sparse,
    )
    model = behind_columns([("splines", step)], table.columns, Ridge())
    both = pair(model, table, generator.normal(size=80), tmp_path)
    rows = beyond(table)
    both.agrees(rows.iloc[70:], scale=100)
    both.agrees(odd_numbers(generator, table, 10), scale=1000)
    inside = extrapolation == "error" or (extrapolation == "constant" and degree == 0)
    same_columns(both, table if inside else rows, 1e-14)


@pytest.mark.parametrize("extrapolation", ["constant", "continue", "periodic", "error"])
def test_splines_of_what_is_missing_or_always_the_same(extrapolation: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    table = numbers(generator, 60, 3, missing=0.2)
    table["n3"] = 7.0
    table["n4"] = np.round(generator.normal(size=60) * 0.7)
    step = SplineTransformer(6, knots="quantile", extrapolation=extrapolation, handle_missing="zeros")
    model = behind_columns([("splines", step)], table.columns, Ridge())
    both = pair(model, table, generator.normal(size=60), tmp_path)
    both.agrees(table, scale=10)
    both.agrees(odd_numbers(generator, table, 12), scale=1000)
    same_columns(both, table, 1e-14)


def test_slopes_where_knots_coincide_are_left_to_scikit_learn(tmp_path: Path) -> None:
    table = numbers(np.random.default_rng(1), 30, 2)
    table["n1"] = 7.0
    model = behind_columns([("splines", SplineTransformer(extrapolation="linear"))], table.columns, Ridge())
    with pytest.raises(NotCompilable, match="its knots coincide"):
        pair(model, table, np.arange(30.0), tmp_path)


def with_gaps(seed: int, rows: int, columns: int) -> pd.DataFrame:
    """Return numbers of one size, so that no distance is lost in rounding, some missing."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(rows, columns))
    values[generator.random((rows, columns)) < 0.25] = np.nan
    values[0] = 1.0
    return pd.DataFrame({f"n{column}": values[:, column] for column in range(columns)})


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    sizes=st.tuples(st.integers(1, 12), st.integers(1, 6)),
    marks=st.booleans(),
    empty=st.sampled_from([None, "kept", "dropped"]),
)
def test_nearest_donors(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    sizes: tuple[int, int],
    marks: bool,
    empty: str | None,
) -> None:
    count, columns = sizes
    table = with_gaps(seed, 40, columns)
    if empty:
        table["n9"] = np.nan
    step = KNNImputer(n_neighbors=count, add_indicator=marks, keep_empty_features=empty == "kept")
    model = behind_columns([("fill", step)], table.columns, DummyRegressor())
    both = pair(model, table, np.arange(40.0), tmp_path_factory.mktemp("model"))
    strange = with_gaps(seed + 1, 12, columns)
    if empty:
        strange["n9"] = [np.nan, 3.0] * 6
    strange.iloc[3, :] = np.nan
    for rows in (table, strange, strange.iloc[3:4]):
        same_columns(both, rows, 1e-13)
    both.same_bits_in_any_batch(strange)


def test_nearest_donors_of_odd_numbers(tmp_path: Path) -> None:
    """Numbers whose squares are infinite are far from everything; infinities are refused."""
    table = with_gaps(3, 60, 4)
    both = pair(
        behind_columns([("fill", KNNImputer())], table.columns, Ridge()), table, np.arange(60.0), tmp_path
    )
    rows = with_gaps(4, 8, 4)
    rows.iloc[:, 0] = [1e250, -1e250, np.inf, -np.inf, 5e-324, 0.0, -0.0, 1e200]
    both.agrees(rows, scale=10)


def test_weights_by_inexact_distances_are_left_to_scikit_learn(tmp_path: Path) -> None:
    table = with_gaps(5, 20, 2)
    model = behind_columns([("fill", KNNImputer(weights="distance"))], table.columns, Ridge())
    with pytest.raises(NotCompilable, match="it weighs inexact distances"):
        pair(model, table, np.arange(20.0), tmp_path)
