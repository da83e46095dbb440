"""Model selection: every setting of every candidate is cross-validated, the best is fitted on all training
rows.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from solera_core.catalogue import Catalogue
from solera_core.failures import Failure, Reason
from solera_core.schema import Column, frame
from solera_core.spec import SearchMethod, SplitMethod, Task, Training
from solera_trainer.dataset import Dataset
from solera_trainer.metrics import label_metrics, number_metrics, proba_metrics
from solera_trainer.pipelines import build_pipeline
from solera_trainer.predictions import labelled, measured
from solera_trainer.problem import Problem


@dataclass(frozen=True)
class Setting:
    """One candidate with one choice of parameters, as the spec writes them."""

    candidate: str
    estimator: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """Cross-validation of a setting: the metric in each fold, or why it could not be fitted."""

    setting: Setting
    folds: tuple[float, ...] = ()
    error: str | None = None

    @property
    def mean(self) -> float:
        """Mean over the folds."""
        return float(np.mean(self.folds))

    @property
    def std(self) -> float:
        """Standard deviation over the folds (with n in the denominator)."""
        return float(np.std(self.folds))


@dataclass(frozen=True)
class Selection:
    """Every score, the best one, the model fitted with it, and what scikit-learn warned of while fitting."""

    metric: str
    scores: tuple[Score, ...]
    best: Score
    model: Any
    warnings: tuple[str, ...]


def settings(training: Training) -> list[Setting]:
    """Return every setting that is tried, in a fixed order: candidates as written, spaces in order."""
    found = []
    for candidate in training.candidates:
        for chosen in _chosen(candidate.search, training.seed):
            params = {**candidate.params, **chosen}
            found.append(Setting(candidate.name, candidate.estimator, params))
    return found


def _chosen(search: Any, seed: int) -> list[dict[str, Any]]:
    if search is None:
        return [{}]
    names = sorted(search.space)
    sizes = [len(search.space[name]) for name in names]
    if search.method is SearchMethod.GRID:
        return [
            dict(zip(names, values, strict=True))
            for values in itertools.product(*(search.space[name] for name in names))
        ]
    total = math.prod(sizes)
    chosen = []
    for number in sorted(_distinct(total, search.iterations, seed)):
        values, rest = {}, number
        for name, size in zip(names, sizes, strict=True):
            rest, position = divmod(rest, size)
            values[name] = search.space[name][position]
        chosen.append(values)
    return chosen


def _distinct(total: int, count: int, seed: int) -> list[int]:
    """Return so many distinct numbers below `total`, which may be beyond 64 bits."""
    random = np.random.default_rng(seed)
    if total < 2**63:
        numbers: list[int] = random.choice(total, size=count, replace=False).tolist()
        return numbers
    size = total.bit_length() // 8 + 8
    found: dict[int, None] = {}
    while len(found) < count:
        found[int.from_bytes(random.bytes(size)) % total] = None
    return list(found)


def select(catalogue: Catalogue, problem: Problem, dataset: Dataset, cpus: int) -> Selection:
    """Cross-validate all settings on the training rows, in `cpus` threads, and fit the best one on all of
    them.

    Raises Failure: BadParameter, FitFailed when no setting can be fitted or the best cannot be fitted on all
    rows.
    """
    import joblib

    columns, target = dataset.side(~dataset.test)
    groups = None if dataset.groups is None else dataset.groups[~dataset.test]
    folds = _folds(problem, target, groups)
    tried = settings(problem.training)
    judge = _Judge(catalogue, problem, dataset, columns, target)
    with joblib.parallel_config(backend="threading", n_jobs=cpus), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = joblib.Parallel()(
            joblib.delayed(judge.score)(setting, *fold) for setting in tried for fold in folds
        )
    scores = tuple(
        _collected(setting, results[index * len(folds) : (index + 1) * len(folds)])
        for index, setting in enumerate(tried)
    )
    best = _best(catalogue, judge.metric, scores)
    model, warned = _fit(judge.pipeline(best.setting), columns, target, cpus)
    return Selection(judge.metric, scores, best, model, warned)


class _Judge:
    """Fits a setting on one fold and measures it on the other rows."""

    def __init__(
        self,
        catalogue: Catalogue,
        problem: Problem,
        dataset: Dataset,
        columns: dict[str, Column],
        target: npt.NDArray[Any],
    ) -> None:
        self.metric = problem.metric
        self._catalogue, self._training, self._schema = catalogue, problem.training, dataset.schema
        self._frame, self._target = frame(columns), target

    def pipeline(self, setting: Setting) -> Any:
        """Return the unfitted pipeline of a setting. Raises Failure."""
        return build_pipeline(
            self._catalogue, self._schema, self._training, setting.estimator, setting.params
        )

    def score(
        self, setting: Setting, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]
    ) -> float | str:
        """Return the metric on the fold's test rows, or the reason why there is none."""
        pipeline = self.pipeline(setting)
        try:
            pipeline.fit(self._frame.iloc[train], self._target[train])
            value = self._measure(pipeline, self._frame.iloc[test], self._target[test])
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - what an estimator raises for data is its own choice
            return _first_line(error)
        return value if math.isfinite(value) else f"{self.metric} is not defined on a fold"

    def _measure(self, pipeline: Any, rows: Any, true: npt.NDArray[Any]) -> float:
        everyone = np.ones((1, len(true)))
        classes = self._schema.target.classes
        if classes is None:
            return float(number_metrics(measured(pipeline, rows, true), everyone)[self.metric][0])
        answers = labelled(pipeline, rows, true, classes)
        if self._catalogue.metrics[self.metric].needs == "proba":
            return float(proba_metrics(answers, everyone)[self.metric][0])
        return float(label_metrics(answers, everyone)[self.metric][0])


def _folds(
    problem: Problem, target: npt.NDArray[Any], groups: npt.NDArray[np.int64] | None
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    from sklearn import model_selection as choose

    count, seed = problem.training.validation.folds, problem.training.seed
    task, method = problem.task, problem.method
    if method is SplitMethod.TIME:
        splitter: Any = choose.TimeSeriesSplit(n_splits=count)
    elif groups is not None and task is Task.CLASSIFICATION:
        splitter = choose.StratifiedGroupKFold(n_splits=count, shuffle=True, random_state=seed)
    elif groups is not None:
        splitter = choose.GroupKFold(n_splits=count, shuffle=True, random_state=seed)
    elif method is SplitMethod.STRATIFIED:
        splitter = choose.StratifiedKFold(n_splits=count, shuffle=True, random_state=seed)
    else:
        splitter = choose.KFold(n_splits=count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(splitter.split(np.zeros(len(target)), target, groups))


def _collected(setting: Setting, results: list[float | str]) -> Score:
    errors = [result for result in results if isinstance(result, str)]
    if errors:
        return Score(setting, error=errors[0])
    return Score(setting, tuple(float(result) for result in results))


def _best(catalogue: Catalogue, metric: str, scores: tuple[Score, ...]) -> Score:
    sign = 1 if catalogue.metrics[metric].greater_is_better else -1
    fitted = [score for score in scores if score.error is None]
    if not fitted:
        causes: dict[str | None, str] = {}
        for score in scores:
            causes.setdefault(score.error, score.setting.candidate)
        text = "; ".join(f"{candidate}: {error}" for error, candidate in list(causes.items())[:3])
        raise Failure(Reason.FIT_FAILED, f"no candidate could be fitted and scored. {text}.")
    # max keeps the first of equals: the order in the spec decides.
    return max(fitted, key=lambda score: sign * score.mean)


def _fit(
    pipeline: Any, columns: dict[str, Column], target: npt.NDArray[Any], cpus: int
) -> tuple[Any, tuple[str, ...]]:
    import joblib

    try:
        with (
            joblib.parallel_config(backend="threading", n_jobs=cpus),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            pipeline.fit(frame(columns), target)
    except MemoryError:
        raise
    except Exception as error:
        message = f"the best candidate could not be fitted on all training rows: {_first_line(error)}."
        raise Failure(Reason.FIT_FAILED, message) from error
    # Only what is about the model belongs to the artifact: the rest may differ between machines.
    kept = {_first_line(item.message) for item in caught if item.category.__name__ == "ConvergenceWarning"}
    return pipeline, tuple(sorted(kept))


def _first_line(error: Any) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    name = "" if isinstance(error, ValueError | Warning) else f"{type(error).__name__}: "
    return (name + text)[:300].rstrip(".")
