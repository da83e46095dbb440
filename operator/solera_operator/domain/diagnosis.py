"""Why a Job or a server does not get on: one reason and one sentence that helps, from what pods show.

The reasons are stable: they stand in status, events and the operating guide.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from solera_core.result import BadResult, parse_result
from solera_operator.domain.observed import Container, Job, KubeEvent, Meta, Pod

IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
KILLED = 137
MESSAGE_LIMIT = 1024
REASON_LIMIT = 128


@dataclass(frozen=True, slots=True)
class Failure:
    """A cause in a word and a sentence. ``exit_code`` is the process's, where one ended."""

    reason: str
    message: str
    exit_code: int | None = None


def reason_word(text: str, fallback: str) -> str:
    """A reason found in somebody else's object, as our own conditions can hold it; else ``fallback``.

    Other programs write other characters (a colon, a dash, whole sentences), which Solera's types refuse.
    """
    word = re.sub(r"[^A-Za-z0-9_]+", "_", text).lstrip("_0123456789")[:REASON_LIMIT].rstrip("_")
    return word or fallback


def told_failure(message: str) -> Failure | None:
    """The failure that a program of Solera left as its termination message, if it is one."""
    document = told(message)
    if document is None or document["ok"]:
        return None
    failure = document["failure"]
    return Failure(failure["reason"], failure["message"][:MESSAGE_LIMIT])


def told(message: str) -> Mapping[str, Any] | None:
    """The result in a termination message: the message itself or its last line; None if there is none."""
    for candidate in (message, message.rstrip().rsplit("\n", 1)[-1]):
        with contextlib.suppress(BadResult):
            return parse_result(candidate)
    return None


def _ended(pod: Pod, name: str, reason: str, message: str, code: int | None) -> Failure | None:
    """What an ended container says of its end."""
    if code in (None, 0):
        return None
    if (spoken := told_failure(message)) is not None:
        return Failure(spoken.reason, spoken.message, code)
    if reason == "OOMKilled" or (code == KILLED and reason != "Error"):
        limit = pod.memory_limits.get(name)
        stated = f"its limit of {limit}" if limit else "the node's memory"
        return Failure("OutOfMemory", f"container {name} used more than {stated} and was killed", code)
    tail = message.strip().rsplit("\n", 1)[-1][:300]
    return Failure("ContainerFailed", f"container {name} ended with code {code}: {tail or reason}", code)


def _container_failure(pod: Pod, container: Container) -> Failure | None:
    if container.state == "waiting":
        if container.reason in IMAGE_REASONS:
            return Failure("ImagePullFailed", _sentence(container.message, f"container {container.name}"))
        if container.reason in CONFIG_REASONS:
            return Failure("ContainerConfigError", _sentence(container.message, container.reason))
    if container.state == "terminated":
        return _ended(pod, container.name, container.reason, container.message, container.exit_code)
    if container.restarts and not pod.ready:
        return _ended(
            pod, container.name, container.last_reason, container.last_message, container.last_exit_code
        )
    return None


def _sentence(text: str, fallback: str) -> str:
    return " ".join((text or fallback).split())[:MESSAGE_LIMIT]


def pod_failure(pod: Pod) -> Failure | None:
    """What keeps one pod from working, or None while nothing is wrong with it."""
    if pod.unschedulable:
        return Failure("Unschedulable", _sentence(pod.unschedulable, "no node fits"))
    for container in pod.containers:
        if (failure := _container_failure(pod, container)) is not None:
            return failure
    if pod.phase == "Failed":
        if pod.reason == "Evicted":
            return Failure("Evicted", _sentence(pod.message, "the node ran short of a resource"))
        return Failure(reason_word(pod.reason, "PodFailed"), _sentence(pod.message, "the pod failed"))
    return None


def pods_failure(pods: Iterable[Pod]) -> Failure | None:
    """The failure of the newest pod that has one."""
    ordered = sorted(pods, key=lambda p: (p.meta.created is not None, p.meta.created), reverse=True)
    return next((f for pod in ordered if (f := pod_failure(pod)) is not None), None)


_EVENT_RULES: tuple[tuple[str, str], ...] = (
    (r"exceeded quota", "QuotaExceeded"),
    (r"violates PodSecurity", "PodSecurityViolation"),
    (r"serviceaccount .* not found|service account .* not found", "ServiceAccountNotFound"),
    (r"secret \"?[^\"\s]+\"? not found", "SecretNotFound"),
    (r"configmap \"?[^\"\s]+\"? not found", "ConfigMapNotFound"),
    (r"persistentvolumeclaim \"?[^\"\s]+\"? not found", "VolumeClaimNotFound"),
)


def event_failure(events: Sequence[KubeEvent]) -> Failure | None:
    """What Events alone tell: quota, admission, missing Secrets and volumes."""
    for event in reversed(events):
        for pattern, reason in _EVENT_RULES:
            if re.search(pattern, event.message, re.IGNORECASE):
                return Failure(reason, _sentence(event.message, reason))
        if event.reason in {"FailedCreate", "FailedMount", "FailedCreatePodSandBox"}:
            return Failure(event.reason, _sentence(event.message, event.reason))
    return None


def speaks_in_events_only(job: Job | None, pods: Sequence[Pod]) -> bool:
    """Whether a stuck Job (or Deployment: job None) can only be understood from Events.

    So it is when no pod could be made, and when a pod is scheduled but no container has got past
    ContainerCreating (a Secret or volume that is missing).
    """
    if job is not None and (job.suspended or job.outcome):
        return False
    if not pods:
        return True
    return all(
        pod.phase == "Pending"
        and not pod.unschedulable
        and all(
            c.state == "waiting" and c.reason in {"", "ContainerCreating", "PodInitializing"}
            for c in pod.containers
        )
        for pod in pods
    )


EVENTS_COME_WITHIN = 3.0
"""Seconds after which an object that does not get on has Events that tell why."""
_ASKED_AT_ONCE = 3
_ASKED_OFTEN_FOR = 12.0
_ASKED_SELDOM = 15.0


def ask_about(stuck: Sequence[Meta], now: datetime) -> tuple[str, ...]:
    """Uids of the objects whose Events are read: the newest few that are old enough to have any.

    Pods of one template are stuck for one reason, so a hundred of them cost no more than three.
    """
    old = [meta for meta in stuck if not 0 <= _age(meta, now) < EVENTS_COME_WITHIN]
    old.sort(key=lambda meta: _age(meta, now))
    return tuple(meta.uid for meta in old[:_ASKED_AT_ONCE])


def ask_again(stuck: Sequence[Meta], now: datetime) -> float:
    """Seconds until Events are read again: soon while the newest of what is stuck is new, then seldom."""
    youngest = min((_age(meta, now) for meta in stuck), default=0.0)
    return EVENTS_COME_WITHIN if 0 <= youngest < _ASKED_OFTEN_FOR else _ASKED_SELDOM


def _age(meta: Meta, now: datetime) -> float:
    """Seconds since it was made; negative where the clocks differ, infinite where it is not known."""
    return (now - meta.created).total_seconds() if meta.created is not None else math.inf


def job_failure(job: Job, pods: Sequence[Pod]) -> Failure:
    """Why a failed Job failed: what its pods said first, else what its condition says."""
    said = pods_failure(pods)
    if job.reason == "DeadlineExceeded" and (said is None or said.reason in _TRANSIENT):
        why = f" (it was held up: {said.reason}: {said.message})" if said is not None else ""
        return Failure(
            "DeadlineExceeded", f"the Job ran past its deadline{why}; raise spec.training.deadline"
        )
    if said is not None:
        return said
    return Failure(
        reason_word(job.reason, "JobFailed"), _sentence(job.message, "the Job failed and its pods are gone")
    )


_TRANSIENT = frozenset({"Unschedulable", "ImagePullFailed", "ContainerConfigError", "Evicted"})
