"""A request as the scheduler sees it, and the prediction of several of them at once."""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from solera_server.batch import concatenate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solera_server.codec import Call
    from solera_server.predictor import Outputs, Predictor

_MANY = 1 << 20
"""More jobs than there ever are."""


class Job(Protocol):
    """
    A request to predict.

    Its methods are called in the order in which they stand here; ``decode``, ``succeed`` and ``fail`` on
    any thread, ``decode_short`` and ``deliver`` on the event loop. ``call`` and ``outputs`` are kept here
    between them.
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

    def decode_short(self) -> Call | None:
        """Decode what is short work; None where it is not, or may not be. Raises InputError."""

    def decode(self) -> Call:
        """Raises InputError."""

    def succeed(self, call: Call, outputs: Outputs) -> Any:
        """Return the answer for the outputs of all of the call's rows."""

    def fail(self, error: Exception) -> Any:
        """Return the answer for an error; must not raise."""

    def deliver(self, answer: Any) -> None:
        """Give the answer to whoever waits; must not raise."""


class Merger:
    """
    Predicts decoded jobs in calls of several, so that no error touches another request.

    Where a call fails, half as many are predicted together, down to each bad request alone; where one is
    answered, twice as many. So one bad request among 64 costs a dozen calls more, and where all are bad each
    costs one. How many it were last holds for the next jobs too: bad ones seldom come alone.
    """

    def __init__(self) -> None:
        self._most = _MANY
        self.whole = True
        """Whether one call answered all of the last jobs; else its time says nothing of what rows cost."""

    def predict(self, predictor: Predictor, jobs: Sequence[Job], deadline: float = math.inf) -> list[Any]:
        """
        Return the answers of the jobs in their order.

        After ``deadline`` (perf_counter) no call is begun but the first: then there are answers of the first
        jobs only, maybe of none. Who calls again with the others gets on with them all the same.
        """
        answers: list[Any] = []
        suspected = calls = start = 0
        while start < len(jobs) and (not calls or perf_counter() < deadline):
            calls += 1
            stop = start + self._most
            if start < suspected:  # one of those up to there is bad: all of them together need not be tried
                stop = min(stop, start + max(1, (suspected - start) // 2))
            group = jobs[start:stop]
            found = _predict_group(predictor, group)
            if found is None:
                suspected = start + len(group)
                self._most = len(group) // 2
                continue
            answers += found
            start += len(group)
            if group[0].outputs is not None:
                self._most = min(2 * self._most, _MANY)
        self.whole = calls == 1 and start == len(jobs) and all(job.outputs is not None for job in jobs)
        return answers


def _predict_group(predictor: Predictor, jobs: Sequence[Job]) -> list[Any] | None:
    """Predict jobs in one call; None where that fails and one of several is to blame."""
    if len(jobs) == 1:
        return [predict_alone(predictor, jobs[0])]
    calls = [_call(job) for job in jobs]
    try:
        outputs = predictor.predict(concatenate([call.batch for call in calls]), _wanted(calls))
    except Exception:  # noqa: BLE001 - whose error it is shows when each is predicted alone
        return None
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
