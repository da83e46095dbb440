"""A request as the scheduler sees it, and the prediction of several of them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from solera_server.batch import concatenate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solera_server.codec import Call
    from solera_server.predictor import Outputs, Predictor


class Job(Protocol):
    """
    A request to predict.

    Its methods are called in the order in which they stand here; ``decode``, ``succeed`` and ``fail`` on
    any thread, ``deliver`` on the event loop. ``call`` and ``outputs`` are kept here between them.
    """

    size: int
    """Bytes of what is still to be decoded."""
    since: float
    """When its request was received (perf_counter)."""
    call: Call | None
    outputs: Outputs | None
    """What was predicted; None where the request failed."""

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for the answer any more."""

    def decode(self) -> Call:
        """Raises InputError."""

    def succeed(self, call: Call, outputs: Outputs) -> Any:
        """Return the answer for the outputs of all of the call's rows."""

    def fail(self, error: Exception) -> Any:
        """Return the answer for an error; must not raise."""

    def deliver(self, answer: Any) -> None:
        """Give the answer to whoever waits; must not raise."""


def predict_together(predictor: Predictor, jobs: Sequence[Job]) -> list[Any]:
    """
    Predict decoded jobs in one call, and return their answers in order.

    Where that fails each half is predicted by itself, and so on, so that no error touches another request:
    one bad request among 64 costs a dozen calls more.
    """
    if len(jobs) == 1:
        return [predict_alone(predictor, jobs[0])]
    calls = [_call(job) for job in jobs]
    try:
        outputs = predictor.predict(concatenate([call.batch for call in calls]), _wanted(calls))
    except Exception:  # noqa: BLE001 - whose error it is shows when each is predicted alone
        middle = len(jobs) // 2
        return [*predict_together(predictor, jobs[:middle]), *predict_together(predictor, jobs[middle:])]
    answers = []
    start = 0
    for job, call in zip(jobs, calls, strict=True):
        stop = start + call.batch.rows
        own = {}
        for name in call.outputs:  # no other: what is recorded must not depend on the rest of the turn
            own[name] = outputs[name][start:stop]
        answers.append(_answer(job, call, own))
        start = stop
    return answers


def predict_alone(predictor: Predictor, job: Job) -> Any:
    """Decode a job if that has not been done, predict, and return the answer."""
    try:
        call = job.call
        if call is None:
            call = job.call = job.decode()
        outputs = predictor.predict(call.batch, call.outputs)
    except Exception as error:  # noqa: BLE001 - the job words the answer
        return job.fail(error)
    return _answer(job, call, outputs)


def all_answered(jobs: Sequence[Job]) -> bool:
    """Say whether no job failed: the time of a call that fell apart says nothing of what rows cost."""
    return all(job.outputs is not None for job in jobs)


def join(parts: list[Outputs]) -> Outputs:
    """Put the outputs of consecutive rows together."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _wanted(calls: list[Call]) -> tuple[str, ...]:
    first = calls[0].outputs
    for call in calls:
        if call.outputs != first:
            break
    else:
        return first
    return tuple(dict.fromkeys(name for call in calls for name in call.outputs))


def _answer(job: Job, call: Call, outputs: Outputs) -> Any:
    try:
        answer = job.succeed(call, outputs)
    except Exception as error:  # noqa: BLE001 - the job words the answer
        return job.fail(error)
    job.outputs = outputs
    return answer


def _call(job: Job) -> Call:
    if job.call is None:
        raise AssertionError("jobs are decoded before they are predicted together")
    return job.call
