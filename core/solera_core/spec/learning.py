"""The part of a TrainedModel's spec that says what to learn: all that the trainer needs to know."""

from typing import Annotated, Any

from solera_core.spec.base import SpecModel
from solera_core.spec.gates import Gates
from solera_core.spec.rules import Rule, Rules, cel_list, unchanged
from solera_core.spec.task import BUNDLED_SETS, METRICS, Task
from solera_core.spec.training import Training


def _foreign_gates(spec: Any) -> list[str]:
    return [gate.metric for gate in spec.gates or () if gate.metric not in METRICS[spec.task]]


def _metric_rules(task: Task) -> tuple[Rule, ...]:
    """Return the rules that metrics belong to `task`."""
    allowed = cel_list(METRICS[task])
    listed = ", ".join(METRICS[task])
    return (
        Rule(
            message=f"a gate names a metric that {task} does not have: write {listed}",
            cel=f"self.task != '{task}' || !has(self.gates) || "
            f"self.gates.all(gate, gate.metric in {allowed})",
            check=lambda spec: spec.task is not task or not _foreign_gates(spec),
            at="gates",
        ),
        Rule(
            message=f"write a metric of {task} ({listed}), not {{}}",
            cel=f"self.task != '{task}' || !has(self.training.validation) || "
            f"!has(self.training.validation.metric) || self.training.validation.metric in {allowed}",
            check=lambda spec: spec.task is not task or spec.training.metric(task) in METRICS[task],
            at="training.validation.metric",
            shown_cel="self.training.validation.metric",
            shown=lambda spec: str(spec.training.validation.metric),
        ),
    )


def _bundled_rule(task: Task) -> Rule:
    names = [name for name, its_task in BUNDLED_SETS.items() if its_task is task]
    others = [f"sklearn://{name}" for name in BUNDLED_SETS if name not in names]
    return Rule(
        message=f"{{}} is not made for {task}: write sklearn:// and one of {', '.join(names)}",
        cel=f"self.task != '{task}' || !(self.training.data.uri in {cel_list(others)})",
        check=lambda spec: spec.task is not task or spec.training.data.uri not in others,
        at="training.data.uri",
        shown_cel="self.training.data.uri",
        shown=lambda spec: spec.training.data.uri,
    )


class LearningSpec(SpecModel):
    """A learning problem: the task, how to train for it, and what the result must reach."""

    rules = (
        *_metric_rules(Task.CLASSIFICATION),
        *_metric_rules(Task.REGRESSION),
        _bundled_rule(Task.CLASSIFICATION),
        _bundled_rule(Task.REGRESSION),
        Rule(
            message="method Stratified keeps the shares of classes, and Regression has none: write Random, "
            "Group or Time",
            cel="self.task != 'Regression' || !has(self.training.data.split) || "
            "!has(self.training.data.split.method) || self.training.data.split.method != 'Stratified'",
            check=lambda spec: (
                spec.task is not Task.REGRESSION or spec.training.data.split.method != "Stratified"
            ),
            at="training.data.split.method",
        ),
    )

    task: Annotated[
        Task, Rules(unchanged("the task of a model cannot change: make a new TrainedModel for another task"))
    ]
    """What kind of problem the model solves. Immutable."""
    training: Training
    """How the model is trained. Any change makes a new version."""
    gates: Gates | None = None
    """What a version must reach on the held-out rows before it serves. All must pass. Without a gate nothing
    is promoted, and the status says so. A change judges the newest version again without training it
    again."""
