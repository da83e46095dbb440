"""From a compiled model to explanations of its answers, each checked against the answer itself."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_core.artifact import FileEntry, file_entry
from solera_core.failures import ArtifactCorrupt
from solera_server.batch import InputError
from solera_server.compiled.columns import COLUMN_TRANSFORMER, flat_steps
from solera_server.compiled.linear import LinearClassifier, LinearRegressor
from solera_server.compiled.node import Node
from solera_server.compiled.pipeline import CompiledPredictor, fitted_steps
from solera_server.compiled.refusals import NotCompilable
from solera_server.explain.additive import Additive, bayes_method, bayes_scale, linear_scale
from solera_server.explain.ensembles import tree_method, tree_scale
from solera_server.explain.method import NotExplainable, origins
from solera_server.predictor import PREDICT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from solera_server.batch import Batch
    from solera_server.explain.method import Matrix, Method
    from solera_server.predictor import Predictor

TOLERANCE = 1e-10
"""How far base value and contributions may miss the output, relative to the largest of them and to 1."""

_SCALER = "sklearn.preprocessing._data.StandardScaler"


class DoesNotAddUp(Exception):  # noqa: N818 - says what happened
    """The contributions do not add up to the model's answer: a defect of this server."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """
    What made the predictions of n rows.

    ``predictions`` (n,), ``base`` (c,), ``output`` (n, c) and ``contributions`` (n, features, c), where c is
    the number of classes, in the schema's order, or 1 for regression.
    """

    predictions: NDArray[Any]
    base: Matrix
    output: Matrix
    contributions: Matrix


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The model file again, for what is needed only when somebody asks; ``entry`` is the manifest's."""

    path: Path
    entry: FileEntry


class Explainer:
    """
    Explains a compiled predictor's answers. Reentrant.

    ``method`` and ``scale`` are names, for the answers. ``make`` gives the method itself; it is called when
    the first answer is to be explained.
    """

    def __init__(
        self, predictor: CompiledPredictor, method: str, scale: str, make: Callable[[], Method]
    ) -> None:
        self._predictor = predictor
        self.method = method
        self.scale = scale
        self._make = make
        self._made: Method | None = None
        self._refusal: str | None = None
        self._lock = threading.Lock()

    def ready(self) -> Method:
        """Return the method. Raises NotExplainable."""
        with self._lock:
            if self._refusal is not None:
                raise NotExplainable(self._refusal)
            if self._made is None:
                try:
                    self._made = self._make()
                except (NotCompilable, NotExplainable) as error:
                    # Not again for each request: that would read the whole model file each time.
                    self._refusal = str(error)
                    raise NotExplainable(self._refusal) from error
            return self._made

    def seconds(self, rows: int) -> float:
        """Return how long an explanation of so many rows takes, roughly. Raises NotExplainable."""
        return self.ready().cost * rows

    def values(self, *, every: bool) -> int:
        """Return how many contributions one row has, of the predicted class or of every one."""
        classes = self._predictor.estimator.classes
        return len(self._predictor.schema.features) * (1 if classes is None or not every else len(classes))

    def explain(self, batch: Batch) -> Explanation:
        """
        Return the explanation of all rows.

        Raises InputError for what the model does not take, NotExplainable, DoesNotAddUp.
        """
        method = self.ready()
        predictor, estimator = self._predictor, self._predictor.estimator
        predictions = predictor.predict(batch, (PREDICT,))[PREDICT]
        X = predictor.matrix(batch)
        scores = estimator.scores(X)
        with np.errstate(over="ignore", invalid="ignore"):
            base, contributions = method.base, method.contributions(X)
            if method.combine is not None:
                scores = scores @ method.combine
            sums = base + contributions.sum(axis=1)
        finite = np.isfinite(scores).all(axis=1) & np.isfinite(sums).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            raise InputError(f"row {row}: its values are so large that a part of the output is infinite")
        largest = np.maximum(np.abs(contributions).max(axis=1, initial=1.0), np.abs(base))
        self._check(sums, scores, largest)
        if estimator.classes is not None and len(base) == 1:
            # One score for two classes: what speaks for the one speaks as much against the other.
            base = np.array([-base[0], base[0]])
            contributions = np.concatenate([-contributions, contributions], axis=2)
            scores = np.concatenate([-scores, scores], axis=1)
        return Explanation(predictions, base, scores, contributions)

    def _check(self, sums: Matrix, scores: Matrix, largest: Matrix) -> None:
        difference = np.abs(sums - scores)
        if (difference > TOLERANCE * np.maximum(largest, np.abs(scores))).any():
            worst = float(difference.max())
            raise DoesNotAddUp(
                f"{self.method}: base value and contributions differ from the model's output by {worst:.3g}"
            )


def explainer_of(predictor: Predictor, file: ModelFile, means: Sequence[float] | None) -> Explainer:
    """
    Return what explains the predictor's answers.

    ``means`` are those of the columns that the estimator got in training, where the artifact has them.
    Raises NotExplainable.
    """
    if not isinstance(predictor, CompiledPredictor):
        raise NotExplainable(
            "scikit-learn itself predicts with this model, and only compiled ones are explained; "
            f"it is not compiled because: {predictor.reason}"
        )
    if predictor.fitted is None:
        raise AssertionError("the predictor's nodes are gone")
    before, last = predictor.fitted
    try:
        return _explainer(predictor, before, last, file, means)
    except NotCompilable as error:
        raise NotExplainable(str(error)) from error


def _explainer(
    predictor: CompiledPredictor,
    before: list[Any],
    last: Node,
    file: ModelFile,
    means: Sequence[float] | None,
) -> Explainer:
    estimator = predictor.estimator
    of_features = predictor.prepare.origins
    if last.type.startswith("sklearn.naive_bayes."):
        bayes = bayes_method(last, estimator, origins(of_features, len(predictor.schema.features)))
        if bayes is not None:
            made: Method = bayes
            scale = bayes_scale(len(predictor.schema.target.classes or ()))
            return Explainer(predictor, "naive Bayes", scale, lambda: made)
    linear = estimator if isinstance(estimator, LinearRegressor | LinearClassifier) else None
    found = tree_scale(last) if linear is None else linear_scale(linear)
    if found is None:
        raise NotExplainable(
            f"there is no exact method for {last.name}; there is one for linear models, naive Bayes, "
            "decision trees, forests and boosted trees"
        )
    of = origins(of_features, len(predictor.schema.features))
    if linear is not None:
        reference = _reference(before, linear.n_features, means)
        additive = Additive(linear, reference, of)
        return Explainer(predictor, "linear", found, lambda: additive)
    scores = 1 if estimator.classes is None else len(estimator.classes)
    if last.has("n_trees_per_iteration_"):
        scores = last.integer("n_trees_per_iteration_", 1)
    return Explainer(predictor, "TreeSHAP", found, lambda: tree_method(_again(file), of, scores))


def _again(file: ModelFile) -> Node:
    """Return the estimator from the model file, which must still be the one that was loaded."""
    try:
        same = file_entry(file.path) == file.entry
    except OSError as error:
        raise NotExplainable(f"{file.path.name} cannot be read any more: {error.strerror}") from error
    if not same:
        raise NotExplainable(f"{file.path.name} is not the file any more that this server loaded; restart it")
    last: Node = fitted_steps(file.path)[1]
    return last


def column_means(document: Any) -> list[float]:
    """Return the means that `explanation.json` holds. Raises ArtifactCorrupt."""
    means = document.get("means") if isinstance(document, dict) else None
    if not isinstance(means, list) or not all(type(mean) in (int, float) for mean in means):
        raise ArtifactCorrupt("explanation.json does not hold the columns' means.")
    return [float(mean) for mean in means]


def _reference(before: list[Any], columns: int, means: Sequence[float] | None) -> Matrix:
    """Return the mean of each column in training. Raises NotExplainable where nothing says it."""
    if means is not None:
        if len(means) != columns:
            raise NotExplainable(
                f"explanation.json has {len(means)} means, and the estimator gets {columns} columns"
            )
        return np.array(means, dtype=np.float64)
    if _all_centred(before):
        return np.zeros(columns)
    raise NotExplainable(
        "the artifact does not say the means of the columns that the linear model saw in training, from "
        "which contributions are counted: it was made before artifacts had explanation.json. Train it again"
    )


def _all_centred(before: list[Any]) -> bool:
    """Whether the last thing that happens to every column is that its mean is subtracted."""
    if len(before) == 1 and isinstance(before[0], Node) and before[0].type == COLUMN_TRANSFORMER:
        entries = [entry for entry in before[0].listed("transformers_") if not _drops(entry)]
        return bool(entries) and all(_centres(flat_steps([entry[1]])) for entry in entries)
    return _centres(flat_steps(before))


def _drops(entry: Any) -> bool:
    _, step, columns = entry
    return step == "drop" or (isinstance(columns, list) and not columns)


def _centres(steps: list[Any]) -> bool:
    last = steps[-1] if steps else None
    return isinstance(last, Node) and last.type == _SCALER and last.flag("with_mean")
