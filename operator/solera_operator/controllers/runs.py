"""A version's Jobs as they are, each with its pods and, where nothing else speaks, its Events."""

from datetime import datetime
from typing import Literal

from solera_operator.api import ModelVersion
from solera_operator.controllers.caches import BY_VERSION, Caches
from solera_operator.controllers.failures import job_events
from solera_operator.domain.lifecycle import Run, whole
from solera_operator.domain.observed import Job, Pod, project_pod
from solera_operator.engine.client import KubeClient
from solera_operator.engine.resource import PODS
from solera_operator.resources.names import evaluate_job_name, report_job_name, train_job_name

JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
Kind = Literal["train", "evaluate"]


class Runs:
    """Looks at the Jobs of versions."""

    def __init__(self, client: KubeClient, caches: Caches) -> None:
        self._client = client
        self._caches = caches

    async def of_version(self, version: ModelVersion, evaluation: str, now: datetime) -> tuple[Run, Run, Run]:
        """The train Job, the evaluate Job, and the report Job for whichever result is to come."""
        name = version.metadata.name
        if version.status.artifact is None:
            train = await self._run(version, train_job_name(name), "train", now)
            report = await self._run(version, report_job_name(name, "train", None), "train", now)
            return train, Run(), report
        if not evaluation:
            return Run(), Run(), Run()
        evaluate = await self._run(version, evaluate_job_name(name, evaluation), "evaluate", now)
        report = await self._run(version, report_job_name(name, "evaluate", evaluation), "evaluate", now)
        return Run(), evaluate, report

    async def _run(self, version: ModelVersion, name: str, kind: Kind, now: datetime) -> Run:
        namespace = version.metadata.namespace
        job = self._caches.jobs.get(namespace, name)
        if job is None or job.meta.owner_uid != version.metadata.uid:
            return Run()
        pods = tuple(
            pod
            for pod in self._caches.pods.by_index(BY_VERSION, (namespace, version.metadata.name))
            if pod.meta.owner_uid == job.meta.uid
        )
        if not whole(job, pods, kind):
            pods = await self._pods_now(job)
        return Run(job, pods, await job_events(self._client, job, pods, now))

    async def _pods_now(self, job: Job) -> tuple[Pod, ...]:
        """The Job's pods as the API server has them now; the cache may be behind."""
        found = await self._client.list_all(PODS, job.meta.namespace, f"{JOB_NAME_LABEL}={job.meta.name}")
        pods = (project_pod(pod) for pod in found)
        return tuple(pod for pod in pods if pod.meta.owner_uid == job.meta.uid)
