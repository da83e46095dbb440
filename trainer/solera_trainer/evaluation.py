"""An evaluation: a verified artifact's metrics on the held-out rows, and the gates' verdicts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solera_core import artifact
from solera_core.catalogue import Catalogue
from solera_core.failures import ArtifactCorrupt, Failure, Reason
from solera_core.model_file import load_model
from solera_core.schema import Schema, frame
from solera_trainer.dataset import prepare_again
from solera_trainer.intervals import Estimate, estimates
from solera_trainer.judging import Verdict, judge
from solera_trainer.predictions import Labelled, Measured, labelled, measured
from solera_trainer.problem import Problem
from solera_trainer.training import recorded_cut, require_runtime


@dataclass(frozen=True)
class Evaluated:
    """Metrics and verdicts of one artifact."""

    digest: str
    estimates: Sequence[Estimate]
    verdicts: Sequence[Verdict]
    rows: int
    data_digest: str
    trained_on: str
    """The data digest of the training: another one than `data_digest` when the data has changed since."""

    @property
    def passed(self) -> bool:
        """Say whether there are gates and all of them passed."""
        return bool(self.verdicts) and all(verdict.passed for verdict in self.verdicts)


def evaluate(problem: Problem, catalogue: Catalogue, raw: Any, directory: Path, digest: str) -> Evaluated:
    """Judge the artifact in the directory by the rows that the split holds out.

    The rows are told by the salt and method that the artifact was trained with, so that none of them was seen
    in training, even when the data has grown. Raises Failure: ArtifactCorrupt, BadSpec, and as
    `prepare_again`.
    """
    require_runtime(catalogue)
    artifact.verify(directory, digest)
    schema = Schema.from_json(artifact.read_json(directory, artifact.SCHEMA))
    provenance = artifact.read_json(directory, artifact.PROVENANCE)
    _same_split(problem, provenance)
    model = load_model(directory / artifact.MODEL)
    dataset = prepare_again(problem, raw, schema, recorded_cut(provenance))
    count = int(dataset.test.sum())
    if not count:
        raise Failure(Reason.SPLIT_EMPTY, "the split holds out no row of the data as it is now.")
    columns, target = dataset.side(dataset.test)
    found = estimates(catalogue, problem.task.value, _answers(model, schema, frame(columns), target))
    verdicts = judge(catalogue, problem.gates, found, count)
    return Evaluated(digest, found, verdicts, count, dataset.digest, provenance["data"]["digest"])


def evaluate_result(evaluated: Evaluated, evaluation: str) -> dict[str, Any]:
    """Return the result of an evaluation, named by the digits of what was judged."""
    result: dict[str, Any] = {
        "kind": "evaluate",
        "ok": True,
        "evaluation": evaluation,
        "digest": evaluated.digest,
        "rows": evaluated.rows,
        "overlap": 0,
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
