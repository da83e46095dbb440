"""The ModelVersion's reconcile: its Jobs, their results, its verdict."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import structlog

from solera_core.spec import Invalid
from solera_operator.api import ModelVersion, TrainedModel
from solera_operator.controllers import version_status
from solera_operator.controllers.caches import BY_MODEL, BY_VERSION, Caches
from solera_operator.controllers.runs import Runs
from solera_operator.controllers.spec_check import spec_problem
from solera_operator.controllers.stored import Stored
from solera_operator.domain.diagnosis import Failure, event_failure
from solera_operator.domain.fingerprint import evaluation_id, training_token
from solera_operator.domain.lifecycle import Act, Recorded, Run, Step, give_up, next_step, settled, superseded
from solera_operator.domain.observed import KubeEvent
from solera_operator.domain.status import stored_form
from solera_operator.domain.verdicts import as_version, verdict_of
from solera_operator.domain.versions import Verdict, Version, wanted_version
from solera_operator.engine.client import KubeClient
from solera_operator.engine.clock import Clock
from solera_operator.engine.errors import AlreadyExists, ApiError, Conflict, NotFound, Unavailable
from solera_operator.engine.events import EventRecorder
from solera_operator.engine.resource import JOBS, names
from solera_operator.engine.runner import Result
from solera_operator.engine.status import patch_if_changed
from solera_operator.engine.store import Key
from solera_operator.resources import jobs
from solera_operator.resources.names import evaluate_job_name, report_job_name, train_job_name
from solera_operator.settings import Settings

log = structlog.get_logger(__name__)

NAME_TAKEN_SECONDS = 3.0
REFUSED_SECONDS = 15.0


class ModelVersionController:
    """Carries out one ModelVersion at a time; the only writer of its Jobs and its status."""

    def __init__(
        self,
        client: KubeClient,
        caches: Caches,
        settings: Settings,
        events: EventRecorder,
        clock: Clock,
    ) -> None:
        self._client = client
        self._caches = caches
        self._settings = settings
        self._events = events
        self._clock = clock
        self._runs = Runs(client, caches)

    async def reconcile(self, key: Key) -> Result:
        """Bring one version a step further, or find that there is nothing to do."""
        stored = self._caches.versions.get(*key)
        if stored is None or stored.meta.deleting or isinstance(stored.value, Invalid):
            return Result()  # a version is Solera's own: one that cannot be read is left as it is
        version = stored.value
        model = self._model_of(version, stored.meta.owner_uid)
        if model is None:  # deleted, and the version will follow; or not made by Solera
            return Result()
        now = self._clock.now()
        in_place = self._wanted_version(model)
        wanted = _wanted_evaluation(version, model, in_place)
        recorded = _recorded(version)
        runs = (Run(), Run(), Run())
        if not settled(recorded, wanted):
            runs = await self._runs.of_version(version, wanted, now)
        step = next_step(recorded, wanted, *runs)
        if _superseded(version, model, in_place):
            step = give_up(step, runs[0])
        step, again = await self._act(version, model, step, wanted)
        try:
            await self._write_status(stored, version, model, step, wanted)
        except NotFound:  # the version was deleted meanwhile: the cache will hear of it
            return Result()
        waits = [again, await self._let_go(key, wanted)]
        if step.act is Act.WAIT and again is None:
            waits += [run.ask_again(now) for run in runs if run.needs_events]
        return Result(requeue_after=min((w for w in waits if w is not None), default=None))

    # -- observe -----------------------------------------------------------------------------------

    def _model_of(self, version: ModelVersion, owner: str | None) -> TrainedModel | None:
        stored = self._caches.models.get(version.metadata.namespace, version.spec.model_name)
        if stored is None or stored.meta.uid != owner or isinstance(stored.value, Invalid):
            return None
        return None if stored.meta.deleting else stored.value

    def _wanted_version(self, model: TrainedModel) -> Version | None:
        """The version that the model's spec wants, if that can be told.

        It cannot while a version is there that cannot be read. A spec that the catalogue refuses is not
        carried out: it gives up no training, and its gates could only make Jobs that fail.
        """
        stored = [
            v
            for v in self._caches.versions.by_index(BY_MODEL, (model.metadata.namespace, model.metadata.name))
            if v.meta.owner_uid == model.metadata.uid
        ]
        read = [v.value for v in stored if isinstance(v.value, ModelVersion)]
        if len(read) < len(stored) or spec_problem(model, self._settings) is not None:
            return None
        token = training_token(model.spec.task, model.spec.training)
        return wanted_version([as_version(v, token, model.spec.gates or ()) for v in read], token)

    # -- act ---------------------------------------------------------------------------------------

    async def _act(
        self, version: ModelVersion, model: TrainedModel, step: Step, evaluation: str
    ) -> tuple[Step, float | None]:
        """Create the Job that the step asks for; what stands in its way becomes the step's note."""
        settings = self._settings
        match step.act:
            case Act.RECORD_FAILURE if step.note is not None and step.note.reason == Verdict.SUPERSEDED:
                await self._end_jobs(version.metadata.namespace, version.metadata.name, version.metadata.uid)
            case Act.TRAIN:
                return await self._create(version, step, jobs.train_job(version, settings))
            case Act.REPORT_TRAIN:
                return await self._create(version, step, jobs.report_job(version, "train", None, settings))
            case Act.REPORT_EVALUATE:
                wanted = jobs.report_job(version, "evaluate", evaluation, settings)
                return await self._create(version, step, wanted)
            case Act.EVALUATE:
                gates = [gate.document() for gate in model.spec.gates or ()]
                return await self._create(
                    version, step, jobs.evaluate_job(version, gates, evaluation, settings)
                )
        return step, None

    async def _create(
        self, version: ModelVersion, step: Step, wanted: dict[str, Any]
    ) -> tuple[Step, float | None]:
        namespace, name = names(wanted)
        try:
            answer = await self._client.create(wanted)
        except AlreadyExists:
            return await self._taken(version, step, namespace, name)
        except (Conflict, Unavailable):
            raise
        except ApiError as error:
            return replace(step, act=Act.WAIT, note=_refused(name, error)), REFUSED_SECONDS
        self._caches.jobs.observe(answer)
        log.info("job created", job=name)
        return step, None

    async def _taken(
        self, version: ModelVersion, step: Step, namespace: str, name: str
    ) -> tuple[Step, float | None]:
        """A Job of that name is there: ours (the answer to an earlier create was lost), or not."""
        found = await self._client.get(JOBS, namespace, name)
        owners = found["metadata"].get("ownerReferences") or () if found is not None else ()
        if found is not None and any(owner["uid"] == version.metadata.uid for owner in owners):
            self._caches.jobs.observe(found)
            return step, None
        note = Failure("NameConflict", f"a Job {name} exists that is not this version's: delete it")
        return replace(step, act=Act.WAIT, note=note), NAME_TAKEN_SECONDS

    async def _end_jobs(self, namespace: str, name: str, uid: str) -> float | None:
        """End the Jobs of a version that is given up.

        Returns in how many seconds to try again, where the API server refused.

        Raises:
            Conflict: a Job has changed since it was seen: it may have come to a result.
        """
        again = None
        for job in self._caches.jobs.by_index(BY_VERSION, (namespace, name)):
            meta = job.meta
            if meta.owner_uid != uid or job.outcome or meta.deleting:
                continue
            try:
                await self._client.delete(
                    JOBS, *meta.key, uid=meta.uid, resource_version=meta.resource_version
                )
            except (Conflict, Unavailable):
                raise
            except ApiError as error:
                log.warning("job goes on", job=meta.name, error=str(error))
                again = REFUSED_SECONDS
            else:
                log.info("job ended", job=meta.name, reason=Verdict.SUPERSEDED.value)
        return again

    async def _let_go(self, key: Key, evaluation: str) -> float | None:
        """Give a time to live to every ended Job whose result is recorded, or is not wanted any more.

        Returns in how many seconds to try again, where the API server refused.
        """
        stored = self._caches.versions.get(*key)  # with our own status patch in it
        if stored is None or isinstance(stored.value, Invalid):
            return None
        again = None
        needed = _needed(key[1], _recorded(stored.value), evaluation)
        for job in self._caches.jobs.by_index(BY_VERSION, key):
            if job.meta.owner_uid != stored.meta.uid or not job.outcome or job.has_ttl:
                continue
            if job.meta.name in needed:
                continue
            try:
                answer = await self._client.patch(JOBS, *job.meta.key, jobs.ttl_patch(self._settings))
            except NotFound:  # gone already
                continue
            except (Conflict, Unavailable):
                raise
            except ApiError as error:
                log.warning("no time to live on a job", job=job.meta.name, error=str(error))
                again = REFUSED_SECONDS
            else:
                self._caches.jobs.observe(answer)
        if verdict_of(stored.value, None) is Verdict.SUPERSEDED:  # a Job that was not in the cache then
            again = await self._end_jobs(*key, stored.meta.uid) or again
        return again

    # -- status ------------------------------------------------------------------------------------

    async def _write_status(
        self,
        stored: Stored[ModelVersion],
        version: ModelVersion,
        model: TrainedModel,
        step: Step,
        evaluation: str,
    ) -> None:
        wanted, step = version_status.desired_status(version, model, step, evaluation, self._clock.now())
        answer = await patch_if_changed(self._client, stored.live(), stored_form(wanted))
        if answer is None:
            return
        self._caches.versions.observe(answer)
        said = _ANNOUNCED.get(step.act)
        if said is not None:
            ready = wanted.conditions[0]
            kind: Literal["Normal", "Warning"] = "Warning" if ready.reason in _bad(step) else "Normal"
            self._announce(stored.live(), said, ready.reason, ready.message, kind)

    def _announce(
        self,
        regarding: Mapping[str, Any],
        action: str,
        reason: str,
        note: str,
        kind: Literal["Normal", "Warning"],
    ) -> None:
        log.info("version", action=action, reason=reason, message=note)
        self._events.emit(regarding, reason=reason, note=note, action=action, kind=kind)


def _wanted_evaluation(version: ModelVersion, model: TrainedModel, wanted: Version | None) -> str:
    """The evaluation that the model's gates ask for, if this is the version that its spec wants."""
    artifact = version.status.artifact
    if artifact is None or wanted is None or wanted.name != version.metadata.name:
        return ""
    return evaluation_id(model.spec.gates or (), artifact.digest)


def _superseded(version: ModelVersion, model: TrainedModel, wanted: Version | None) -> bool:
    last, pin = model.status.last_version, model.spec.serving.pin
    seen = as_version(version, version.spec.token, model.spec.gates or ())
    return superseded(seen, last.number if last else 0, wanted, pin.version if pin else "")


def _recorded(version: ModelVersion) -> Recorded:
    status = version.status
    artifact = status.artifact
    failed = status.last_failure is not None
    evaluation = status.evaluation or ""
    return Recorded(
        digest=artifact.digest if artifact is not None else "",
        evaluation=evaluation if status.verdict is not None else "",
        failed=failed and artifact is None,
        failed_evaluation=evaluation if failed and status.verdict is None else "",
    )


def _needed(version: str, recorded: Recorded, evaluation: str) -> set[str]:
    """Names of the Jobs from which something is still to be read."""
    if recorded.failed:
        return set()
    if not recorded.digest:
        return {train_job_name(version), report_job_name(version, "train", None)}
    if not evaluation or evaluation in (recorded.evaluation, recorded.failed_evaluation):
        return set()
    return {evaluate_job_name(version, evaluation), report_job_name(version, "evaluate", evaluation)}


_ANNOUNCED = {
    Act.TRAIN: "Train",
    Act.EVALUATE: "Evaluate",
    Act.RECORD_TRAIN: "RecordTraining",
    Act.RECORD_EVALUATE: "RecordEvaluation",
    Act.RECORD_FAILURE: "RecordFailure",
}


def _bad(step: Step) -> set[str]:
    """Reasons that deserve a warning."""
    if step.note is not None and step.note.reason == Verdict.SUPERSEDED:
        return set()
    return {step.note.reason} if step.act is Act.RECORD_FAILURE and step.note else {"GateFailed", "NoGates"}


def _refused(name: str, error: ApiError) -> Failure:
    """A Job that the API server does not take: quota on Jobs, a policy, a value that only Jobs check."""
    told = event_failure([KubeEvent("FailedCreate", error.message)])
    reason = told.reason if told is not None and told.reason != "FailedCreate" else "JobRefused"
    return Failure(reason, f"the API server refused the Job {name}: {error.message}"[:1024])
