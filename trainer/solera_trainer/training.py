"""A training from parsed spec to artifact, without any word about clusters."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solera_core import artifact
from solera_core.canonical import canonical_json, sha256_digest
from solera_core.catalogue import Catalogue
from solera_core.catalogue import load as load_catalogue
from solera_core.failures import Failure, Reason
from solera_core.spec import Training
from solera_core.training_check import check_training
from solera_trainer.baseline import baseline
from solera_trainer.column_means import column_means
from solera_trainer.dataset import Cut, Dataset, check_sides, prepare
from solera_trainer.exemplars import describe, examples
from solera_trainer.model_bytes import model_bytes
from solera_trainer.problem import Problem
from solera_trainer.reading import read_bundled, read_files
from solera_trainer.selection import Score, Selection, select
from solera_trainer.sources import DataAccess, SourceFile, bundled_name, source_files


@dataclass(frozen=True)
class Trained:
    """An artifact in a directory, and what is said about it."""

    manifest: artifact.Manifest
    chosen: Score
    metric: str
    data_digest: str
    schema_digest: str
    rows_train: int
    rows_test: int
    rows_without_target: int
    scores: tuple[Score, ...]
    training_rows: bytes
    """The file by which an evaluation knows the training rows again; beside the artifact, not in it."""


def check_spec(problem: Problem, runtime: str, version: str | None = None) -> Catalogue:
    """Return the runtime's catalogue after checking the spec against it, before scikit-learn is imported.

    `version` is the scikit-learn that the operator's settings say the runtime has.

    Raises Failure: BadSpec, BadEstimator, BadParameter, BadMetric, with every problem in the message.
    """
    try:
        catalogue = load_catalogue(runtime)
    except KeyError as error:
        raise Failure(Reason.BAD_SPEC, str(error.args[0])) from error
    if version is not None and version != catalogue.sklearn_version:
        message = (
            f"the settings say that runtime {runtime} has scikit-learn {version}, and this image's catalogue "
            f"is for {catalogue.sklearn_version}."
        )
        raise Failure(Reason.BAD_SPEC, message)
    gates = [gate.document() for gate in problem.gates]
    found = check_training(catalogue, problem.task.value, problem.training.document(), gates)
    if found:
        message = "\n".join(str(item) for _, item in found)
        raise Failure(found[0][0], message)
    return catalogue


def read_data(training: Training, access: DataAccess, plain: list[SourceFile] | None = None) -> Any:
    """Return the raw table of the training's data. Raises Failure."""
    if plain is not None:
        return read_files(plain)
    name = bundled_name(training.data.uri)
    return read_bundled(name) if name else read_files(source_files(training.data.uri, access))


def train(
    problem: Problem,
    catalogue: Catalogue,
    raw: Any,
    directory: Path,
    *,
    cpus: int,
    images: Mapping[str, str | None],
) -> Trained:
    """Train on the raw table and write the artifact into the directory, which is emptied first.

    `images` are the runtime's, for the provenance. Raises Failure.
    """
    require_runtime(catalogue)
    dataset = prepare(problem, raw)
    check_sides(problem, dataset)
    selection = select(catalogue, problem, dataset, cpus)
    columns, _ = dataset.side(~dataset.test)
    training_rows = dataset.training_rows().encode()
    schema = describe(dataset.schema, selection.model, columns)
    documents = {
        artifact.SCHEMA: schema.to_json(),
        artifact.EXAMPLES: examples(schema, selection.model, columns),
        artifact.METRICS: _metrics(selection),
        artifact.BASELINE: baseline(schema, selection.model, dataset).to_json(),
        artifact.PROVENANCE: _provenance(
            problem, catalogue, dataset, selection, images, training_rows=sha256_digest(training_rows)
        ),
    }
    means = column_means(selection.model, columns)
    if means is not None:
        documents[artifact.EXPLANATION] = {"formatVersion": 1, "means": means}
    _empty(directory)
    try:
        (directory / artifact.MODEL).write_bytes(model_bytes(selection.model))
    except (TypeError, NotImplementedError) as error:
        message = f"{selection.best.setting.estimator} cannot be stored: {error}."
        raise Failure(Reason.FIT_FAILED, message) from error
    for name, document in documents.items():
        (directory / name).write_bytes(canonical_json(document))
    manifest = artifact.write_manifest(directory)
    test = int(dataset.test.sum())
    return Trained(
        manifest=manifest,
        chosen=selection.best,
        metric=selection.metric,
        data_digest=dataset.digest,
        schema_digest=schema.digest,
        rows_train=len(dataset.test) - test,
        rows_test=test,
        rows_without_target=dataset.rows_without_target,
        scores=selection.scores,
        training_rows=training_rows,
    )


def train_result(trained: Trained, uri: str) -> dict[str, Any]:
    """Return the result of a training whose artifact is at the URI."""
    setting = trained.chosen.setting
    result: dict[str, Any] = {
        "kind": "train",
        "ok": True,
        "artifact": {
            "uri": uri,
            "digest": trained.manifest.digest,
            "sizeBytes": trained.manifest.size,
        },
        "candidate": {
            "name": setting.candidate,
            "estimator": setting.estimator,
            "params": _plain(setting.params),
            "cvMetric": trained.metric,
            "cvScore": trained.chosen.mean,
            "cvStd": trained.chosen.std,
        },
        "dataDigest": trained.data_digest,
        "schemaDigest": trained.schema_digest,
        "rows": {"train": trained.rows_train, "test": trained.rows_test},
    }
    if trained.rows_without_target:
        result["rowsWithoutTarget"] = trained.rows_without_target
    return result


def recorded_cut(provenance: Mapping[str, Any]) -> Cut | None:
    """Return the cut of a Time split from an artifact's provenance."""
    cut = provenance.get("split", {}).get("cut")
    return Cut(cut["column"], float(cut["value"])) if cut else None


def require_runtime(catalogue: Catalogue) -> None:
    """Refuse to work with another scikit-learn than the catalogue's: parameters and bytes would differ.

    Raises Failure (BadSpec).
    """
    import sklearn

    if sklearn.__version__ != catalogue.sklearn_version:
        message = (
            f"runtime {catalogue.runtime} has scikit-learn {catalogue.sklearn_version}, and this image has "
            f"{sklearn.__version__}: the operator's settings name the wrong trainer image."
        )
        raise Failure(Reason.BAD_SPEC, message)


def _metrics(selection: Selection) -> dict[str, Any]:
    return {
        "metric": selection.metric,
        "candidates": [_score(score) for score in selection.scores],
        "chosen": selection.scores.index(selection.best),
        "warnings": list(selection.warnings),
    }


def _score(score: Score) -> dict[str, Any]:
    setting = score.setting
    item: dict[str, Any] = {
        "name": setting.candidate,
        "estimator": setting.estimator,
        "params": _plain(setting.params),
    }
    if score.error is not None:
        return {**item, "error": score.error}
    return {**item, "folds": list(score.folds), "mean": score.mean, "std": score.std}


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in params.items()}


def _provenance(
    problem: Problem,
    catalogue: Catalogue,
    dataset: Dataset,
    selection: Selection,
    images: Mapping[str, str | None],
    *,
    training_rows: str,
) -> dict[str, Any]:
    """Say what the model was made from. No times and no host names: equal trainings give equal bytes."""
    import numpy as np
    import pandas as pd
    import scipy
    import skops

    training, test = problem.training, int(dataset.test.sum())
    split: dict[str, Any] = {
        "method": problem.method.value,
        "testPercent": training.data.split.test_percent,
        "salt": problem.salt,
        "column": training.data.split.column,
        "trainingRows": training_rows,
    }
    if dataset.cut is not None:
        split["cut"] = {"column": dataset.cut.column, "value": dataset.cut.value}
    return {
        "task": problem.task.value,
        "data": {
            "uri": training.data.uri,
            "digest": dataset.digest,
            "columns": dict(dataset.raw_kinds),
            "rowsWithoutTarget": dataset.rows_without_target,
        },
        "rows": {"train": len(dataset.test) - test, "test": test},
        "split": split,
        "preprocessing": [entry.document() for entry in training.preprocessing or ()],
        "candidate": _score(selection.best),
        "seed": training.seed,
        "runtime": {
            "name": catalogue.runtime,
            "images": {name: image for name, image in images.items() if image},
            "python": ".".join(platform.python_version_tuple()[:2]),
            "versions": {
                "numpy": np.__version__,
                "pandas": pd.__version__,
                "scikit-learn": catalogue.sklearn_version,
                "scipy": scipy.__version__,
                "skops": skops.__version__,
            },
        },
    }


def _empty(directory: Path) -> None:
    """Make the directory, or remove an earlier artifact from it; never anything else.

    Raises Failure (BadSpec) when it holds what is not an artifact's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    items = sorted(directory.iterdir())
    if items and not (directory / artifact.MANIFEST).is_file():
        message = f"{directory} holds {items[0].name}, which is not an artifact's: name an empty directory."
        raise Failure(Reason.BAD_SPEC, message)
    for item in items:
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        else:
            item.unlink()
