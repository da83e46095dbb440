"""Decisions where a cache is behind the API server: after a change of leader, or one watch behind another."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cluster_double import Cluster, caches
from version_objects import TRAIN_RESULT, model, version

from solera_operator.controllers.runs import Runs
from solera_operator.controllers.stored import project_model
from solera_operator.controllers.versioning import Versioning
from solera_operator.controllers.world import observe
from solera_operator.domain.fingerprint import training_token
from solera_operator.domain.lifecycle import spoken_result
from solera_operator.settings import Settings

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SETTINGS = Settings.parse(
    {
        "artifactStore": {"uri": "s3://artifacts"},
        "runtimes": [
            {"name": "sklearn-1.9", "sklearnVersion": "1.9.1", "trainerImage": "t:1", "serverImage": "s:1"}
        ],
    }
)
TOKEN = training_token(model().spec.task, model().spec.training)


def stored_model(**last: Any) -> dict[str, Any]:
    document = model().document() | {
        "metadata": {"name": "iris", "namespace": "models", "uid": "um", "resourceVersion": "5"}
    }
    document["status"] = {"lastVersion": {"number": 1, "token": TOKEN, "name": "iris-v1", **last}}
    return document


def stored_version(owner: str = "um") -> dict[str, Any]:
    made = version().document()
    made["spec"]["token"] = TOKEN
    return made | {
        "metadata": {
            "name": "iris-v1",
            "namespace": "models",
            "uid": "u1",
            "resourceVersion": "4",
            "labels": {"solera.dev/model": "iris"},
            "ownerReferences": [
                {
                    "apiVersion": "solera.dev/v1alpha1",
                    "kind": "TrainedModel",
                    "name": "iris",
                    "uid": owner,
                    "controller": True,
                }
            ],
        }
    }


class Writer:
    """Remembers what would have been written."""

    def __init__(self) -> None:
        self.patches: list[dict[str, Any]] = []

    async def patch(self, _: object, wanted: dict[str, Any]) -> bool:
        self.patches.append(wanted)
        return True


async def make(cluster: Cluster, seen: Any, **last: Any) -> tuple[bool, Writer]:
    stored = project_model(stored_model(**last))
    writer = Writer()
    versioning = Versioning(cluster, seen, SETTINGS, writer)
    return await versioning.make(observe(seen, stored, stored.value, NOW)), writer


async def test_a_version_that_the_cache_does_not_show_yet_is_not_made_again():
    cluster, seen = Cluster(), caches()
    cluster.objects["ModelVersion", "iris-v1"] = stored_version()
    again, writer = await make(cluster, seen, uid="u1")
    assert again
    assert writer.patches == []
    assert seen.versions.get("models", "iris-v1").meta.uid == "u1"
    assert cluster.asked == [("get", "ModelVersion", "iris-v1")]

    again, writer = await make(cluster, seen, uid="u1")
    assert (again, writer.patches) == (False, []), "it is there"
    assert len(cluster.asked) == 1, "and is not looked up any more"


@pytest.mark.parametrize("owner", [None, "somebody else"])
async def test_a_version_that_is_gone_is_made_again_under_a_new_number(owner):
    cluster, seen = Cluster(), caches()
    if owner is not None:
        cluster.objects["ModelVersion", "iris-v1"] = stored_version(owner)
    again, writer = await make(cluster, seen, uid="u1")
    assert again
    assert [wanted["lastVersion"]["number"] for wanted in writer.patches] == [2]


def job(outcome: str) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "iris-v1-train",
            "namespace": "models",
            "uid": "uj",
            "resourceVersion": "9",
            "labels": {"solera.dev/version": "iris-v1"},
            "ownerReferences": [{"uid": "u1", "controller": True}],
        },
        "spec": {},
        "status": {"conditions": [{"type": outcome, "status": "True", "reason": "PodFailurePolicy"}]},
    }


def pod(name: str, status: dict[str, Any], *, version: str = "3", owner: str = "uj") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "models",
            "uid": name,
            "resourceVersion": version,
            "creationTimestamp": f"2026-01-01T00:00:0{version}Z",
            "labels": {"solera.dev/version": "iris-v1"},
            "ownerReferences": [{"uid": owner, "controller": True}],
        },
        "spec": {"containers": [{"name": "trainer"}]},
        "status": status,
    }


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    phase = "Failed" if code else "Succeeded"
    return {"phase": phase, "containerStatuses": [{"name": "trainer", "state": state}]}


RUNNING = {"phase": "Running", "containerStatuses": [{"name": "trainer", "state": {"running": {}}}]}


async def look(cluster: Cluster, seen: Any):
    runs = Runs(cluster, seen)
    train, _, _ = await runs.of_version(version(), "", NOW)
    return train


async def test_a_failed_job_is_read_with_the_end_of_its_last_pod():
    cluster, seen = Cluster(), caches()
    seen.jobs.observe(job("Failed"))
    seen.pods.observe(pod("first", ended(70, message="a bug")))
    seen.pods.observe(pod("last", RUNNING, version="4"))
    cluster.pods = [
        pod("first", ended(70, message="a bug")),
        pod("last", ended(137, "OOMKilled"), version="7"),
        pod("other", ended(1), version="8", owner="another job of that name"),
    ]
    train = await look(cluster, seen)
    assert [p.meta.name for p in train.pods] == ["first", "last"]
    assert train.pods[1].containers[0].reason == "OOMKilled"
    assert cluster.asked == [("list", "Pod", "batch.kubernetes.io/job-name=iris-v1-train")]


async def test_a_completed_job_is_looked_up_only_while_its_result_is_not_seen():
    cluster, seen = Cluster(), caches()
    seen.jobs.observe(job("Complete"))
    seen.pods.observe(pod("first", RUNNING))
    done = pod("first", ended(0, "Completed", json.dumps(TRAIN_RESULT)), version="6")
    cluster.pods = [done]
    assert spoken_result((await look(cluster, seen)).pods, "train") is not None
    assert len(cluster.asked) == 1

    seen.pods.observe(done)
    assert spoken_result((await look(cluster, seen)).pods, "train") is not None
    assert len(cluster.asked) == 1


async def test_a_pod_of_an_earlier_job_of_that_name_says_nothing():
    cluster, seen = Cluster(), caches()
    running = job("Complete")
    running["status"] = {"active": 1}
    seen.jobs.observe(running)
    seen.pods.observe(pod("old", ended(65), owner="the job before"))
    seen.pods.observe(pod("own", RUNNING))
    assert [p.meta.name for p in (await look(cluster, seen)).pods] == ["own"]
    assert cluster.asked == []


def test_versions_that_cannot_be_read_are_kept_apart():
    seen = caches()
    strange = stored_version()
    strange["spec"]["number"] = "one"
    seen.versions.observe(strange)
    stored = project_model(stored_model())
    world = observe(seen, stored, stored.value, NOW)
    assert (list(world.by_name), list(world.unreadable)) == ([], ["iris-v1"])
