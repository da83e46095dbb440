"""The status of a TrainedModel, made from what was seen. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from solera_operator.api import ModelVersion, TrainedModel, TrainedModelStatus
from solera_operator.api import trainedmodel as api
from solera_operator.api.objects import Condition as StoredCondition
from solera_operator.controllers.gateways import Listener
from solera_operator.controllers.stored import Stored
from solera_operator.domain.assessment import Condition, Situation, conditions, whole
from solera_operator.domain.diagnosis import Failure, reason_word
from solera_operator.domain.observed import Deployment, Route
from solera_operator.domain.promotion import Champion, Pin, pin_waits
from solera_operator.domain.status import timed
from solera_operator.domain.verdicts import note_of
from solera_operator.domain.versions import Verdict, Version, wanted_version
from solera_operator.resources.names import service_address


@dataclass(frozen=True, slots=True)
class Seen:
    """All that status depends on."""

    model: TrainedModel
    versions: Sequence[Version]
    by_name: Mapping[str, ModelVersion]
    token: str
    deployments: Mapping[str, Deployment]
    target: str
    refusal: Failure | None
    server_failure: Failure | None
    route: Route | None
    listener: Listener | None
    now: datetime


def desired_status(seen: Seen) -> TrainedModelStatus:
    """Status as it should be; what only other steps write (champion, lastVersion) is kept."""
    model, before = seen.model, seen.model.status
    situation = _situation(seen)
    return TrainedModelStatus(
        observed_generation=model.metadata.generation,
        url=_url(seen),
        address=_address(seen),
        champion=before.champion,
        serving=_serving(seen),
        candidate=_candidate(seen, situation),
        previous=previous_version(model, seen.target, seen.now, seen.deployments),
        last_version=before.last_version,
        rejected=before.rejected,
        last_failure=_last_failure(seen, situation),
        conditions=timed(conditions(situation), before.conditions, model.metadata.generation, seen.now),
    )


def warm_until(model: TrainedModel, target: str, now: datetime) -> dict[str, datetime]:
    """Displaced versions and when their pods go.

    Traffic may have left a version (``status.serving``) whose end is not in status yet: its window begins
    now, so that a crash right after the turn costs nobody the way back.
    """
    status = model.status
    until = {status.previous.version: status.previous.until} if status.previous else {}
    if status.serving is not None and target and status.serving.version != target:
        window = timedelta(seconds=model.spec.serving.rollback_window_seconds())
        until[status.serving.version] = now + window
    return until


def turned(model: TrainedModel, target: str) -> datetime | None:
    """When traffic turned to ``target``, as far as status knows."""
    serving = model.status.serving
    return serving.since if serving is not None and serving.version == target else None


def previous_version(
    model: TrainedModel, target: str, now: datetime, deployments: Mapping[str, Deployment]
) -> api.PreviousVersion | None:
    """The displaced version that is kept warm, as status shows it."""
    status = model.status
    until = warm_until(model, target, now)
    if status.serving is not None and status.serving.version in until:
        displaced, digest = status.serving.version, status.serving.digest
    elif status.previous is not None and status.previous.version in deployments:
        displaced, digest = status.previous.version, status.previous.digest
    else:
        return None
    if displaced == target or displaced not in deployments:
        return None
    return api.PreviousVersion(version=displaced, digest=digest, until=until[displaced])


def _situation(seen: Seen) -> Situation:
    model = seen.model
    wanted = wanted_version(seen.versions, seen.token)
    recorded = model.status.champion
    champion = (
        Champion(recorded.version, recorded.digest, recorded.revision, recorded.reason) if recorded else None
    )
    own = seen.deployments.get(champion.version) if champion else None
    behind = seen.deployments.get(seen.target)
    problem, pending = _route(seen)
    return Situation(
        refusal=seen.refusal,
        wanted=wanted,
        wanted_note=note_of(seen.by_name[wanted.name], wanted.verdict) if wanted else None,
        has_gates=bool(model.spec.gates),
        champion=champion,
        target=seen.target,
        champion_ready=own.ready if own else 0,
        champion_size=own.replicas if own else model.spec.serving.replicas.min,
        champion_minimum=model.spec.serving.replicas.min,
        target_ready=behind.ready if behind else 0,
        server_failure=seen.server_failure,
        route_problem=problem,
        route_pending=pending,
        pinned=model.spec.serving.pin is not None,
        pin_waits=_pin_waits(seen),
        rolling=own is not None and _rolling(model, own),
    )


def _pin_waits(seen: Seen) -> Failure | None:
    pin = seen.model.spec.serving.pin
    found = pin_waits(Pin(pin.version, pin.digest or ""), seen.versions) if pin is not None else None
    return Failure(found.reason, found.message) if found is not None else None


def _rolling(model: TrainedModel, deployment: Deployment) -> bool:
    """Whether pods still follow an earlier spec.

    The autoscaler's changes move the Deployment's generation too: that its controller has not seen the
    newest one counts only until the model was Ready with its own current generation.
    """
    if not deployment.current:
        ready = next((c for c in model.status.conditions if c.type == "Ready"), None)
        carried_out = (
            ready is not None
            and ready.status == "True"
            and ready.observed_generation == model.metadata.generation
        )
        return not carried_out
    return deployment.updated < deployment.total


def _route(seen: Seen) -> tuple[Failure | None, bool]:
    if seen.model.spec.serving.gateway is None or seen.model.status.champion is None:
        return None, False
    if seen.listener is not None and seen.listener.problem:
        return Failure("GatewayNotFound", seen.listener.problem), False
    if seen.route is None or seen.route.accepted is None:
        return None, True
    if not seen.route.accepted:
        return _refused(seen.route), False
    return None, False


def _refused(found: Route) -> Failure:
    return Failure(reason_word(found.reason, "RouteRefused"), f"HTTPRoute: {found.message}")


def _url(seen: Seen) -> str | None:
    if not seen.target:
        return None
    gateway = seen.model.spec.serving.gateway
    if gateway is None:
        return service_address(seen.model.metadata.name, seen.model.metadata.namespace)
    scheme = (seen.listener.scheme if seen.listener else None) or "http"
    return f"{scheme}://{gateway.hostname}"


def _address(seen: Seen) -> api.Address | None:
    if not seen.target:
        return None
    meta = seen.model.metadata
    return api.Address(url=service_address(meta.name, meta.namespace))


def _serving(seen: Seen) -> api.ServedVersion | None:
    deployment = seen.deployments.get(seen.target)
    digest = next((v.digest for v in seen.versions if v.name == seen.target), "")
    before = seen.model.status.serving
    if not digest and before is not None and before.version == seen.target:
        digest = before.digest
    if not seen.target or not digest:
        return None
    return api.ServedVersion(
        version=seen.target,
        digest=digest,
        replicas=deployment.replicas if deployment else 0,
        ready_replicas=deployment.ready if deployment else 0,
        since=before.since if before is not None and before.version == seen.target else seen.now,
    )


def _candidate(seen: Seen, situation: Situation) -> api.CandidateVersion | None:
    """The version on its way: being made and judged, or promoted and not serving yet."""
    wanted = situation.wanted
    champion = situation.champion
    if wanted is not None and wanted.verdict is Verdict.PENDING:
        name, where = wanted.name, situation.wanted_note or Failure("Pending", "is being made")
    elif champion is not None and champion.version != seen.target and champion.version in seen.by_name:
        name, where = champion.version, Failure("Rollout", "its servers are being brought up")
    else:
        return None
    version = seen.by_name[name]
    artifact = version.status.artifact
    return api.CandidateVersion(
        version=name,
        digest=artifact.digest if artifact is not None else None,
        since=version.metadata.creation_timestamp or seen.now,
        reason=where.reason,
        message=where.message,
    )


def _last_failure(seen: Seen, situation: Situation) -> api.Failure | None:
    """The newest failure; it stays until the wanted version is accepted and serves."""
    before = seen.model.status.last_failure
    failure, version = seen.refusal, None
    if failure is None and situation.wanted is not None and situation.wanted.verdict is Verdict.FAILED:
        failure, version = situation.wanted_note, situation.wanted.name
    if failure is None and seen.server_failure is not None and not whole(situation):
        failure, version = seen.server_failure, situation.champion.version if situation.champion else None
    if failure is not None:
        same = before is not None and (before.reason, before.version) == (failure.reason, version)
        return api.Failure(
            reason=failure.reason,
            message=failure.message[:4096],
            exit_code=failure.exit_code,
            time=before.time if before is not None and same else seen.now,
            version=version,
        )
    ready = conditions(situation)[0]
    return None if ready.status == "True" else before


def unreadable_conditions(
    stored: Stored[TrainedModel], problem: str, now: datetime
) -> list[Mapping[str, Any]]:
    """Ready and Stalled for an object that today's types cannot read; its other conditions stay."""
    before = list(stored.status.get("conditions") or ())
    known = [StoredCondition.model_validate(c) for c in before if c.get("type") in {"Ready", "Stalled"}]
    message = f"the stored object does not fit: {problem}"
    new = timed(
        (
            Condition("Ready", "False", "InvalidSpec", message),
            Condition("Stalled", "True", "InvalidSpec", message),
        ),
        known,
        stored.generation,
        now,
    )
    others = [c for c in before if c.get("type") not in {"Ready", "Stalled", "Reconciling"}]
    return [*(c.document() for c in new), *others]
