"""The TrainedModel's reconcile: versions, champion, serving, status."""

from dataclasses import replace

import structlog

from solera_core.spec import Invalid
from solera_operator.api import TrainedModel
from solera_operator.api import trainedmodel as api
from solera_operator.controllers.caches import Caches
from solera_operator.controllers.failures import server_failure
from solera_operator.controllers.gateways import Gateways
from solera_operator.controllers.model_status import Seen, desired_status, unreadable_conditions
from solera_operator.controllers.model_writer import ModelWriter
from solera_operator.controllers.servers import Servers
from solera_operator.controllers.spec_check import spec_problem
from solera_operator.controllers.stored import Stored
from solera_operator.controllers.versioning import Versioning
from solera_operator.controllers.world import World, deployments_of, observe
from solera_operator.domain import promotion
from solera_operator.domain.diagnosis import Failure
from solera_operator.domain.rollout import Rollout
from solera_operator.domain.status import stored_form
from solera_operator.engine.apply import NameConflict
from solera_operator.engine.client import KubeClient
from solera_operator.engine.clock import Clock
from solera_operator.engine.errors import ApiError, Conflict, Unavailable
from solera_operator.engine.events import EventRecorder
from solera_operator.engine.runner import Result
from solera_operator.engine.store import Key
from solera_operator.settings import Settings

log = structlog.get_logger(__name__)

VERSION_REFUSED = "VersionRefused"
AT_ONCE = Result(requeue_after=0.0)
# How soon to look again for what no watch tells:
NAME_TAKEN_SECONDS = 3.0  # a foreign object that is gone
REFUSED_SECONDS = 15.0  # a kind that is installed, a policy that is changed


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
        self._clock = clock
        self._writer = ModelWriter(client, caches, events)
        self._versioning = Versioning(client, caches, settings, self._writer)
        self._servers = Servers(client, caches, settings, self._writer)
        self._gateways = Gateways(client, clock)

    async def reconcile(self, key: Key) -> Result:
        """Bring one model a step further, or find that there is nothing to do."""
        stored = self._caches.models.get(*key)
        if stored is None or stored.meta.deleting:
            return Result()
        if isinstance(stored.value, Invalid):
            return await self._refuse_unreadable(stored, stored.value)
        world = observe(self._caches, stored, stored.value, self._clock.now())
        refusal = spec_problem(world.model, self._settings) or _unreadable_version(world)
        if refusal is None:
            made, refusal = await self._make_version(world)
            if made:
                return AT_ONCE
        if not world.unreadable and await self._choose_champion(world):
            return AT_ONCE
        refusal = refusal or _pin_problem(world)
        rollout, serving_problem = await self._servers.serve(world)
        # Status is about what has just been applied: a Deployment that was current is not any more.
        world = replace(world, deployments=deployments_of(self._caches, stored))
        refusal = refusal or serving_problem
        again = await self._write_status(world, refusal, rollout)
        waits = [
            again,
            rollout.again if rollout else None,
            _look_again(refusal, serving_problem),
            None if world.unreadable else await self._versioning.retire(world),
        ]
        return Result(requeue_after=min((w for w in waits if w is not None), default=None))

    async def _make_version(self, world: World) -> tuple[bool, Failure | None]:
        """Whether status was written on the way to the version that the spec wants; and what stands in it."""
        try:
            return await self._versioning.make(world), None
        except NameConflict as conflict:
            return False, Failure("NameConflict", str(conflict))
        except (Conflict, Unavailable):
            raise
        except ApiError as error:  # quota, a policy, a namespace that goes away: what serves goes on
            said = f"the API server refused a ModelVersion: {error.reason}: {error.message}"
            return False, Failure(VERSION_REFUSED, said[:1024])

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
        if not await self._writer.patch(world.stored, wanted):
            return False
        before = world.champion.version if world.champion else "none"
        log.info("champion", version=new.version, before=before, reason=new.reason, revision=new.revision)
        self._writer.emit(world.stored, new.reason, f"champion is {new.version} (was {before})", "Promote")
        return True

    async def _write_status(
        self, world: World, refusal: Failure | None, rollout: Rollout | None
    ) -> float | None:
        """Assess and write; returns in how many seconds to look again, None if only a change matters."""
        key = world.stored.meta.key
        gateway = world.model.spec.serving.gateway
        listener = await self._gateways.listener(gateway, key[0]) if gateway is not None else None
        found = self._caches.routes.get(*key)
        champion = world.champion
        failure, again = await server_failure(
            self._client, self._caches, key[0], champion.version if champion else "", world.now
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
        if await self._writer.patch(world.stored, stored_form(wanted)):
            for condition in wanted.conditions:
                old = before.get(condition.type)
                if condition.type in {"Ready", "Stalled"} and (
                    old is None or (old.status, old.reason) != (condition.status, condition.reason)
                ):
                    bad = condition.type == "Stalled"
                    self._writer.emit(
                        world.stored, condition.reason, condition.message, "Assess", warning=bad
                    )
        return again

    async def _refuse_unreadable(self, stored: Stored[TrainedModel], invalid: Invalid) -> Result:
        """A stored object that today's types cannot read: say so, touch nothing else of its status."""
        conditions = unreadable_conditions(stored, str(invalid), self._clock.now())
        wanted = {**stored.status, "conditions": conditions, "observedGeneration": stored.generation}
        await self._writer.patch(stored, wanted)
        return Result()


def _unreadable_version(world: World) -> Failure | None:
    """Versions that cannot be read are not absent: what is made anew for them could never be taken back."""
    if not world.unreadable:
        return None
    name, problem = min(world.unreadable.items())
    return Failure(
        "VersionUnreadable",
        f"ModelVersion {name} cannot be read, so no version is made and the champion stays: {problem}; run "
        "the release of Solera that wrote it, or delete it",
    )


def _pin_problem(world: World) -> Failure | None:
    if world.pin is None:
        return None
    problem = promotion.pin_problem(world.pin, world.versions)
    return Failure(problem.reason, problem.message) if problem is not None else None


def _look_again(refusal: Failure | None, serving_problem: Failure | None) -> float | None:
    reasons = {problem.reason for problem in (refusal, serving_problem) if problem is not None}
    if "NameConflict" in reasons:
        return NAME_TAKEN_SECONDS
    return REFUSED_SECONDS if serving_problem is not None or VERSION_REFUSED in reasons else None
