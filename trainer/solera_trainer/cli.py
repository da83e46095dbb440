"""`solera-train`: train and evaluate a TrainedModel's YAML on a laptop, without a cluster."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solera_core.failures import EXIT_OK, Failure, Reason
from solera_trainer.machine import cpus, one_thread_each
from solera_trainer.supervision import supervised

if TYPE_CHECKING:
    from solera_trainer.problem import Problem

EXIT_GATES = 1
_MAX_SPEC_BYTES = 1024 * 1024
_EPILOG = """exit codes: 0 trained, and every gate passed (or there is none); 1 a gate did not pass;
64 and above: it failed, as docs/trainer-contract.md lists"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `solera-train`; return its exit code."""
    one_thread_each()
    parser = argparse.ArgumentParser(
        prog="solera-train",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--spec", type=Path, required=True, help="YAML file with a TrainedModel")
    parser.add_argument("--out", type=Path, required=True, help="directory for the artifact")
    parser.add_argument(
        "--data", type=Path, nargs="+", metavar="FILE", help="read these files instead of training.data.uri"
    )
    options = parser.parse_args(arguments)
    try:
        name, problem = _read_spec(options.spec)
        answer = supervised(
            lambda: _work(name, problem, options.out, options.data), problem.training.deadline_seconds()
        )
    except Failure as failure:
        sys.stderr.write(f"solera-train: {failure.reason}: {failure.message}\n")
        return failure.exit_code
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(answer["summary"])
    return EXIT_OK if answer["passed"] else EXIT_GATES


def _read_spec(path: Path) -> tuple[str, Problem]:
    """Return the model's name and the problem that the YAML states. Raises Failure (BadSpec)."""
    import yaml

    from solera_core.salt import split_salt
    from solera_core.spec import Invalid, parse_manifest
    from solera_trainer.problem import Problem

    try:
        if path.stat().st_size > _MAX_SPEC_BYTES:
            raise Failure(Reason.BAD_SPEC, f"{path} has more than {_MAX_SPEC_BYTES} bytes.")
        documents = [item for item in yaml.safe_load_all(path.read_text(encoding="utf-8")) if item]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Failure(Reason.BAD_SPEC, f"{path} cannot be read: {error}") from error
    models = [item for item in documents if isinstance(item, dict) and item.get("kind") == "TrainedModel"]
    parsed = parse_manifest(models[0] if len(models) == 1 else documents[0] if len(documents) == 1 else None)
    if len(models) > 1:
        raise Failure(Reason.BAD_SPEC, f"{path} holds {len(models)} TrainedModels: leave one in it.")
    if isinstance(parsed, Invalid):
        raise Failure(Reason.BAD_SPEC, f"{path}:\n{parsed}")
    name, spec = parsed
    salt = split_salt(name, spec.training.data.split.seed)
    return name, Problem(spec.task, spec.training, salt, tuple(spec.gates or ()))


def _work(name: str, problem: Problem, out: Path, data: list[Path] | None) -> dict[str, Any]:
    from solera_core import artifact
    from solera_core.canonical import canonical_json
    from solera_core.catalogue import DEFAULT_RUNTIME
    from solera_trainer.evaluation import evaluate, evaluate_result
    from solera_trainer.sources import DataAccess, plain_files
    from solera_trainer.summary import summary
    from solera_trainer.training import check_spec, read_data, train, train_result

    catalogue = check_spec(problem, DEFAULT_RUNTIME)
    access = DataAccess(credentials=None, volume=Path("/nonexistent"), any_https_host=True)
    raw = read_data(problem.training, access, plain_files(data) if data else None)
    trained = train(problem, catalogue, raw, out, cpus=cpus(), images={})
    digest = trained.manifest.digest
    evaluated = evaluate(problem, catalogue, raw, out, digest, training_rows=trained.training_rows)
    result = train_result(trained, out.resolve().as_uri())
    result["evaluation"] = evaluate_result(evaluated, digest.removeprefix("sha256:")[:8])
    (out / artifact.RESULT).write_bytes(canonical_json(result))
    return {
        "summary": summary(name, problem, trained, evaluated, out),
        "passed": evaluated.passed or not evaluated.verdicts,
    }


def run() -> None:
    """Leave at once: after a deadline a thread may still be computing."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
