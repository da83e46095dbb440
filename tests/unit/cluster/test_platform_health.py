"""Readiness of the platform, and the reasons that a person is shown when it is lacking."""

from typing import Any

import pytest

from solera_cluster import platform_health
from solera_cluster.platform_components import Condition

WANTED = Condition("deployment", "a", "x", "Available")


def deployment(
    *, status: str = "True", observed: int = 2, replicas: int = 1, updated: int = 1
) -> dict[str, Any]:
    condition = {"type": "Available", "status": status, "reason": "Minimum", "message": "no pod"}
    return {
        "kind": "Deployment",
        "metadata": {"name": "x", "generation": 2},
        "spec": {"replicas": 1},
        "status": {
            "observedGeneration": observed,
            "replicas": replicas,
            "updatedReplicas": updated,
            "conditions": [condition],
        },
    }


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (deployment(), None),
        (None, "does not exist"),
        (deployment(status="False"), "Minimum: no pod"),
        (deployment(observed=1), "its controller has not seen the last change"),
        (deployment(replicas=2), "1 of 1 pods are of the current revision, 2 in all"),
        (deployment(updated=0), "0 of 1 pods are of the current revision, 1 in all"),
        ({"kind": "Deployment", "metadata": {}}, "has no condition Available yet"),
    ],
)
def test_a_deployment_is_ready_when_all_of_its_last_revision_is(
    found: dict[str, Any] | None, reason: str | None
) -> None:
    assert platform_health.problem(WANTED, found) == reason


def test_a_condition_of_an_earlier_generation_does_not_count() -> None:
    gateway: dict[str, Any] = {
        "kind": "Gateway",
        "metadata": {"generation": 3},
        "status": {"conditions": [{"type": "Programmed", "status": "True", "observedGeneration": 2}]},
    }
    wanted = Condition("gateway", "gateways", "public", "Programmed")
    assert platform_health.problem(wanted, gateway) == "its controller has not seen the last change"
    gateway["status"]["conditions"][0]["observedGeneration"] = 3
    assert platform_health.problem(wanted, gateway) is None


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "status": status}


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (
            pod(
                containerStatuses=[
                    {"name": "c", "state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}
                ]
            ),
            "pod p: c ErrImagePull no",
        ),
        (
            pod(
                containerStatuses=[
                    {
                        "name": "c",
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"exitCode": 2}},
                    }
                ]
            ),
            "pod p: c CrashLoopBackOff, last exit code 2",
        ),
        (
            pod(
                conditions=[
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "cpu"}
                ]
            ),
            "pod p: Unschedulable cpu",
        ),
        (pod(phase="Pending"), "pod p: phase Pending"),
    ],
)
def test_a_pod_that_is_not_ready_says_why(found: dict[str, Any], line: str) -> None:
    assert platform_health.pod_problems([found]) == [line]


def test_ready_and_finished_pods_are_no_problem() -> None:
    ready = pod(conditions=[{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}])
    assert platform_health.pod_problems([ready, pod(phase="Succeeded")]) == []
