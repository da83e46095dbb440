"""Everything that a spec can choose: compiled, and the same as scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from compiled_models import behind_columns, labels, numbers, objects, pair
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler

from solera_core.catalogue import Component, load
from solera_trainer.pipelines import component_of
from solera_trainer.trusted_gen import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CATALOGUE = load()
ROWS = 60
FEW = {"n_estimators": 4, "max_iter": 15}


def cases(among: Mapping[str, Component]) -> list[Any]:
    return [
        pytest.param(component, task, variant, id=f"{component.dotted}-{task}-{variant}")
        for component in among.values()
        for task in sorted(component.tasks)
        for variant in [{}, *VARIANTS.get(component.dotted, [])]
        if task == "Regression" or "Gradient" not in component.dotted or variant.get("loss") != "exponential"
    ]


def built(component: Component, variant: Mapping[str, Any]) -> Any:
    few = {name: value for name, value in FEW.items() if name in component.params}
    return component_of(CATALOGUE, component.dotted, {**few, **variant}, 0)


@pytest.mark.parametrize(("component", "task", "variant"), cases(CATALOGUE.estimators))
def test_estimators(component: Component, task: str, variant: dict[str, Any], tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    table = numbers(generator, ROWS, 4, missing=0.05)
    target = labels(generator, table, 3) if task == "Classification" else generator.gamma(2.0, size=ROWS)
    steps = [("fill", SimpleImputer(keep_empty_features=True)), ("scale", MinMaxScaler())]
    compiled(behind_columns(steps, table.columns, built(component, variant)), table, target, tmp_path)


@pytest.mark.parametrize(
    ("component", "variant"),
    [
        pytest.param(component, variant, id=f"{component.dotted}-{variant}")
        for component in CATALOGUE.transformers.values()
        for variant in [{}, *VARIANTS.get(component.dotted, [])]
    ],
)
def test_transformers(component: Component, variant: dict[str, Any], tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    table = numbers(generator, ROWS, 3, missing=0.0 if component.text else 0.05)
    target = labels(generator, table, 2)
    steps: list[tuple[str, Any]] = [("fill", SimpleImputer(keep_empty_features=True))]
    if component.text:
        table = pd.DataFrame({"text": objects([f"red {row % 3} blue" for row in range(ROWS)])})
        fill = SimpleImputer(strategy="constant", fill_value="", keep_empty_features=True)
        steps = [("fill", fill), ("flat", FunctionTransformer(np.ravel))]
    elif component.dotted.endswith("MissingIndicator"):
        steps = []
    model = behind_columns([*steps, ("step", built(component, variant))], table.columns, LogisticRegression())
    compiled(model, table, target, tmp_path)


def compiled(model: Any, table: pd.DataFrame, target: Any, directory: Path) -> None:
    pair(model, table, target, directory).agrees(table.iloc[:6], scale=1000)
