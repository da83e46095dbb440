"""Reading what only Events tell: quota, admission, Secrets and volumes that are missing."""

from collections.abc import Sequence
from datetime import datetime

from solera_operator.controllers.caches import BY_VERSION, Caches
from solera_operator.domain.diagnosis import (
    Failure,
    ask_about,
    ask_again,
    event_failure,
    pods_failure,
    speaks_in_events_only,
)
from solera_operator.domain.observed import Job, KubeEvent, Pod
from solera_operator.engine.client import KubeClient
from solera_operator.engine.resource import Resource
from solera_operator.resources.names import COMPONENT_LABEL

CORE_EVENTS = Resource("", "v1", "events", "Event")


async def events_about(client: KubeClient, namespace: str, uids: Sequence[str]) -> tuple[KubeEvent, ...]:
    """The Events about some objects, oldest first."""
    found = [
        item
        for uid in uids
        for item in await client.list_all(CORE_EVENTS, namespace, field_selector=f"involvedObject.uid={uid}")
    ]
    found.sort(key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")
    return tuple(KubeEvent(e.get("reason", ""), e.get("message", "")) for e in found)


async def job_events(
    client: KubeClient, job: Job, pods: Sequence[Pod], now: datetime
) -> tuple[KubeEvent, ...]:
    """The Events about a Job that is stuck, and its pods; none where Events are not needed."""
    if not speaks_in_events_only(job, pods):
        return ()
    uids = [*ask_about([job.meta], now), *ask_about([pod.meta for pod in pods], now)]
    return await events_about(client, job.meta.namespace, uids)


async def server_failure(
    client: KubeClient, caches: Caches, namespace: str, version: str, now: datetime
) -> tuple[Failure | None, float | None]:
    """Why the servers of a version do not get ready, and in how many seconds to look again."""
    deployment = caches.deployments.get(namespace, version) if version else None
    if deployment is None:
        return None, None
    seen = deployment.seen
    pods = [
        pod
        for pod in caches.pods.by_index(BY_VERSION, (namespace, version))
        if pod.meta.labels.get(COMPONENT_LABEL) == "server"
        and not pod.meta.deleting
        and pod.phase not in {"Failed", "Succeeded"}  # evicted, say: replaced already, and nobody's trouble
    ]
    failure = pods_failure(pod for pod in pods if not pod.ready)
    if failure is not None:
        return failure, None
    if seen.replica_failure:
        return event_failure([KubeEvent("FailedCreate", seen.replica_failure)]), None
    if seen.stalled:
        return Failure(
            "ServerNotReady", f"no progress within the Deployment's deadline: {seen.stalled}"
        ), None
    waiting = [pod for pod in pods if not pod.ready]
    if not waiting or not speaks_in_events_only(None, waiting):
        return None, None
    stuck = [pod.meta for pod in waiting]
    told = await events_about(client, namespace, ask_about(stuck, now))
    return event_failure(told), ask_again(stuck, now)
