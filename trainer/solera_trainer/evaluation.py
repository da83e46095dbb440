"""An evaluation: a verified artifact's metrics on the held-out rows, and the gates' verdicts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from solera_core import artifact
from solera_core.catalogue import Catalogue
from solera_core.failures import ArtifactCorrupt, Failure, Reason
from solera_core.model_file import load_model
from solera_core.nearest import listed
from solera_core.schema import Schema, frame
from solera_core.spec import SplitMethod
from solera_trainer.dataset import Dataset, prepare_again
from solera_trainer.intervals import Estimate, estimates
from solera_trainer.judging import Support, Verdict, judge
from solera_trainer.predictions import Labelled, Measured, labelled, measured
from solera_trainer.problem import Problem
from solera_trainer.training import recorded_cut, require_runtime
from solera_trainer.training_rows import TrainingRows


@dataclass(frozen=True)
class Evaluated:
    """Metrics and verdicts of one artifact."""

    digest: str
    estimates: Sequence[Estimate]
    verdicts: Sequence[Verdict]
    rows: int
    overlap: int
    """Held-out rows that look like a training row; see `overlap`."""
    data_digest: str
    trained_on: str
    """The data digest of the training: another one than `data_digest` when the data has changed since."""

    @property
    def passed(self) -> bool:
        """Say whether there are gates and all of them passed."""
        return bool(self.verdicts) and all(verdict.passed for verdict in self.verdicts)


def evaluate(
    problem: Problem, catalogue: Catalogue, raw: Any, directory: Path, digest: str, *, training_rows: bytes
) -> Evaluated:
    """Judge the artifact in the directory by the rows that the split holds out.

    The rows are told by the salt and method that the artifact was trained with, so that none of them was seen
    in training, even when the data has grown; `training_rows` (the training's file of that name) proves it.
    Raises Failure: ArtifactCorrupt, BadSpec, SplitChanged, and as `prepare_again`.
    """
    require_runtime(catalogue)
    artifact.verify(directory, digest)
    schema = Schema.from_json(artifact.read_json(directory, artifact.SCHEMA))
    provenance = artifact.read_json(directory, artifact.PROVENANCE)
    _same_split(problem, provenance)
    seen = TrainingRows.decode(training_rows, provenance["split"].get("trainingRows", ""))
    model = load_model(directory / artifact.MODEL)
    dataset = prepare_again(problem, raw, schema, recorded_cut(provenance))
    _same_columns(problem, provenance, dataset.raw_kinds)
    count = int(dataset.test.sum())
    if not count:
        raise Failure(Reason.SPLIT_EMPTY, "the split holds out no row of the data as it is now.")
    columns, target = dataset.side(dataset.test)
    overlapping = overlap(problem, dataset, seen)
    groups = None if dataset.groups is None else dataset.groups[dataset.test]
    answers = _answers(model, schema, frame(columns), target)
    found = estimates(catalogue, problem.task.value, answers, groups)
    keys = None if groups is None else len(np.unique(groups))
    verdicts = judge(catalogue, problem.gates, found, Support(count, keys))
    return Evaluated(
        digest, found, verdicts, count, overlapping, dataset.digest, provenance["data"]["digest"]
    )


def overlap(problem: Problem, dataset: Dataset, seen: TrainingRows) -> int:
    """Return how many held-out rows look like one that was trained on.

    With a key column they are told by their keys. Otherwise by features and target, so that honest twins
    count too: rows that differ only in columns that the model does not use. Raises Failure (SplitChanged)
    when a held-out row's key was trained on.
    """
    by_key = int(np.isin(dataset.keys[dataset.test], seen.keys).sum())
    if by_key:
        message = (
            f"{by_key} of {int(dataset.test.sum())} held-out rows were trained on, by their keys: train a "
            "new version."
        )
        raise Failure(Reason.SPLIT_CHANGED, message)
    if _key_column(problem) is not None:
        return by_key
    return int(np.isin(dataset.contents[dataset.test], seen.contents).sum())


def evaluate_result(evaluated: Evaluated, evaluation: str) -> dict[str, Any]:
    """Return the result of an evaluation, named by the digits of what was judged."""
    result: dict[str, Any] = {
        "kind": "evaluate",
        "ok": True,
        "evaluation": evaluation,
        "digest": evaluated.digest,
        "rows": evaluated.rows,
        "overlap": evaluated.overlap,
        "metrics": [
            {"name": item.name, "value": item.value, "lower": item.lower, "upper": item.upper}
            for item in evaluated.estimates
        ],
        "gates": [verdict.to_json() for verdict in evaluated.verdicts],
        "passed": evaluated.passed,
    }
    if evaluated.data_digest != evaluated.trained_on:
        result["dataDigest"] = evaluated.data_digest
    return result


def _answers(model: Any, schema: Schema, table: Any, target: Any) -> Labelled | Measured:
    try:
        with warnings.catch_warnings():
            # A category that training never saw is no news in an evaluation.
            warnings.simplefilter("ignore")
            if schema.target.classes is None:
                return measured(model, table, target)
            return labelled(model, table, target, schema.target.classes)
    except MemoryError:
        raise
    except Exception as error:
        message = f"the model cannot answer the held-out rows: {error}."
        raise Failure(Reason.FIT_FAILED, message) from error


def _same_split(problem: Problem, provenance: Any) -> None:
    """Refuse rows that were split otherwise than in the training: some of them would have been trained on."""
    split = problem.training.data.split
    now = {
        "method": problem.method.value,
        "testPercent": split.test_percent,
        "salt": problem.salt,
        "column": split.column,
    }
    then = provenance.get("split", {}) if isinstance(provenance, dict) else {}
    different = sorted(name for name, value in now.items() if then.get(name) != value)
    if different:
        message = (
            f"the artifact was trained with another split ({', '.join(different)}): its rows would overlap."
        )
        raise ArtifactCorrupt(message)


def _same_columns(problem: Problem, provenance: Any, now: Mapping[str, str]) -> None:
    """Refuse data whose rows cannot be told to be the ones that were trained on.

    Without a key column the whole raw row decides its side: another column, or another way to write a number,
    changes the sides of rows that were trained on. Raises Failure (SplitChanged).
    """
    then: Mapping[str, str] = provenance["data"].get("columns", {})
    column = problem.training.data.split.column
    names = sorted(set(then) | set(now)) if column is None else [column]
    changed = [_change(name, then.get(name), now.get(name)) for name in names]
    different = [text for text in changed if text]
    if different:
        remedy = (
            "Train a new version; when columns come and go, name a key in data.split.column."
            if column is None
            else "Train a new version."
        )
        message = (
            f"the data is not written as when the version was trained ({listed(different)}), so that rows "
            f"that were trained on could be held out. {remedy}"
        )
        raise Failure(Reason.SPLIT_CHANGED, message)


def _change(name: str, then: str | None, now: str | None) -> str:
    if then == now:
        return ""
    if then is None:
        return f"{name} is new"
    return f"{name} is gone" if now is None else f"{name} was {then}, is {now}"


def _key_column(problem: Problem) -> str | None:
    """Return the column whose values are the rows' keys; the Time method has none."""
    return None if problem.method is SplitMethod.TIME else problem.training.data.split.column
