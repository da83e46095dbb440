"""Checks of a spec that need the runtime's catalogue: CEL cannot see which estimators there are.

The operator asks before it makes a version, the trainer asks again before it imports scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from solera_core.catalogue import Catalogue, Problem
from solera_core.failures import Reason

PROBABLE: dict[str, tuple[str, frozenset[str]]] = {
    "sklearn.linear_model.SGDClassifier": ("loss", frozenset({"log_loss", "modified_huber"})),
}
"""Estimators that give probabilities for some values of a parameter only: its name, and those values."""


def check_training(
    catalogue: Catalogue,
    task: str,
    training: Mapping[str, Any],
    gates: Sequence[Mapping[str, Any]] = (),
    path: str = "spec",
) -> list[tuple[Reason, Problem]]:
    """Check `spec.training` and `spec.gates` as the API server stores them (camelCase, plain values).

    The structure has been checked before (by the CRD, or by the types in `spec`). Returns every problem with
    the reason that status shows for it; paths begin with `path`.
    """
    found: list[tuple[Reason, Problem]] = []

    def add(reason: Reason, problems: list[Problem]) -> None:
        found.extend((reason, problem) for problem in problems)

    at = f"{path}.training"
    for index, candidate in enumerate(training["candidates"]):
        here, dotted = f"{at}.candidates[{index}]", candidate["estimator"]
        add(Reason.BAD_ESTIMATOR, catalogue.check_estimator(task, dotted, f"{here}.estimator"))
        add(
            Reason.BAD_PARAMETER,
            catalogue.check_params(dotted, candidate.get("params") or {}, f"{here}.params"),
        )
        space = (candidate.get("search") or {}).get("space") or {}
        add(Reason.BAD_PARAMETER, catalogue.check_space(dotted, space, f"{here}.search.space"))
    for index, entry in enumerate(training.get("preprocessing") or ()):
        for number, step in enumerate(entry["steps"]):
            here, dotted = f"{at}.preprocessing[{index}].steps[{number}]", step["transformer"]
            add(Reason.BAD_ESTIMATOR, catalogue.check_transformer(task, dotted, f"{here}.transformer"))
            add(
                Reason.BAD_PARAMETER,
                catalogue.check_params(dotted, step.get("params") or {}, f"{here}.params"),
            )
    metric = (training.get("validation") or {}).get("metric")
    if metric is not None:
        add(Reason.BAD_METRIC, catalogue.check_metric(task, metric, f"{at}.validation.metric"))
        add(Reason.BAD_METRIC, _without_probabilities(catalogue, metric, training, f"{at}.validation.metric"))
    for index, gate in enumerate(gates):
        add(Reason.BAD_METRIC, catalogue.check_metric(task, gate["metric"], f"{path}.gates[{index}].metric"))
    return found


def _without_probabilities(
    catalogue: Catalogue, metric: str, training: Mapping[str, Any], path: str
) -> list[Problem]:
    """A metric that needs probabilities cannot choose among candidates of which one has none."""
    known = catalogue.metrics.get(metric)
    if known is None or known.needs != "proba":
        return []
    mute = []
    for candidate in training["candidates"]:
        component = catalogue.estimators.get(candidate["estimator"])
        if component is not None and not component.proba and not _by_parameter(candidate):
            mute.append(component.short)
    if not mute:
        return []
    names = ", ".join(sorted(set(mute)))
    return [
        Problem(
            path, f"{metric} needs probabilities, and {names} gives none: write another metric or estimator."
        )
    ]


def _by_parameter(candidate: Mapping[str, Any]) -> bool:
    """Say whether every setting of the candidate has a parameter by which it gives probabilities."""
    name, probable = PROBABLE.get(candidate["estimator"], ("", frozenset()))
    space = (candidate.get("search") or {}).get("space") or {}
    values = space.get(name) or [(candidate.get("params") or {}).get(name)]
    return bool(probable) and all(isinstance(value, str) and value in probable for value in values)
