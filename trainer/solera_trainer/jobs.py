"""The three Jobs: train, evaluate, report. Each does its work and returns its result."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from solera_core.artifact import PROVENANCE, RESULT, read_json
from solera_core.canonical import canonical_json
from solera_core.failures import ArtifactCorrupt, Failure, Reason, StoreUnavailable
from solera_core.job import Job
from solera_core.result import BadResult, parse_result
from solera_core.spec import Gate, Invalid, Task, Training, parse
from solera_core.store import NotFound, Store, version_uri
from solera_trainer.problem import Problem
from solera_trainer.sources import DataAccess
from solera_trainer.training import check_spec, read_data, train, train_result
from solera_trainer.training_rows import FILE, most_bytes

MAX_RESULT_BYTES = 1024 * 1024


def run_job(job: Job, access: DataAccess, store: Store, cpus: int) -> dict[str, Any]:
    """Do the Job's work. Raises Failure."""
    if job.kind == "report":
        return report_job(job, store)
    return train_job(job, access, store, cpus) if job.kind == "train" else evaluate_job(job, access, store)


def problem_of(job: Job) -> Problem:
    """Return the problem that the Job's document states. Raises Failure (BadSpec)."""
    if job.task not in set(Task):
        raise Failure(Reason.BAD_SPEC, f"task: there is no task {job.task}.")
    training = parse(Training, dict(job.training), at="spec.training")
    gates = [parse(Gate, dict(gate), at=f"spec.gates[{index}]") for index, gate in enumerate(job.gates)]
    wrong = [str(item) for item in (training, *gates) if isinstance(item, Invalid)]
    if wrong or isinstance(training, Invalid):
        raise Failure(Reason.BAD_SPEC, "\n".join(wrong))
    return Problem(
        Task(job.task), training, job.salt, tuple(gate for gate in gates if isinstance(gate, Gate))
    )


def train_job(job: Job, access: DataAccess, store: Store, cpus: int) -> dict[str, Any]:
    """Train, write the artifact, the hashes of the training rows, then the commit mark.

    A retry that finds the commit mark says it again: a pod may be lost after its work.
    """
    mark = f"{_version(job, store)}/{RESULT}"
    done = _recorded(store, mark, "train")
    if done is not None:
        return done
    problem = problem_of(job)
    catalogue = check_spec(problem, job.runtime.name, job.runtime.sklearn_version)
    raw = read_data(problem.training, access)
    images = {"trainer": job.runtime.trainer_image, "server": job.runtime.server_image}
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "artifact"
        trained = train(problem, catalogue, raw, directory, cpus=cpus, images=images)
        uri, _ = store.put_artifact(directory, job.namespace, job.model)
    result = train_result(trained, uri)
    encoded = canonical_json(result)
    store.write(f"{uri}/{RESULT}", encoded)
    store.write(f"{_version(job, store)}/{FILE}", trained.training_rows)
    store.write(mark, encoded)
    return result


def evaluate_job(job: Job, access: DataAccess, store: Store) -> dict[str, Any]:
    """Judge the artifact, and write the verdict."""
    from solera_trainer.evaluation import evaluate, evaluate_result

    if job.artifact is None or job.evaluation is None:
        raise Failure(Reason.BAD_SPEC, "an evaluation needs artifact and evaluation.")
    problem = problem_of(job)
    catalogue = check_spec(problem, job.runtime.name, job.runtime.sklearn_version)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "artifact"
        try:
            store.fetch_artifact(job.artifact.uri, job.artifact.digest, directory)
        except NotFound as error:
            message = f"there is no artifact at {job.artifact.uri}: {error}."
            raise ArtifactCorrupt(message) from error
        raw = read_data(problem.training, access)
        rows = _training_rows(job, store, directory)
        evaluated = evaluate(problem, catalogue, raw, directory, job.artifact.digest, training_rows=rows)
    result = evaluate_result(evaluated, job.evaluation)
    store.write(f"{_version(job, store)}/evaluation-{job.evaluation}.json", canonical_json(result))
    return result


def _training_rows(job: Job, store: Store, directory: Path) -> bytes:
    """Return the version's file of that name. Raises ArtifactCorrupt when it is gone."""
    provenance = read_json(directory, PROVENANCE)
    uri = f"{_version(job, store)}/{FILE}"
    try:
        return store.read(uri, most_bytes(int(provenance["rows"]["train"])))
    except NotFound as error:
        message = (
            f"{uri} is gone, so that held-out rows cannot be told from training rows: train a new version."
        )
        raise ArtifactCorrupt(message) from error


def report_job(job: Job, store: Store) -> dict[str, Any]:
    """Say again what a lost pod said: the evaluation when the document names one, otherwise the training."""
    name = f"evaluation-{job.evaluation}.json" if job.evaluation else RESULT
    kind = "evaluate" if job.evaluation else "train"
    uri = f"{_version(job, store)}/{name}"
    result = _recorded(store, uri, kind)
    if result is None:
        message = f"there is no result at {uri}: the work was not finished."
        raise Failure(Reason.RESULT_NOT_FOUND, message)
    return result


def _version(job: Job, store: Store) -> str:
    return version_uri(store.uri, job.namespace, job.model, job.version_folder)


def _recorded(store: Store, uri: str, kind: str) -> dict[str, Any] | None:
    try:
        result = parse_result(store.read(uri, MAX_RESULT_BYTES))
    except NotFound:
        return None
    except BadResult as error:
        raise StoreUnavailable(f"{uri} does not hold a result: {error}.") from error
    _require_kind(result, kind, uri)
    return result


def _require_kind(result: Mapping[str, Any], kind: str, uri: str) -> None:
    if result["kind"] != kind:
        raise StoreUnavailable(f"{uri} holds the result of {result['kind']}, not of {kind}.")
