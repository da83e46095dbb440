"""Tasks and the metrics that belong to them."""

from enum import StrEnum


class Task(StrEnum):
    """What kind of problem a model solves."""

    CLASSIFICATION = "Classification"
    REGRESSION = "Regression"


CLASSIFICATION_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "f1_macro",
    "f1_micro",
    "f1_weighted",
    "precision_macro",
    "precision_weighted",
    "recall_macro",
    "recall_weighted",
    "roc_auc",
    "average_precision",
    "matthews_corrcoef",
    "log_loss",
    "brier_score",
)
REGRESSION_METRICS = (
    "r2",
    "explained_variance",
    "mean_absolute_error",
    "median_absolute_error",
    "mean_squared_error",
    "root_mean_squared_error",
    "mean_absolute_percentage_error",
    "max_error",
)
METRICS: dict[Task, tuple[str, ...]] = {
    Task.CLASSIFICATION: CLASSIFICATION_METRICS,
    Task.REGRESSION: REGRESSION_METRICS,
}
AT_MOST_ONE = (
    *(name for name in CLASSIFICATION_METRICS if name != "log_loss"),
    "r2",
    "explained_variance",
)
"""Metrics that never exceed 1: a bound above it is a percentage by mistake."""

DEFAULT_METRIC = {Task.CLASSIFICATION: "f1_macro", Task.REGRESSION: "r2"}

BUNDLED_SETS: dict[str, Task] = {
    "iris": Task.CLASSIFICATION,
    "wine": Task.CLASSIFICATION,
    "breast_cancer": Task.CLASSIFICATION,
    "digits": Task.CLASSIFICATION,
    "diabetes": Task.REGRESSION,
}
"""Data sets inside scikit-learn, for `sklearn://<name>`, and the task that each is made for."""
