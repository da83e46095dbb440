"""Of several odd values in a request the one is named that the compiled model refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from compiled_models import Pair, objects, pair
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from solera_server.batch import InputError
from solera_server.compiled import refused_value as module

NAN, INF = np.nan, np.inf
MISSING = "the model does not take a missing value here"
EXTREME = "the model does not take a value that is infinite or larger than 3.4e+38"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Imputes a and c, and knows no missing city; scaled numbers may be large, and never infinite."""
    generator = np.random.default_rng(1)
    table = pd.DataFrame(generator.normal(size=(60, 3)), columns=["a", "b", "c"])
    table["city"] = objects(generator.choice(np.array(["Porto", "Faro"], dtype=object), 60))
    table["d"] = generator.normal(size=60)
    columns = ColumnTransformer(
        [
            ("imputed", make_pipeline(SimpleImputer(), StandardScaler()), ["a", "c"]),
            ("scaled", StandardScaler(), ["b", "d"]),
            ("city", OneHotEncoder(), ["city"]),
        ]
    )
    target = generator.choice(np.array(["no", "yes"]), 60)
    return pair(make_pipeline(columns, LogisticRegression()), table, target, tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def a_machine_that_is_never_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that is given up for want of time says nothing about what it would find."""
    monkeypatch.setattr(module, "_SEARCH_SECONDS", 60.0)


def refusal(model: Pair, *rows: list[Any]) -> str:
    table = pd.DataFrame(rows, columns=["a", "b", "c", "city", "d"])
    table["city"] = objects(table["city"].tolist())
    for name in "abcd":
        table[name] = table[name].astype(np.float64)
    with pytest.raises(InputError) as caught:
        model.compiled.predict(model.batch(table), ("predict",))
    return caught.value.message


@pytest.mark.parametrize(
    ("rows", "place", "why"),
    [
        ([[1, 1, NAN, "Faro", INF]], (0, 4), EXTREME),
        ([[NAN, 1, 1, "Faro", 1], [1, 1, 1, "Faro", -INF]], (1, 4), EXTREME),
        ([[NAN, NAN, NAN, "Faro", 1]], (0, 1), MISSING),
        ([[NAN, 1, 1, "Faro", 1], [NAN, 1, 1, "Faro", NAN]], (1, 4), MISSING),
        ([[1e39, NAN, 1, "Faro", 1]], (0, 1), MISSING),
        ([[1e39, 1, 1, "Faro", 1e40], [1e41, 1, INF, "Faro", 1]], (1, 2), EXTREME),
        ([[1e39, 1, 1, "Faro", 1], [INF, 1, 1, "Faro", 1]], (1, 0), EXTREME),
        ([[NAN, 1, NAN, "Faro", 1], [NAN, 1, 1, NAN, 1]], (1, 3), None),
        ([[NAN, INF, 1, NAN, NAN]], (0, 1), EXTREME),
    ],
)
def test_the_value_that_is_refused_is_named(
    model: Pair, rows: list[Any], place: tuple[int, int], why: str | None
) -> None:
    expected = f"row {place[0]}, column {place[1]}: {why or ''}"
    assert refusal(model, *rows).startswith(expected)


def test_the_search_ends(model: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then what models refuse more often than other values is named."""
    monkeypatch.setattr(module, "_SEARCH_SECONDS", -1.0)
    found = refusal(model, [NAN, 1, 1e39, "Faro", 1], [1, NAN, 1, "Faro", 1])
    assert found == f"row 0, column 2: {EXTREME}"


def test_a_single_odd_value_is_not_looked_for(model: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.compiled, "_refuses", lambda _columns: 1 / 0)
    assert refusal(model, [1, 1, 1, "Faro", INF]) == f"row 0, column 4: {EXTREME}"
