"""What a runtime can train: estimators, transformers, metrics and the values that each parameter takes.

The operator checks specs with this and has no scikit-learn; the trainer turns parameters into Python values
with it. The data is generated from scikit-learn by `python -m solera_trainer.catalogue_gen`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from solera_core.catalogue.values import Alternative, BadValue, coerce
from solera_core.nearest import did_you_mean, listed

DEFAULT_RUNTIME = "sklearn-1.9"


@dataclass(frozen=True)
class Problem:
    """Something wrong in a spec: the field's path, and what to write instead."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True)
class Component:
    """An estimator or a transformer."""

    dotted: str
    tasks: frozenset[str]
    params: Mapping[str, tuple[Alternative, ...]]
    managed: Mapping[str, str]
    defaults: Mapping[str, Any]
    proba: bool
    text: bool
    random: bool

    @property
    def short(self) -> str:
        """The class name alone."""
        return self.dotted.rpartition(".")[2]


@dataclass(frozen=True)
class Metric:
    """A metric: what it is called, for which task, which direction is better and what it needs."""

    name: str
    task: str
    greater_is_better: bool
    needs: str
    interval: str
    description: str


class Catalogue:
    """What one runtime offers."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.runtime: str = data["runtime"]
        self.sklearn_version: str = data["sklearnVersion"]
        self.estimators = {name: _component(name, item) for name, item in data["estimators"].items()}
        self.transformers = {name: _component(name, item) for name, item in data["transformers"].items()}
        self.metrics = {name: _metric(name, item) for name, item in data["metrics"].items()}

    def component(self, dotted: str) -> Component | None:
        """Return the estimator or transformer of this dotted name."""
        return self.estimators.get(dotted) or self.transformers.get(dotted)

    def check_estimator(self, task: str, dotted: str, path: str = "estimator") -> list[Problem]:
        """Check that the estimator exists and is for the task."""
        return self._check_component(self.estimators, "estimator", task, dotted, path)

    def check_transformer(self, task: str, dotted: str, path: str = "transformer") -> list[Problem]:
        """Check that the transformer exists and is for the task."""
        return self._check_component(self.transformers, "transformer", task, dotted, path)

    def check_metric(self, task: str, name: str, path: str = "metric") -> list[Problem]:
        """Check that the metric exists and is for the task."""
        known = [metric.name for metric in self.metrics.values() if metric.task == task]
        if name in known:
            return []
        if name in self.metrics:
            message = f'"{name}" is a metric for {self.metrics[name].task}, and the task is {task}.'
        else:
            message = f'there is no metric "{name}".{did_you_mean(name, known)}'
        return [Problem(path, f"{message} For {task} there are {listed(known)}.")]

    def check_params(self, dotted: str, params: Mapping[str, Any], path: str = "params") -> list[Problem]:
        """Check names and values of the parameters of a known estimator or transformer."""
        component = self.component(dotted)
        if component is None:
            return []
        problems = []
        for name, value in params.items():
            problem = self._check_param(component, name, value)
            if problem is not None:
                problems.append(Problem(f"{path}.{name}", problem))
        return problems

    def check_space(self, dotted: str, space: Mapping[str, Any], path: str = "space") -> list[Problem]:
        """Check a search space: for each parameter a list of values, each of them valid."""
        component = self.component(dotted)
        if component is None:
            return []
        problems = []
        for name, values in space.items():
            if not isinstance(values, list | tuple) or not values:
                problems.append(Problem(f"{path}.{name}", "a search space lists values, as in [4, 8]."))
                continue
            for index, value in enumerate(values):
                problem = self._check_param(component, name, value)
                if problem is not None:
                    problems.append(Problem(f"{path}.{name}[{index}]", problem))
        return problems

    def coerce_params(self, dotted: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters as the Python values that the constructor gets.

        Raises KeyError for an unknown component, BadValue for an unknown parameter or a wrong value.
        """
        component = self.component(dotted)
        if component is None:
            raise KeyError(dotted)
        result = {}
        for name, value in params.items():
            problem = self._check_param(component, name, value)
            if problem is not None:
                raise BadValue(f"{name}: {problem}")
            result[name] = coerce(component.params[name], value)
        return result

    def _check_component(
        self, among: Mapping[str, Component], noun: str, task: str, dotted: str, path: str
    ) -> list[Problem]:
        component = among.get(dotted)
        if component is not None:
            if task in component.tasks:
                return []
            article = "an" if noun == "estimator" else "a"
            message = f"{dotted} is not {article} {noun} for {task}."
            twin = _twin(dotted, task, among)
            return [Problem(path, message + (f' Did you mean "{twin}"?' if twin else ""))]
        fitting = [item for item in among.values() if task in item.tasks]
        short = {item.short: item.dotted for item in fitting}
        match = short.get(dotted.rpartition(".")[2])
        hint = f' Did you mean "{match}"?' if match else did_you_mean(dotted, [i.dotted for i in fitting])
        if not hint:
            hint = f" For {task} there are {listed(sorted(short), limit=40)}."
        message = f'there is no {noun} "{dotted}" in runtime {self.runtime}.{hint}'
        return [Problem(path, message)]

    def _check_param(self, component: Component, name: str, value: Any) -> str | None:
        if name in component.managed:
            return f"{component.short}'s {name} is not set here: {component.managed[name]}."
        alternatives = component.params.get(name)
        if alternatives is None:
            hint = did_you_mean(name, component.params)
            known = listed(sorted(component.params), limit=40)
            return f'{component.short} has no parameter "{name}".{hint} It has {known}.'
        try:
            coerce(alternatives, value)
        except BadValue as error:
            return f"{component.short}'s {name} {error}"
        return None


def _twin(dotted: str, task: str, among: Mapping[str, Component]) -> str | None:
    """Return the sibling for the other task, as RandomForestRegressor is to RandomForestClassifier."""
    ends = ("Classifier", "Regressor") if task == "Regression" else ("Regressor", "Classifier")
    swaps = (ends, ("SVC", "SVR") if task == "Regression" else ("SVR", "SVC"))
    for old, new in swaps:
        twin = dotted.removesuffix(old) + new
        if dotted.endswith(old) and twin in among:
            return twin
    return None


def _component(dotted: str, data: Mapping[str, Any]) -> Component:
    params = data["params"]
    return Component(
        dotted=dotted,
        tasks=frozenset(data["tasks"]),
        params={name: tuple(map(Alternative.from_json, item["takes"])) for name, item in params.items()},
        managed=data.get("managed", {}),
        defaults={name: item["default"] for name, item in params.items() if "default" in item},
        proba=data.get("proba", False),
        text=data.get("text", False),
        random=data.get("random", False),
    )


def _metric(name: str, data: Mapping[str, Any]) -> Metric:
    return Metric(
        name=name,
        task=data["task"],
        greater_is_better=data["greaterIsBetter"],
        needs=data["needs"],
        interval=data["interval"],
        description=data["description"],
    )


@cache
def load(runtime: str = DEFAULT_RUNTIME) -> Catalogue:
    """Return the catalogue of a runtime.

    Raises KeyError when there is none; `runtimes()` names them.
    """
    if runtime not in runtimes():
        raise KeyError(f"no catalogue for runtime {runtime!r}; there are {', '.join(runtimes())}")
    source = resources.files("solera_core.catalogue") / f"{runtime}.json"
    return Catalogue(json.loads(source.read_text(encoding="utf-8")))


@cache
def runtimes() -> tuple[str, ...]:
    """Return the names of the runtimes that have a catalogue."""
    folder = resources.files("solera_core.catalogue")
    names = [item.name for item in folder.iterdir()]
    return tuple(
        sorted(n.removesuffix(".json") for n in names if n.startswith("sklearn-") and n.endswith(".json"))
    )
