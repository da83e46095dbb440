"""The status of a ModelVersion, made from what is recorded and what the next step brought. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from solera_core.spec import Gate
from solera_operator.api import ModelVersion, ModelVersionStatus, TrainedModel
from solera_operator.api import modelversion as api
from solera_operator.api.trainedmodel import Failure as StoredFailure
from solera_operator.domain.diagnosis import Failure
from solera_operator.domain.lifecycle import Act, Step
from solera_operator.domain.status import timed
from solera_operator.domain.verdicts import verdict_of
from solera_operator.domain.version_conditions import version_conditions
from solera_operator.domain.versions import Verdict


def desired_status(
    version: ModelVersion, model: TrainedModel, step: Step, evaluation: str, now: datetime
) -> tuple[ModelVersionStatus, Step]:
    """Status after the step: its result or failure recorded, its conditions made anew.

    Returns with it the step as it was carried out: a result that cannot be recorded is a failure.
    """
    try:
        status = _recorded(version, model, step, evaluation, now)
    except (KeyError, TypeError, ValueError) as error:  # a ValidationError is a ValueError
        step = replace(step, act=Act.RECORD_FAILURE, note=_unreadable(error), result=None)
        status = _recorded(version, model, step, evaluation, now)
    gates = (model.spec.gates or ()) if evaluation else None
    return _with_conditions(version, status, step, gates, now), step


def _unreadable(error: Exception) -> Failure:
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
    return Failure(
        "ResultUnreadable",
        f"the Job's result does not fit what this operator knows ({said}); are the trainer's image and the "
        "operator of one release?",
    )


def _with_conditions(
    version: ModelVersion,
    status: ModelVersionStatus,
    step: Step,
    gates: Sequence[Gate] | None,
    now: datetime,
) -> ModelVersionStatus:
    after = version.model_copy(update={"status": status})
    if step.act is Act.RECORD_TRAIN:
        verdict = Verdict.PENDING
        note: Failure | None = Failure("Evaluating", "evaluation on held-out rows begins")
    else:
        verdict = verdict_of(after, gates)
        note = _note(after, verdict, step)
    conditions = version_conditions(
        trained=status.artifact is not None,
        evaluated=status.verdict is not None and verdict is not Verdict.PENDING,
        verdict=verdict,
        note=note,
    )
    return status.model_copy(
        update={
            "observed_generation": version.metadata.generation,
            "conditions": timed(conditions, version.status.conditions, version.metadata.generation, now),
        }
    )


def _note(version: ModelVersion, verdict: Verdict, step: Step) -> Failure | None:
    status = version.status
    if verdict is Verdict.PENDING:
        return step.note or Failure("Trained", "is trained; it is judged when its model's spec wants it")
    if verdict in {Verdict.FAILED, Verdict.SUPERSEDED} and status.last_failure is not None:
        return Failure(status.last_failure.reason, status.last_failure.message)
    reason = "GateFailed" if status.gates else "NoGates"
    return Failure("Accepted" if verdict is Verdict.ACCEPTED else reason, status.message or verdict.value)


def _recorded(
    version: ModelVersion, model: TrainedModel, step: Step, evaluation: str, now: datetime
) -> ModelVersionStatus:
    status, result = version.status, step.result
    match step.act:
        case Act.RECORD_TRAIN if result is not None:
            return _checked(status, {**_trained(result, now), "last_failure": None})
        case Act.RECORD_EVALUATE if result is not None:
            judged = _evaluated(result, model.spec.gates or ())
            return _checked(status, {**judged, "evaluation": evaluation, "last_failure": None})
        case Act.RECORD_FAILURE if step.note is not None:
            failure = StoredFailure(
                reason=step.note.reason,
                message=step.note.message,
                exit_code=step.note.exit_code,
                time=now,
                version=version.metadata.name,
            )
            unjudged: dict[str, Any] = {"last_failure": failure}
            if status.artifact is not None:
                unjudged |= {"evaluation": evaluation, "verdict": None, "message": None, "gates": ()}
            return status.model_copy(update=unjudged)
    return status


def _checked(status: ModelVersionStatus, update: Mapping[str, Any]) -> ModelVersionStatus:
    """Status with what a result brings, checked as a whole: a copy alone takes any value."""
    return ModelVersionStatus.model_validate(status.model_copy(update=update).document())


def _trained(result: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The fields of status that a train result brings. It was checked when it was read."""
    artifact, candidate, rows = result["artifact"], result["candidate"], result["rows"]
    return {
        "artifact": api.Artifact(
            uri=artifact["uri"], digest=artifact["digest"], size_bytes=artifact.get("sizeBytes", 0)
        ),
        "candidate": api.ChosenCandidate(
            name=candidate["name"],
            estimator=candidate["estimator"],
            params=candidate.get("params") or {},
            cv_metric=candidate["cvMetric"],
            cv_score=measured(candidate["cvScore"]) or "0",
            cv_std=measured(candidate.get("cvStd")),
        ),
        "data_digest": result.get("dataDigest"),
        "schema_digest": result.get("schemaDigest"),
        "rows": api.Rows(train=rows["train"], test=rows["test"]),
        "trained_at": now,
    }


def _evaluated(result: Mapping[str, Any], asked: Sequence[Gate]) -> dict[str, Any]:
    """The fields of status that an evaluation brings; ``asked`` are the gates that its Job was given.

    A message that had to be short holds no limits, and no metrics beside the gates'.
    """
    gates = tuple(_gate(gate, said) for gate, said in zip(asked, result["gates"], strict=True))
    accepted = bool(result["passed"]) and bool(asked)
    return {
        "metrics": tuple(
            api.Metric(
                name=metric["name"],
                value=value,
                lower=measured(metric.get("lower")),
                upper=measured(metric.get("upper")),
            )
            for metric in result["metrics"]
            if (value := measured(metric.get("value"))) is not None
        ),
        "gates": gates,
        "verdict": api.Verdict.ACCEPTED if accepted else api.Verdict.REJECTED,
        "message": _verdict_message(gates, accepted=accepted),
    }


def measured(value: float | str | None) -> str | None:
    """A measured number as status holds it, in six digits; None for one that is absent or not finite.

    Nothing is decided on it: gates were judged by the Job, on the number itself.
    """
    if value is None or not math.isfinite(number := float(value)):
        return None
    return repr(float(f"{number:.6g}"))


def _gate(gate: Gate, said: Mapping[str, Any]) -> api.GateResult:
    if said["metric"] != gate.metric:
        raise ValueError(f"a verdict about {said['metric']} where the gate is about {gate.metric}")
    return api.GateResult(
        metric=gate.metric,
        min=gate.min,
        max=gate.max,
        judge=gate.judge,
        value=measured(said.get("value")),
        bound=measured(said.get("bound")),
        outcome=api.GateOutcome.PASSED if said["passed"] else api.GateOutcome.FAILED,
        message=said.get("message") or "",
    )


def _verdict_message(gates: tuple[api.GateResult, ...], *, accepted: bool) -> str:
    if not gates:
        return "spec.gates of the model is empty: nothing says when this version may serve"
    if accepted:
        return "every gate was passed: " + ", ".join(gate.metric for gate in gates)
    failed = [gate for gate in gates if gate.outcome is api.GateOutcome.FAILED]
    return "; ".join(gate.message or f"{gate.metric} did not pass" for gate in failed)[:4096]
