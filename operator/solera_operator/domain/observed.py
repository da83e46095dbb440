"""What Solera looks at in the objects of Kubernetes, as frozen values.

Each ``project_*`` turns an object as the API server sends it into the few fields that decisions use, so
that the caches stay small and the decisions can be tested with plain values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Meta:
    """The identity of an observed object."""

    name: str
    namespace: str
    uid: str
    resource_version: str
    labels: Mapping[str, str] = field(default_factory=dict)
    owner_uid: str | None = None
    created: datetime | None = None
    deleting: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return (self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Container:
    """The state of one container: ``state`` is waiting, running or terminated."""

    name: str
    state: str
    init: bool = False
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    restarts: int = 0
    last_reason: str = ""
    last_message: str = ""
    last_exit_code: int | None = None
    finished: datetime | None = None


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of a Job or of a server."""

    meta: Meta
    phase: str = "Pending"
    ready: bool = False
    unschedulable: str = ""
    reason: str = ""
    message: str = ""
    disrupted: bool = False
    memory_limits: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[Container, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """A Job. ``outcome`` is Complete, Failed or empty while it is under way."""

    meta: Meta
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    suspended: bool = False
    outcome: str = ""
    reason: str = ""
    message: str = ""
    has_ttl: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """A server's Deployment; ``current`` says that its controller has seen the newest spec."""

    meta: Meta
    current: bool = False
    replicas: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0
    total: int = 0
    stalled: str = ""
    replica_failure: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A Service and the version that its selector names."""

    meta: Meta
    target: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """An HTTPRoute: whether its gateway has accepted the current generation, and why not."""

    meta: Meta
    target: str = ""
    accepted: bool | None = None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class KubeEvent:
    """An Event about an object of ours, newest last where several are listed."""

    reason: str
    message: str


def parse_time(text: str | None) -> datetime | None:
    """A Kubernetes time (RFC 3339) as an aware datetime."""
    return datetime.fromisoformat(text) if text else None


def project_meta(obj: Object) -> Meta:
    meta = obj.get("metadata", {})
    owners = [o["uid"] for o in meta.get("ownerReferences", ()) if o.get("controller")]
    return Meta(
        name=meta.get("name", ""),
        namespace=meta.get("namespace", ""),
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        labels={k: v for k, v in meta.get("labels", {}).items() if k.startswith("solera.dev/")},
        owner_uid=owners[0] if owners else None,
        created=parse_time(meta.get("creationTimestamp")),
        deleting="deletionTimestamp" in meta,
    )


def _conditions(obj: Object) -> dict[str, Object]:
    return {c["type"]: c for c in obj.get("status", {}).get("conditions", ())}


def _container(status: Object, *, init: bool) -> Container:
    state: Mapping[str, Object] = status.get("state") or {}
    kind = next(iter(state), "waiting")
    now: Object = state.get(kind) or {}
    last: Object = (status.get("lastState") or {}).get("terminated") or {}
    return Container(
        name=status["name"],
        state=kind,
        init=init,
        reason=now.get("reason", ""),
        message=now.get("message", ""),
        exit_code=now.get("exitCode"),
        restarts=status.get("restartCount", 0),
        last_reason=last.get("reason", ""),
        last_message=last.get("message", ""),
        last_exit_code=last.get("exitCode"),
        finished=parse_time(now.get("finishedAt")),
    )


def project_pod(obj: Object) -> Pod:
    status = obj.get("status", {})
    conditions = _conditions(obj)
    scheduled = conditions.get("PodScheduled", {})
    waits = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    spec = obj.get("spec", {})
    limits = {
        c["name"]: c.get("resources", {}).get("limits", {}).get("memory", "")
        for c in (*spec.get("initContainers", ()), *spec.get("containers", ()))
    }
    return Pod(
        meta=project_meta(obj),
        phase=status.get("phase", "Pending"),
        ready=conditions.get("Ready", {}).get("status") == "True",
        unschedulable=scheduled.get("message", "unschedulable") if waits else "",
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        disrupted=conditions.get("DisruptionTarget", {}).get("status") == "True",
        memory_limits=limits,
        containers=(
            *(_container(c, init=True) for c in status.get("initContainerStatuses") or ()),
            *(_container(c, init=False) for c in status.get("containerStatuses") or ()),
        ),
    )


def project_job(obj: Object) -> Job:
    status = obj.get("status", {})
    conditions = _conditions(obj)
    done = next(
        (c for t in ("Complete", "Failed") if (c := conditions.get(t, {})).get("status") == "True"), {}
    )
    return Job(
        meta=project_meta(obj),
        active=status.get("active", 0),
        succeeded=status.get("succeeded", 0),
        failed=status.get("failed", 0),
        suspended=bool(obj.get("spec", {}).get("suspend")),
        outcome=done.get("type", ""),
        reason=done.get("reason", ""),
        message=done.get("message", ""),
        has_ttl="ttlSecondsAfterFinished" in obj.get("spec", {}),
    )


def project_deployment(obj: Object) -> Deployment:
    status = obj.get("status", {})
    conditions = _conditions(obj)
    progressing = conditions.get("Progressing", {})
    failure = conditions.get("ReplicaFailure", {})
    return Deployment(
        meta=project_meta(obj),
        current=status.get("observedGeneration", 0) >= obj.get("metadata", {}).get("generation", 0),
        replicas=obj.get("spec", {}).get("replicas", 1),
        updated=status.get("updatedReplicas", 0),
        ready=status.get("readyReplicas", 0),
        available=status.get("availableReplicas", 0),
        total=status.get("replicas", 0),
        stalled=progressing.get("message", "") if progressing.get("status") == "False" else "",
        replica_failure=failure.get("message", "") if failure.get("status") == "True" else "",
    )


def project_service(obj: Object) -> Service:
    selector = obj.get("spec", {}).get("selector") or {}
    return Service(meta=project_meta(obj), target=selector.get("solera.dev/version", ""))


def project_route(obj: Object) -> Route:
    rules = obj.get("spec", {}).get("rules") or [{}]
    backends = rules[0].get("backendRefs") or [{}]
    generation = obj.get("metadata", {}).get("generation", 0)
    accepted: bool | None = None
    reason = message = ""
    for parent in obj.get("status", {}).get("parents", ()):
        for condition in parent.get("conditions", ()):
            if condition["type"] not in {"Accepted", "ResolvedRefs"}:
                continue
            if condition.get("observedGeneration", 0) < generation:
                continue
            if condition["status"] == "True":
                accepted = accepted is not False
            else:
                accepted = False
                reason, message = condition.get("reason", ""), condition.get("message", "")
    return Route(
        meta=project_meta(obj),
        target=backends[0].get("name", ""),
        accepted=accepted,
        reason=reason,
        message=message,
    )
