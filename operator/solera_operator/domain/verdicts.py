"""A ModelVersion as decisions about its model see it."""

from collections.abc import Sequence

from solera_core.spec import Gate
from solera_operator.api import ModelVersion
from solera_operator.api.modelversion import Verdict as Recorded
from solera_operator.api.trainedmodel import Failure as StoredFailure
from solera_operator.domain.diagnosis import Failure
from solera_operator.domain.fingerprint import evaluation_id
from solera_operator.domain.versions import Verdict, Version


def verdict_of(version: ModelVersion, gates: Sequence[Gate] | None) -> Verdict:
    """How far ``version`` has come; with ``gates``, only an evaluation of just these gates counts."""
    status = version.status
    if status.artifact is None:
        return _untrained(status.last_failure)
    if gates is not None and status.evaluation != evaluation_id(gates, status.artifact.digest):
        return Verdict.PENDING
    if status.verdict is Recorded.ACCEPTED:
        return Verdict.ACCEPTED
    if status.verdict is Recorded.REJECTED:
        return Verdict.REJECTED
    return Verdict.FAILED if status.evaluation and status.last_failure is not None else Verdict.PENDING


def _untrained(failure: StoredFailure | None) -> Verdict:
    if failure is None:
        return Verdict.PENDING
    return Verdict.SUPERSEDED if failure.reason == Verdict.SUPERSEDED.value else Verdict.FAILED


def as_version(version: ModelVersion, token: str, gates: Sequence[Gate]) -> Version:
    """The version as a value. Today's gates count for the versions of today's training only."""
    wanted = version.spec.token == token
    artifact = version.status.artifact
    return Version(
        name=version.metadata.name,
        number=version.spec.number,
        token=version.spec.token,
        uid=version.metadata.uid,
        verdict=verdict_of(version, gates if wanted else None),
        digest=artifact.digest if artifact is not None else "",
        deleting=version.metadata.deletion_timestamp is not None,
    )


def note_of(version: ModelVersion, verdict: Verdict) -> Failure | None:
    """What the version says of its verdict: its failure, the gates it did not pass, or its progress."""
    status = version.status
    if verdict in {Verdict.FAILED, Verdict.SUPERSEDED} and status.last_failure is not None:
        failure = status.last_failure
        return Failure(failure.reason, failure.message, failure.exit_code)
    if verdict is Verdict.REJECTED:
        return Failure("GateFailed", status.message or "a gate was not passed")
    ready = next((c for c in status.conditions if c.type == "Ready"), None)
    if verdict is Verdict.PENDING and ready is not None and ready.status != "True":
        return Failure(ready.reason, ready.message)
    return None
