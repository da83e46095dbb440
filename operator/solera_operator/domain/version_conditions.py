"""The conditions of a ModelVersion."""

from __future__ import annotations

from solera_operator.domain.assessment import NAME_CONFLICT, Condition
from solera_operator.domain.diagnosis import Failure
from solera_operator.domain.versions import Verdict


def version_conditions(
    *, trained: bool, evaluated: bool, verdict: Verdict, note: Failure | None
) -> tuple[Condition, ...]:
    """Ready, Trained and Evaluated always; Reconciling and Stalled only while they are True.

    Args:
        trained: an artifact is recorded.
        evaluated: the evaluation that the model's gates ask for is recorded.
        verdict: Accepted, Rejected, Failed, Superseded or Pending.
        note: progress, failure, or the gate that was not passed.
    """
    said = note or Failure(verdict.value, _DEFAULT[verdict])
    out = [_ready(verdict, said)]
    if verdict in (Verdict.REJECTED, Verdict.FAILED, Verdict.SUPERSEDED) or said.reason == NAME_CONFLICT:
        out.append(Condition("Stalled", "True", said.reason, said.message))
    elif verdict is Verdict.PENDING:
        out.append(Condition("Reconciling", "True", said.reason, said.message))
    out.append(_stage("Trained", trained, "an artifact is in the store", said))
    out.append(_stage("Evaluated", evaluated, "metrics on held-out rows are in status", said))
    return tuple(out)


_DEFAULT = {
    Verdict.PENDING: "is being made",
    Verdict.ACCEPTED: "every gate was passed",
    Verdict.REJECTED: "a gate was not passed",
    Verdict.FAILED: "the training failed",
    Verdict.SUPERSEDED: "the spec changed before it was trained",
}


def _ready(verdict: Verdict, said: Failure) -> Condition:
    if verdict is Verdict.ACCEPTED:
        return Condition("Ready", "True", "Accepted", said.message)
    return Condition("Ready", "False", said.reason, said.message)


def _stage(kind: str, reached: bool, message: str, said: Failure) -> Condition:
    if reached:
        return Condition(kind, "True", "Recorded", message)
    return Condition(kind, "False", said.reason, said.message)
