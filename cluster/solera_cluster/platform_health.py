"""Judges from the cluster's objects whether a component is ready, and if not, why."""

from collections.abc import Iterable, Mapping
from typing import Any

from solera_cluster.platform_components import Condition

Object = Mapping[str, Any]


def problem(wanted: Condition, found: Object | None) -> str | None:
    """Say what keeps a condition from being True; None if it is."""
    if found is None:
        return "does not exist"
    generation = found["metadata"].get("generation", 0)
    status = found.get("status", {})
    if status.get("observedGeneration", generation) < generation:
        return "its controller has not seen the last change"
    for condition in status.get("conditions", ()):
        if condition["type"] != wanted.type:
            continue
        if condition.get("observedGeneration", generation) < generation:
            return "its controller has not seen the last change"
        if condition["status"] == "True":
            return _rollout(found)
        return f"{condition.get('reason', 'no reason given')}: {condition.get('message', '')}".strip(": ")
    return f"has no condition {wanted.type} yet"


def _rollout(found: Object) -> str | None:
    """Say what a Deployment that is Available still has to do; old pods make it so while new ones fail."""
    if found.get("kind") != "Deployment":
        return None
    wanted = found["spec"].get("replicas", 1)
    updated = found.get("status", {}).get("updatedReplicas", 0)
    total = found.get("status", {}).get("replicas", 0)
    if updated < wanted or total > updated:
        return f"{updated} of {wanted} pods are of the current revision, {total} in all"
    return None


def pod_problems(pods: Iterable[Object]) -> list[str]:
    """Say for each pod that is not ready what it waits for or died of."""
    return [
        f"pod {pod['metadata']['name']}: {reason}"
        for pod in pods
        if (reason := _pod_problem(pod)) is not None
    ]


def _pod_problem(pod: Object) -> str | None:
    status = pod.get("status", {})
    if status.get("phase") == "Succeeded":
        return None
    states = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    for container in states:
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") != "PodInitializing":
            died = container.get("lastState", {}).get("terminated", {})
            exit_code = f", last exit code {died['exitCode']}" if died else ""
            return (
                f"{container['name']} {waiting.get('reason')}{exit_code} {waiting.get('message', '')}".strip()
            )
    conditions = {entry["type"]: entry for entry in status.get("conditions", ())}
    for kind in ("PodScheduled", "Ready"):
        entry = conditions.get(kind)
        if entry and entry["status"] != "True":
            return f"{entry.get('reason', kind + ' is False')} {entry.get('message', '')}".strip()
    return None if conditions else f"phase {status.get('phase', 'unknown')}"
