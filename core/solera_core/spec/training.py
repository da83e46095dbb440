"""How a model is trained: `spec.training`, the part that a ModelVersion keeps a snapshot of."""

from collections import Counter
from typing import Annotated

from pydantic import Field, Strict

from solera_core.spec.base import SpecModel
from solera_core.spec.candidates import Candidates, Preprocessing
from solera_core.spec.data import Data, SplitMethod
from solera_core.spec.names import LabelName
from solera_core.spec.pod import TrainingPodOptions
from solera_core.spec.quantities import duration, parse_duration
from solera_core.spec.rules import Atomic, Rule
from solera_core.spec.task import DEFAULT_METRIC, Task


class Validation(SpecModel):
    """Cross-validation on the training rows, by which the best candidate is chosen."""

    folds: Annotated[int, Strict(), Field(ge=2, le=20)] = 5
    """Number of folds. They keep groups together (Group) or go forward in time (Time), as the split does."""
    metric: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """The metric that decides. When absent: f1_macro for Classification, r2 for Regression."""


def _twice(training: "Training") -> list[str]:
    named = [set(part.columns or part.column_types or ()) for part in training.preprocessing or ()]
    return sorted(
        name for name, count in Counter(name for part in named for name in part).items() if count > 1
    )


def _undeclared(training: "Training") -> list[str]:
    if training.data.columns is None:
        return []
    declared = {column.name for column in training.data.columns}
    return sorted({name for part in training.preprocessing or () for name in part.columns or ()} - declared)


def _not_features(training: "Training") -> list[str]:
    excluded = {training.data.target, training.data.split.column}
    return sorted({name for part in training.preprocessing or () for name in part.columns or ()} & excluded)


class Training(SpecModel):
    """Which data, which candidate estimators, and how the Job runs. A change makes a new version."""

    rules = (
        Rule(
            message="preprocessing names {} twice: name a column or type in one entry only",
            check=lambda self: not _twice(self),
            at="preprocessing",
            shown=lambda self: ", ".join(_twice(self)),
        ),
        Rule(
            message="preprocessing names {}, absent from data.columns: add it there or leave it out here",
            check=lambda self: not _undeclared(self) or bool(_not_features(self)),
            at="preprocessing",
            shown=lambda self: ", ".join(_undeclared(self)),
        ),
        Rule(
            message="preprocessing names {}, which is not a feature but the target or the split column: "
            "leave it out",
            check=lambda self: not _not_features(self),
            at="preprocessing",
            shown=lambda self: ", ".join(_not_features(self)),
        ),
    )

    data: Data
    """The data set."""
    preprocessing: (
        Annotated[tuple[Preprocessing, ...], Field(min_length=1, max_length=16), Atomic()] | None
    ) = None
    """Transformers before the estimator, fitted on training rows only. Columns that no entry names get the
    default: numbers a median imputer and a standard scaler, strings and booleans a most-frequent imputer and
    one-hot encoding that ignores unknown categories."""
    candidates: Candidates
    """The estimators to choose from: each is cross-validated, the best one is fitted on all training rows."""
    validation: Validation = Validation()
    """How the best candidate is found."""
    seed: Annotated[int, Strict(), Field(ge=0, le=2**31 - 1)] = 0
    """Seed of folds, searches and estimators: equal data, spec and runtime give an equal artifact."""
    pod: TrainingPodOptions | None = None
    """What can be chosen about the Job's pods."""
    deadline: Annotated[str, Field(min_length=2, max_length=20), duration("1m", "168h")] = "1h"
    """How long the Job may take in all, retries included."""
    retries: Annotated[int, Strict(), Field(ge=0, le=10)] = 2
    """How often a pod that failed for a passing reason is started again. Wrong data or parameters are not
    tried again."""
    queue_name: LabelName | None = None
    """Kueue's LocalQueue, set as the label kueue.x-k8s.io/queue-name on the Jobs; Kueue does the rest."""

    def deadline_seconds(self) -> int:
        """Return the deadline in seconds."""
        return int(parse_duration(self.deadline).total_seconds())

    def split_method(self, task: Task) -> SplitMethod:
        """Return the split method, the task's own when none is written."""
        default = SplitMethod.STRATIFIED if task is Task.CLASSIFICATION else SplitMethod.RANDOM
        return self.data.split.method or default

    def metric(self, task: Task) -> str:
        """Return the metric that chooses the candidate, the task's own when none is written."""
        return self.validation.metric or DEFAULT_METRIC[task]
