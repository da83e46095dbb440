"""The TrainedModel's reconcile: versions, champion, serving, status."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from solera_core.catalogue import load
from solera_core.spec import Invalid
from solera_core.training_check import check_training
from solera_operator.api import ModelVersion, TrainedModel
from solera_operator.api import trainedmodel as api
from solera_operator.controllers.caches import BY_MODEL, Applied, Caches
from solera_operator.controllers.failures import server_failure
from solera_operator.controllers.gateways import Gateways
from solera_operator.controllers.model_status import (
    Seen,
    desired_status,
    unreadable_conditions,
    warm_until,
)
from solera_operator.controllers.stored import Stored
from solera_operator.domain import promotion
from solera_operator.domain.diagnosis import Failure
from solera_operator.domain.fingerprint import split_salt, training_token
from solera_operator.domain.observed import Deployment
from solera_operator.domain.promotion import Champion, Pin
from solera_operator.domain.rollout import Rollout, plan_rollout
from solera_operator.domain.status import stored_form
from solera_operator.domain.verdicts import as_version
from solera_operator.domain.versions import (
    Confirm,
    Create,
    LastVersion,
    Reserve,
    Version,
    plan_version,
    retire,
)
from solera_operator.engine.apply import Applier, NameConflict
from solera_operator.engine.client import KubeClient
from solera_operator.engine.clock import Clock
from solera_operator.engine.errors import AlreadyExists, ApiError, Conflict, NotFound, Unavailable
from solera_operator.engine.events import EventRecorder
from solera_operator.engine.resource import (
    AUTOSCALERS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    HTTP_ROUTES,
    SERVICES,
    names,
)
from solera_operator.engine.runner import Result
from solera_operator.engine.status import patch_if_changed
from solera_operator.engine.store import Key
from solera_operator.resources import autoscaling, network, route, serving
from solera_operator.resources.names import version_name
from solera_operator.resources.versions import model_version
from solera_operator.settings import Settings

log = structlog.get_logger(__name__)

AT_ONCE = Result(requeue_after=0.0)
REFUSED_AGAIN_SECONDS = 15.0  # how soon to look again for what no watch tells: a foreign object that is gone


@dataclass(frozen=True, slots=True)
class World:
    """All that one reconcile decides on, as it was when it began."""

    stored: Stored[TrainedModel]
    model: TrainedModel
    token: str
    versions: tuple[Version, ...]
    by_name: dict[str, ModelVersion]
    deployments: dict[str, Deployment]
    target: str
    now: datetime

    @property
    def pin(self) -> Pin | None:
        pin = self.model.spec.serving.pin
        return Pin(pin.version, pin.digest or "") if pin is not None else None

    @property
    def champion(self) -> Champion | None:
        champion = self.model.status.champion
        if champion is None:
            return None
        return Champion(champion.version, champion.digest, champion.revision, champion.reason)


class TrainedModelController:
    """Carries out one TrainedModel at a time; the only writer of its children and its status."""

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
        self._applier = Applier(client)
        self._gateways = Gateways(client, clock)

    async def reconcile(self, key: Key) -> Result:
        """Bring one model a step further, or find that there is nothing to do."""
        stored = self._caches.models.get(*key)
        if stored is None or stored.meta.deleting:
            return Result()
        if isinstance(stored.value, Invalid):
            return await self._refuse_unreadable(stored, stored.value)
        world = self._observe(stored, stored.value)
        refusal = self._spec_problem(world)
        if refusal is None:
            try:
                if await self._make_version(world):
                    return AT_ONCE
            except NameConflict as conflict:
                refusal = Failure("NameConflict", str(conflict))
        if await self._choose_champion(world):
            return AT_ONCE
        pin = world.pin
        if refusal is None and pin is not None:
            problem = promotion.pin_problem(pin, world.versions)
            refusal = Failure(problem.reason, problem.message) if problem is not None else None
        rollout, serving_problem = await self._serve(world)
        refusal = refusal or serving_problem
        await self._retire_versions(world)
        again = await self._write_status(world, refusal, rollout)
        waits = [s for s in (again, rollout.again if rollout else None) if s is not None]
        if serving_problem is not None or (refusal is not None and refusal.reason == "NameConflict"):
            waits.append(REFUSED_AGAIN_SECONDS)
        return Result(requeue_after=min(waits, default=None))

    # -- observe -----------------------------------------------------------------------------------

    def _observe(self, stored: Stored[TrainedModel], model: TrainedModel) -> World:
        key = stored.meta.key
        token = training_token(model.spec.task, model.spec.training)
        by_name = {
            v.value.metadata.name: v.value
            for v in self._caches.versions.by_index(BY_MODEL, key)
            if isinstance(v.value, ModelVersion) and v.meta.owner_uid == stored.meta.uid
        }
        service = self._caches.services.get(*key)
        return World(
            stored=stored,
            model=model,
            token=token,
            versions=tuple(as_version(v, token, model.spec.gates or ()) for v in by_name.values()),
            by_name=by_name,
            deployments={
                d.meta.name: d.seen
                for d in self._caches.deployments.by_index(BY_MODEL, key)
                if d.meta.owner_uid == stored.meta.uid and not d.meta.deleting
            },
            target=service.seen.target
            if service is not None and service.meta.owner_uid == stored.meta.uid
            else "",
            now=self._clock.now(),
        )

    def _spec_problem(self, world: World) -> Failure | None:
        """What CEL could not see: estimators, parameters and metrics, by the runtime's catalogue."""
        runtime = self._settings.default_runtime()
        document = world.model.spec.document()
        problems = check_training(
            load(runtime.name), world.model.spec.task, document["training"], document.get("gates", ())
        )
        if not problems:
            return None
        reason = problems[0][0]
        return Failure(str(reason), "; ".join(str(problem) for _, problem in problems[:4]))

    # -- versions ----------------------------------------------------------------------------------

    async def _make_version(self, world: World) -> bool:
        """Take the next step towards the version that the spec wants; True when status was written."""
        recorded = world.model.status.last_version
        last = LastVersion(recorded.number, recorded.token, recorded.uid or "") if recorded else LastVersion()
        step = plan_version(world.versions, last, world.token)
        match step:
            case Reserve(number, token):
                await self._check_names(world)
                await self._patch_last_version(world, LastVersion(number, token))
                return True
            case Create(number, token, reason):
                await self._create_version(world, number, token, reason)
                return False
            case Confirm(uid):
                await self._patch_last_version(world, LastVersion(last.number, last.token, uid))
                return True
        return False

    async def _check_names(self, world: World) -> None:
        """Refuse before anything is trained when the model's Service could never be made."""
        meta = world.stored.meta
        if self._caches.services.get(*meta.key) is not None:
            return
        found = await self._client.get(SERVICES, meta.namespace, meta.name, metadata_only=True)
        if found is not None:
            owners = found["metadata"].get("ownerReferences") or ()
            if all(owner["uid"] != meta.uid for owner in owners):
                raise NameConflict("Service", meta.namespace, meta.name, leftover=False)

    async def _create_version(self, world: World, number: int, token: str, reason: str) -> None:
        model, settings = world.model, self._settings
        wanted = model_version(
            model,
            number=number,
            token=token,
            reason=reason,
            salt=split_salt(model.metadata.name, model.spec.training.data.split.seed),
            runtime=settings.default_runtime(),
            store=settings.artifact_store,
        )
        try:
            answer = await self._client.create(wanted)
        except AlreadyExists:
            answer = await self._existing_version(world, wanted)
        self._caches.versions.observe(answer)
        log.info("version created", version=names(wanted)[1], reason=reason, token=token)
        self._emit(world, reason, f"{names(wanted)[1]} is trained: {reason}", "Train")

    async def _existing_version(self, world: World, wanted: dict[str, Any]) -> dict[str, Any]:
        """The version of that name, if it is ours: the answer to our own earlier create was lost."""
        namespace, name = names(wanted)
        found = await self._client.get(self._client.resource_of(wanted), namespace, name)
        if found is None:
            raise Conflict(409, "Conflict", f"{name} came and went; the next reconcile looks again")
        owners = found["metadata"].get("ownerReferences") or ()
        if all(owner["uid"] != world.stored.meta.uid for owner in owners):
            raise NameConflict("ModelVersion", namespace, name, leftover=True)
        return found

    async def _patch_last_version(self, world: World, last: LastVersion) -> None:
        document = {
            "number": last.number,
            "token": last.token,
            "name": version_name(world.model.metadata.name, last.number),
        }
        if last.uid:
            document["uid"] = last.uid
        await self._patch(world.stored, {**world.stored.status, "lastVersion": document})

    async def _retire_versions(self, world: World) -> None:
        """Delete the oldest versions beyond the limit; artifacts in the store stay."""
        status, pin = world.model.status, world.pin
        keep = {world.target, *world.deployments}
        keep |= {status.champion.version} if status.champion else set()
        keep |= {pin.version} if pin else set()
        wanted = [v for v in world.versions if v.token == world.token]
        keep |= {max(wanted, key=lambda v: v.number).name} if wanted else set()
        limit = world.model.spec.version_history_limit + len(keep & set(world.by_name))
        for name in retire(world.versions, keep, limit):
            version = world.by_name[name]
            log.info("old version deleted", version=name)
            await self._delete(
                self._client.resource_of(_reference(version)), version.metadata.namespace, name
            )

    # -- champion ----------------------------------------------------------------------------------

    async def _choose_champion(self, world: World) -> bool:
        """Write a new champion to status before anything is turned to it; True when status was written."""
        status = world.model.status
        marked = frozenset(entry.version for entry in status.rejected)
        new = promotion.next_champion(world.champion, world.versions, world.token, world.pin, marked)
        if new is None:
            return False
        rolled_back = promotion.rolled_back_after(marked, world.champion, new, world.versions)
        champion = api.Champion(
            version=new.version, digest=new.digest, revision=new.revision, since=world.now, reason=new.reason
        )
        entries = {entry.version: entry for entry in status.rejected}
        rejected = [
            entries.get(name)
            or api.RejectedVersion(
                version=name,
                reason="RolledBack",
                message=f"spec.serving.pin to {new.version} rolled it back; pin it to serve it again",
                time=world.now,
            )
            for name in sorted(rolled_back)
        ]
        wanted = {
            **world.stored.status,
            "champion": champion.document(),
            "rejected": [entry.document() for entry in rejected] or None,
        }
        await self._patch(world.stored, wanted)
        before = world.champion.version if world.champion else "none"
        log.info("champion", version=new.version, before=before, reason=new.reason, revision=new.revision)
        self._emit(world, new.reason, f"champion is {new.version} (was {before})", "Promote")
        return True

    # -- serving -----------------------------------------------------------------------------------

    async def _serve(self, world: World) -> tuple[Rollout | None, Failure | None]:
        """Apply what serves the champion, turn traffic when it is ready, remove what is no longer needed."""
        champion = world.champion
        version = world.by_name.get(champion.version) if champion else None
        if champion is None or version is None or version.status.artifact is None:
            return None, None
        spec = world.model.spec.serving
        rollout = plan_rollout(
            champion.version,
            world.target,
            world.deployments,
            minimum=spec.replicas.min,
            maximum=spec.max_replicas(),
            warm_until=warm_until(world.model, world.target, world.now),
            now=world.now,
        )
        try:
            await self._apply_children(world, version, rollout)
        except NameConflict as conflict:
            return rollout, Failure("NameConflict", str(conflict))
        except ApiError as error:
            if isinstance(error, (Conflict, Unavailable)):
                raise
            return rollout, _refused_child(error)
        for name in rollout.remove:
            await self._remove_served(world, name)
        return rollout, None

    async def _apply_children(self, world: World, version: ModelVersion, rollout: Rollout) -> None:
        model = world.model
        await self._apply(network.service_account(model))
        await self._apply(network.network_policy(model, self._settings))
        await self._apply(serving.server_deployment(model, version, self._settings))
        await self._apply(autoscaling.autoscaler(model, version, rollout.floor))
        await self._apply(autoscaling.disruption_budget(model, version))
        await self._apply(network.version_service(model, version))
        await self._apply(network.stable_service(model, rollout.target))
        if rollout.target != world.target and world.target:
            log.info("traffic turned", target=rollout.target, before=world.target)
            self._emit(world, "TrafficTurned", f"{rollout.target} serves (was {world.target})", "Route")
        if model.spec.serving.gateway is not None:
            await self._apply(route.http_route(model, rollout.target))
        elif self._caches.routes.get(*world.stored.meta.key) is not None:
            await self._delete(HTTP_ROUTES, *world.stored.meta.key)

    async def _apply(self, desired: dict[str, Any]) -> None:
        cache = self._caches.applied(desired["kind"])
        live: Applied[Any] | None = cache.get(*names(desired))
        await self._applier.apply(desired, live.footprint if live else None, cache.observe)

    async def _remove_served(self, world: World, name: str) -> None:
        log.info("servers removed", version=name)
        for resource in (DEPLOYMENTS, AUTOSCALERS, DISRUPTION_BUDGETS, SERVICES):
            await self._delete(resource, world.stored.meta.namespace, name)

    async def _delete(self, resource: Any, namespace: str, name: str) -> None:
        try:
            await self._client.delete(resource, namespace, name)
        except NotFound:
            log.debug("already gone", resource=resource.label, object=name)

    # -- status ------------------------------------------------------------------------------------

    async def _write_status(
        self, world: World, refusal: Failure | None, rollout: Rollout | None
    ) -> float | None:
        """Assess and write; returns in how many seconds to look again, None if only a change matters."""
        key = world.stored.meta.key
        gateway = world.model.spec.serving.gateway
        listener = await self._gateways.listener(gateway) if gateway is not None else None
        found = self._caches.routes.get(*key)
        champion = world.champion
        failure, again = await server_failure(
            self._client, self._caches, key[0], champion.version if champion else ""
        )
        seen = Seen(
            model=world.model,
            versions=world.versions,
            by_name=world.by_name,
            token=world.token,
            deployments=world.deployments,
            target=rollout.target if rollout else world.target,
            refusal=refusal,
            server_failure=failure,
            route=found.seen if found is not None else None,
            listener=listener,
            now=world.now,
        )
        wanted = desired_status(seen)
        before = {c.type: c for c in world.model.status.conditions}
        if await self._patch(world.stored, stored_form(wanted)):
            for condition in wanted.conditions:
                old = before.get(condition.type)
                if condition.type in {"Ready", "Stalled"} and (
                    old is None or (old.status, old.reason) != (condition.status, condition.reason)
                ):
                    bad = condition.type == "Stalled"
                    self._emit(world, condition.reason, condition.message, "Assess", warning=bad)
        return again

    async def _refuse_unreadable(self, stored: Stored[TrainedModel], invalid: Invalid) -> Result:
        """A stored object that today's types cannot read: say so, touch nothing else of its status."""
        conditions = unreadable_conditions(stored, str(invalid), self._clock.now())
        wanted = {**stored.status, "conditions": conditions, "observedGeneration": stored.generation}
        await self._patch(stored, wanted)
        return Result()

    async def _patch(self, stored: Stored[TrainedModel], wanted: dict[str, Any]) -> bool:
        """Write status if it changed, on the condition that nobody else wrote since it was read."""
        answer = await patch_if_changed(self._client, stored.live(), wanted)
        if answer is None:
            return False
        self._caches.models.observe(answer)
        return True

    def _emit(self, world: World, reason: str, note: str, action: str, *, warning: bool = False) -> None:
        kind = "Warning" if warning else "Normal"
        self._events.emit(world.stored.live(), reason=reason, note=note, action=action, kind=kind)  # type: ignore[arg-type]


def _reference(version: ModelVersion) -> dict[str, Any]:
    return {"apiVersion": version.api_version, "kind": version.kind}


def _refused_child(error: ApiError) -> Failure:
    """A child that the API server refuses: a kind that is not installed, a policy, a wrong value."""
    if isinstance(error, NotFound):
        return Failure(
            "GatewayApiMissing",
            "spec.serving.gateway: this cluster has no Gateway API (HTTPRoute): install it, or leave "
            "gateway out",
        )
    return Failure("ChildRefused", f"the API server refused a child: {error.reason}: {error.message}"[:1024])
