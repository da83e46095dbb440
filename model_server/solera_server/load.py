"""
From a directory to a predictor that has been seen to work.

The order matters: first the digest, before anything is read; then the documents; then the model, from a
fixed list of types; last the stored examples, which must come out as they did in training.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from solera_core import artifact
from solera_core.failures import ArtifactCorrupt, Failure, Reason
from solera_core.model_file import load_model
from solera_core.schema import Schema
from solera_server.parity import check_examples, reproduces_exactly
from solera_server.predictor import SklearnPredictor

if TYPE_CHECKING:
    from pathlib import Path

    from solera_server.predictor import Predictor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to predict. ``digest`` is the artifact's, verified."""

    schema: Schema
    predictor: Predictor
    digest: str
    sklearn_version: str


def load(directory: Path, digest: str | None) -> LoadedModel:
    """
    Verify, load and check the artifact in ``directory``.

    Without ``digest`` the manifest is taken at its word. Raises Failure: ArtifactCorrupt,
    RuntimeMismatch when another scikit-learn is installed than the model was trained with,
    ParityFailed when the model does not reproduce its examples.
    """
    started = perf_counter()
    if not directory.is_dir():
        raise ArtifactCorrupt(f"{directory} is not a directory; give the directory that holds manifest.json.")
    manifest = artifact.verify(directory, digest)
    schema = Schema.from_json(artifact.read_json(directory, artifact.SCHEMA))
    version = _check_runtime(artifact.read_json(directory, artifact.PROVENANCE))
    model = load_model(directory / artifact.MODEL)
    _check_classes(model, schema)
    _one_thread(model)
    predictor = SklearnPredictor(model, schema)
    exactly = reproduces_exactly(model)
    examples = artifact.read_json(directory, artifact.EXAMPLES)
    rows = check_examples(predictor, schema, examples, exactly=exactly)
    log.info(
        "model loaded",
        extra={
            "digest": manifest.digest,
            "seconds": round(perf_counter() - started, 3),
            "examples": rows,
            "comparison": "bit-equal" if exactly else "1e-9",
        },
    )
    return LoadedModel(schema, predictor, manifest.digest, version)


def _check_runtime(provenance: Any) -> str:
    import sklearn

    runtime = provenance.get("runtime") if isinstance(provenance, dict) else None
    versions = runtime.get("versions") if isinstance(runtime, dict) else None
    trained = versions.get("scikit-learn") if isinstance(versions, dict) else None
    if not isinstance(trained, str):
        raise ArtifactCorrupt("provenance.json does not say which scikit-learn trained the model.")
    here = str(sklearn.__version__)
    if trained.split(".")[:2] != here.split(".")[:2]:
        raise Failure(
            Reason.RUNTIME_MISMATCH,
            f"the model was trained with scikit-learn {trained}, and this server has {here}; "
            f"use a server with scikit-learn {'.'.join(trained.split('.')[:2])}.",
        )
    return here


def _check_classes(model: Any, schema: Schema) -> None:
    if schema.target.classes is None:
        return
    found = getattr(model, "classes_", None)
    listed = None if found is None else found.tolist()
    if listed != list(schema.target.classes):
        raise ArtifactCorrupt("the model's classes are not those of schema.json.")


def _one_thread(model: Any) -> None:
    """
    Set n_jobs to 1 wherever a fitted part has it.

    A pool of threads or processes for a few rows costs more than it brings, and a forest that adds up in
    threads does so in an order that changes.
    """
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list | tuple):
            waiting.extend(part)
        elif hasattr(part, "get_params") and hasattr(part, "__dict__"):
            if getattr(part, "n_jobs", None) is not None:
                part.n_jobs = 1
            waiting.extend(vars(part).values())
