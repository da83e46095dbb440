"""Find the types that models of the catalogue consist of, beside those that skops trusts by itself.

`python -m solera_trainer.trusted_gen` fits every estimator and transformer of the catalogue on small data and
prints the types, for a person to review before they go into `core/solera_core/catalogue/trusted_types.json`.
It writes nothing: a list that grows by itself would trust whatever came along.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from solera_core.catalogue import Catalogue, Component, load
from solera_trainer.pipelines import component_of

# Settings under which a component consists of other types than by default.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "sklearn.linear_model.SGDClassifier": [
        {"loss": name}
        for name in (
            "hinge",
            "log_loss",
            "modified_huber",
            "squared_hinge",
            "perceptron",
            "squared_error",
            "huber",
            "epsilon_insensitive",
            "squared_epsilon_insensitive",
        )
    ],
    "sklearn.linear_model.SGDRegressor": [
        {"loss": name} for name in ("huber", "epsilon_insensitive", "squared_epsilon_insensitive")
    ],
    "sklearn.linear_model.TweedieRegressor": [{"power": 0}, {"power": "1.5"}],
    "sklearn.ensemble.GradientBoostingClassifier": [{"loss": "exponential"}, {"init": "zero"}],
    "sklearn.ensemble.GradientBoostingRegressor": [
        {"loss": name} for name in ("absolute_error", "huber", "quantile")
    ],
    "sklearn.ensemble.HistGradientBoostingRegressor": [
        {"loss": "absolute_error"},
        {"loss": "gamma"},
        {"loss": "poisson"},
        {"loss": "quantile", "quantile": "0.5"},
    ],
    "sklearn.neighbors.KNeighborsClassifier": [
        {"algorithm": algorithm, "metric": metric}
        for algorithm in ("ball_tree", "kd_tree", "brute")
        for metric in ("minkowski", "manhattan", "chebyshev")
    ],
    "sklearn.neural_network.MLPClassifier": [
        {"solver": "sgd"},
        {"solver": "lbfgs"},
        {"early_stopping": True},
    ],
    "sklearn.neural_network.MLPRegressor": [{"solver": "sgd"}, {"solver": "lbfgs"}],
    "sklearn.kernel_ridge.KernelRidge": [{"kernel": "rbf"}],
    "sklearn.svm.SVC": [{"kernel": "linear"}, {"kernel": "poly"}],
    "sklearn.preprocessing.OneHotEncoder": [{"handle_unknown": "ignore", "min_frequency": 2}],
    "sklearn.preprocessing.KBinsDiscretizer": [{"encode": "ordinal"}],
    "sklearn.feature_extraction.text.TfidfVectorizer": [{"stop_words": "english"}, {"analyzer": "char"}],
}


def fitted(catalogue: Catalogue, task: str, component: Component) -> Iterator[Any]:
    """Return the component fitted with its defaults, and in each of its variants."""
    random = np.random.default_rng(0)
    numbers = random.gamma(2.0, size=(60, 4))
    words = [f"red {index % 3} blue" for index in range(60)]
    target = (
        np.array(["a", "b", "c"])[np.arange(60) % 3] if task == "Classification" else numbers @ np.ones(4)
    )
    for variant in [{}, *VARIANTS.get(component.dotted, [])]:
        # A few trees and rounds consist of the same types as many.
        few = {name: 5 for name in ("n_estimators", "max_iter") if name in component.params}
        params = {**few, **variant}
        built = component_of(catalogue, component.dotted, params, 0)
        rows: Any = words if component.text else numbers
        if component.dotted.endswith("GradientBoostingClassifier") and params.get("loss") == "exponential":
            yield built.fit(rows, np.where(target == "a", "a", "b"))
        else:
            yield built.fit(rows, target)


def all_fitted(catalogue: Catalogue) -> Iterator[tuple[str, Any]]:
    """Return every component of the catalogue, fitted, with its dotted name."""
    for among in (catalogue.estimators, catalogue.transformers):
        for component in among.values():
            for task in sorted(component.tasks):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    for model in fitted(catalogue, task, component):
                        yield component.dotted, model


def needed_types(fitted_models: Iterable[Any]) -> list[str]:
    """Return the types of the models that skops would not load by itself, sorted."""
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    found: set[str] = set()
    for model in [FunctionTransformer(np.ravel), *fitted_models]:
        found.update(skops.io.get_untrusted_types(data=skops.io.dumps(model)))
    return sorted(found)


if __name__ == "__main__":
    sys.stdout.write(
        json.dumps({"types": needed_types(model for _, model in all_fitted(load()))}, indent=1) + "\n"
    )
