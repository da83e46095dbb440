"""`python -m solera_trainer train|evaluate|report`: a Job's entry point.

The Job document comes from the variable SOLERA_JOB, or from a file. The result goes to the termination
message and to the last line of stdout; the exit code tells classes of failure apart (see
docs/trainer-contract.md).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from solera_core.failures import EXIT_OK, Failure, Reason
from solera_core.job import ENVIRONMENT_VARIABLE, KINDS, BadJob, Job, parse_job
from solera_core.result import TERMINATION_LOG, encode_message, failure_result
from solera_trainer.machine import cpus, one_thread_each
from solera_trainer.supervision import supervised


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a Job; return its exit code."""
    one_thread_each()
    parser = argparse.ArgumentParser(prog="python -m solera_trainer", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--job", type=Path, help=f"file with the Job document (else ${ENVIRONMENT_VARIABLE})")
    parser.add_argument("--termination-log", type=Path, default=Path(TERMINATION_LOG))
    options = parser.parse_args(arguments)
    try:
        job = _job(options.kind, options.job)
        result = supervised(lambda: _work(job), own_deadline(job.deadline_seconds))
        code = EXIT_OK
    except Failure as failure:
        result, code = failure_result(options.kind, failure), failure.exit_code
    _say(result, options.termination_log)
    return code


def own_deadline(seconds: int) -> float:
    """Return the seconds of work before the Job's own deadline: early enough to say so."""
    return max(1.0, seconds - max(10.0, 0.05 * seconds))


def _job(kind: str, path: Path | None) -> Job:
    try:
        job = parse_job(path.read_text(encoding="utf-8") if path else os.environ[ENVIRONMENT_VARIABLE])
    except KeyError:
        message = f"there is no Job document: set {ENVIRONMENT_VARIABLE} or give --job."
        raise Failure(Reason.BAD_SPEC, message) from None
    except (BadJob, OSError, UnicodeDecodeError) as error:
        raise Failure(Reason.BAD_SPEC, f"{error}.") from error
    if job.kind != kind:
        raise Failure(Reason.BAD_SPEC, f"the Job document is for {job.kind}, not for {kind}.")
    return job


def _work(job: Job) -> dict[str, Any]:
    from solera_core.store import Store
    from solera_trainer.jobs import run_job
    from solera_trainer.sources import DataAccess

    return run_job(job, DataAccess(job.data_defaults), Store(job.store), cpus())


def _say(result: dict[str, Any], log: Path) -> None:
    message = encode_message(result)
    # Outside a pod there is no such file, and the line on stdout is enough.
    with contextlib.suppress(OSError):
        if log.exists():
            log.write_bytes(message)
    sys.stdout.flush()
    sys.stdout.buffer.write(message)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    exit_code = main()
    sys.stderr.flush()
    # A thread may still be computing after a deadline; nothing is left to be saved.
    os._exit(exit_code)
