"""
From a directory to a predictor that has been seen to work.

The order matters: first the digest, before anything is read; then the documents; then the model; last the
stored examples, which must come out as they did in training. A model is compiled if it can be; scikit-learn
is imported only for one that cannot, or whose compiled form fails the examples, and loads from a fixed list
of types.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from solera_core import artifact
from solera_core.failures import ArtifactCorrupt, Failure, Reason
from solera_core.model_file import load_model
from solera_core.schema import Schema
from solera_server.compiled.pipeline import CompiledPredictor, compile_model
from solera_server.compiled.refusals import NotCompilable
from solera_server.compiled.registry import VERSIONS, minor
from solera_server.explain.explainer import Explainer, ModelFile, column_means, explainer_of
from solera_server.explain.method import NotExplainable
from solera_server.memory import give_back
from solera_server.page.card import Card, first_example
from solera_server.parity import check_examples, reproduces_exactly
from solera_server.predictor import SklearnPredictor

if TYPE_CHECKING:
    from pathlib import Path

    from solera_server.predictor import Predictor

log = logging.getLogger(__name__)

# From this size of a model's file on, what loading leaves behind is worth some 20 ms of search for garbage.
_LARGE_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to predict. ``digest`` is the artifact's, verified."""

    schema: Schema
    predictor: Predictor
    digest: str
    sklearn_version: str
    """The version that trained a compiled model; the installed one where scikit-learn itself predicts."""
    explainer: Explainer | None = None
    not_explained: str = ""
    """Why there is no explainer."""
    card: Card = field(default_factory=Card)


def load(directory: Path, digest: str | None) -> LoadedModel:
    """
    Verify, load and check the artifact in ``directory``.

    Without ``digest`` the manifest is taken at its word. Raises Failure: ArtifactCorrupt,
    RuntimeMismatch when the model needs scikit-learn and another is installed than trained it,
    ParityFailed when the model does not reproduce its examples.
    """
    started = perf_counter()
    if not directory.is_dir():
        raise ArtifactCorrupt(f"{directory} is not a directory; give the directory that holds manifest.json.")
    manifest = artifact.verify(directory, digest)
    schema = Schema.from_json(artifact.read_json(directory, artifact.SCHEMA))
    provenance = artifact.read_json(directory, artifact.PROVENANCE)
    trained = _trained_with(provenance)
    examples = artifact.read_json(directory, artifact.EXAMPLES)
    model_file = directory / artifact.MODEL
    predictor, rows, reason = _compiled(model_file, schema, trained, examples)
    version = trained
    if predictor is None:
        version = _check_runtime(trained)
        try:
            predictor, rows = _by_sklearn(model_file, schema, examples, reason)
        except (Failure, MemoryError):
            raise
        except Exception as error:
            # What the file made of itself is foreign, and fails as it likes.
            log.warning("the model does not answer its examples", exc_info=True)
            message = f"the model does not answer its examples: {type(error).__name__}: {error}"
            raise ArtifactCorrupt(message) from error
    log.info(
        "model loaded",
        extra={
            "digest": manifest.digest,
            "seconds": round(perf_counter() - started, 3),
            "examples": rows,
            "comparison": "bit-equal" if predictor.portable else "1e-9",
            "predictor": predictor.kind,
            "native": predictor.native,
            **({} if predictor.reason is None else {"not_compiled": predictor.reason}),
        },
    )
    explainer, not_explained = _explainer(directory, manifest, predictor)
    if model_file.stat().st_size > _LARGE_BYTES:
        give_back()
    card = Card(
        metrics=artifact.read_json(directory, artifact.METRICS),
        provenance=provenance,
        example=first_example(examples),
    )
    return LoadedModel(schema, predictor, manifest.digest, version, explainer, not_explained, card)


def _explainer(
    directory: Path, manifest: artifact.Manifest, predictor: Predictor
) -> tuple[Explainer | None, str]:
    """Return what explains the predictor's answers, or None and why nothing does."""
    means = None
    if artifact.EXPLANATION in manifest.files:
        means = column_means(artifact.read_json(directory, artifact.EXPLANATION))
    file = ModelFile(directory / artifact.MODEL, manifest.files[artifact.MODEL])
    try:
        return explainer_of(predictor, file, means), ""
    except NotExplainable as error:
        return None, str(error)
    finally:
        if isinstance(predictor, CompiledPredictor):
            predictor.fitted = None


def _compiled(
    model_file: Path, schema: Schema, trained: str, examples: Any
) -> tuple[Predictor | None, int, str]:
    """
    Return a compiled predictor that reproduces the examples, with their number; or None, and the reason.

    Raises ArtifactCorrupt.
    """
    if minor(trained) not in VERSIONS:
        return None, 0, f"there are no compiled forms for scikit-learn {trained}"
    try:
        predictor = compile_model(model_file, schema)
    except NotCompilable as error:
        return None, 0, str(error)
    except (Failure, MemoryError):
        raise
    except Exception as error:
        # The file is foreign: what its compilation stumbles over is left to scikit-learn's loader.
        log.warning("the model could not be compiled", exc_info=True)
        return None, 0, f"compiling failed: {type(error).__name__}"
    # Never serve numbers that differ; scikit-learn's own answers decide whether the artifact is at fault.
    try:
        return predictor, check_examples(predictor, schema, examples, exactly=predictor.portable), ""
    except Failure as failure:
        log.warning("the compiled model is not used", extra={"failure": failure.message})
        return None, 0, f"the compiled form failed its check: {failure.message}"
    except MemoryError:
        raise
    except Exception as error:
        log.warning("the compiled model is not used", exc_info=True)
        return None, 0, f"the compiled form failed its check: {type(error).__name__}"


def _by_sklearn(model_file: Path, schema: Schema, examples: Any, reason: str) -> tuple[Predictor, int]:
    """Return scikit-learn's predictor, with the number of examples that it reproduces."""
    model = load_model(model_file)
    _check_classes(model, schema)
    _one_thread(model)
    exactly = reproduces_exactly(model)
    predictor = SklearnPredictor(model, schema, reason, exact=exactly)
    return predictor, check_examples(predictor, schema, examples, exactly=exactly)


def _trained_with(provenance: Any) -> str:
    runtime = provenance.get("runtime") if isinstance(provenance, dict) else None
    versions = runtime.get("versions") if isinstance(runtime, dict) else None
    trained = versions.get("scikit-learn") if isinstance(versions, dict) else None
    if not isinstance(trained, str):
        raise ArtifactCorrupt("provenance.json does not say which scikit-learn trained the model.")
    return trained


def _check_runtime(trained: str) -> str:
    """Return the version of the installed scikit-learn, which must be of the model's minor version."""
    import importlib.metadata

    try:
        here = importlib.metadata.version("scikit-learn")
    except importlib.metadata.PackageNotFoundError:
        here = "none"
    if minor(trained) != minor(here):
        raise Failure(
            Reason.RUNTIME_MISMATCH,
            f"the model was trained with scikit-learn {trained}, and this server has {here}; "
            f"use a server with scikit-learn {minor(trained)}.",
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
