"""The status of a ModelVersion, made from what is recorded and what the next step brought. Pure."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

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
) -> ModelVersionStatus:
    """Status after the step: its result or failure recorded, its conditions made anew."""
    status = _recorded(version, model, step, evaluation, now)
    after = version.model_copy(update={"status": status})
    gates = (model.spec.gates or ()) if evaluation else None
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
    if verdict is Verdict.FAILED and status.last_failure is not None:
        return Failure(status.last_failure.reason, status.last_failure.message)
    reason = "GateFailed" if status.gates else "NoGates"
    return Failure("Accepted" if verdict is Verdict.ACCEPTED else reason, status.message or verdict.value)


def _recorded(
    version: ModelVersion, model: TrainedModel, step: Step, evaluation: str, now: datetime
) -> ModelVersionStatus:
    status, result = version.status, step.result
    match step.act:
        case Act.RECORD_TRAIN if result is not None:
            return status.model_copy(update={**_trained(result, now), "last_failure": None})
        case Act.RECORD_EVALUATE if result is not None:
            judged = _evaluated(result, bool(model.spec.gates))
            return status.model_copy(update={**judged, "evaluation": evaluation, "last_failure": None})
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


def _evaluated(result: Mapping[str, Any], has_gates: bool) -> dict[str, Any]:
    """The fields of status that an evaluation brings."""
    gates = tuple(_gate(gate) for gate in result["gates"])
    accepted = bool(result["passed"]) and has_gates
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


def _gate(gate: Mapping[str, Any]) -> api.GateResult:
    return api.GateResult(
        metric=gate["metric"],
        min=gate.get("min"),
        max=gate.get("max"),
        judge=gate["judge"],
        value=measured(gate.get("value")),
        bound=measured(gate.get("bound")),
        outcome=api.GateOutcome.PASSED if gate["passed"] else api.GateOutcome.FAILED,
        message=gate.get("message") or "",
    )


def _verdict_message(gates: tuple[api.GateResult, ...], *, accepted: bool) -> str:
    if not gates:
        return "spec.gates of the model is empty: nothing says when this version may serve"
    if accepted:
        return "every gate was passed: " + ", ".join(gate.metric for gate in gates)
    failed = [gate for gate in gates if gate.outcome is api.GateOutcome.FAILED]
    return "; ".join(gate.message or f"{gate.metric} did not pass" for gate in failed)[:4096]
