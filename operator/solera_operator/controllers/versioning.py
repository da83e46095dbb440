"""Making the versions that a spec asks for, and deleting the old ones."""

from typing import Any

import structlog

from solera_core.salt import split_salt
from solera_operator.api.objects import Condition as StoredCondition
from solera_operator.controllers.caches import MODEL_VERSIONS, Caches
from solera_operator.controllers.model_writer import ModelWriter
from solera_operator.controllers.world import World
from solera_operator.domain.assessment import first_conditions
from solera_operator.domain.status import timed
from solera_operator.domain.versions import (
    Confirm,
    Create,
    LastVersion,
    Reserve,
    plan_version,
    retire,
    wanted_version,
)
from solera_operator.engine.apply import NameConflict
from solera_operator.engine.client import KubeClient
from solera_operator.engine.errors import AlreadyExists, ApiError, Conflict, Unavailable
from solera_operator.engine.resource import SERVICES, names
from solera_operator.resources.names import version_name
from solera_operator.resources.versions import model_version
from solera_operator.settings import Settings

log = structlog.get_logger(__name__)

REFUSED_SECONDS = 15.0


class Versioning:
    """Creates ModelVersions, one number after another, and retires them."""

    def __init__(self, client: KubeClient, caches: Caches, settings: Settings, writer: ModelWriter) -> None:
        self._client = client
        self._caches = caches
        self._settings = settings
        self._writer = writer

    async def make(self, world: World) -> bool:
        """Take the next step towards the version that the spec wants; True when it is to be looked at again.

        Raises:
            ApiError: the API server refused, or did not answer.
            NameConflict: an object that is not the model's has a name that it needs.
        """
        recorded = world.model.status.last_version
        last = LastVersion(recorded.number, recorded.token, recorded.uid or "") if recorded else LastVersion()
        match plan_version(world.versions, last, world.token):
            case Reserve(number, token):
                if await self._found(world):
                    return True
                await self._check_names(world)
                return await self._record(world, LastVersion(number, token))
            case Create(number, token, reason):
                await self._create(world, number, token, reason)
            case Confirm(uid):
                return await self._record(world, LastVersion(last.number, last.token, uid))
        return False

    async def _found(self, world: World) -> bool:
        """Whether the version that status names is there, though the cache has not seen it (yet).

        After a change of leader a model may be seen newer than its versions. Deleting the newest version
        trains again, so it must be known to be gone.
        """
        last, meta = world.model.status.last_version, world.stored.meta
        if last is None or last.uid is None or last.token != world.token:
            return False
        if self._caches.versions.get(meta.namespace, last.name) is not None:
            return False
        found = await self._client.get(MODEL_VERSIONS, meta.namespace, last.name)
        if found is None or not _owned(found, meta.uid):
            return False
        self._caches.versions.observe(found)
        return True

    async def retire(self, world: World) -> float | None:
        """Delete the oldest versions beyond the limit; artifacts in the store stay.

        Returns in how many seconds to try again, where the API server refused.
        """
        champion, pin = world.model.status.champion, world.pin
        wanted = wanted_version(world.versions, world.token)
        keep = {world.target, *world.served}
        keep |= {champion.version} if champion else set()
        keep |= {pin.version} if pin else set()
        keep |= {wanted.name} if wanted else set()
        limit = world.model.spec.version_history_limit + len(keep & set(world.by_name))
        again = None
        for name in retire(world.versions, keep, limit):
            meta = world.by_name[name].metadata
            try:
                if await self._client.delete(MODEL_VERSIONS, meta.namespace, name, uid=meta.uid):
                    log.info("old version deleted", version=name)
            except (Conflict, Unavailable):
                raise
            except ApiError as error:
                log.warning("old version stays", version=name, error=str(error))
                again = REFUSED_SECONDS
        return again

    async def _check_names(self, world: World) -> None:
        """Refuse before anything is trained when the model's Service could never be made."""
        meta = world.stored.meta
        if self._caches.services.get(*meta.key) is not None:
            return
        found = await self._client.get(SERVICES, meta.namespace, meta.name, metadata_only=True)
        if found is not None and not _owned(found, meta.uid):
            raise NameConflict("Service", meta.namespace, meta.name, leftover=False)

    async def _create(self, world: World, number: int, token: str, reason: str) -> None:
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
            answer = await self._existing(world, wanted)
        self._caches.versions.observe(answer)
        log.info("version created", version=names(wanted)[1], reason=reason, token=token)
        self._writer.emit(world.stored, reason, f"{names(wanted)[1]} is trained: {reason}", "Train")

    async def _existing(self, world: World, wanted: dict[str, Any]) -> dict[str, Any]:
        """The version of that name, if it is ours: the answer to our own earlier create was lost."""
        namespace, name = names(wanted)
        found = await self._client.get(MODEL_VERSIONS, namespace, name)
        if found is None:
            raise Conflict(409, "Conflict", f"{name} came and went; the next reconcile looks again")
        if not _owned(found, world.stored.meta.uid):
            raise NameConflict("ModelVersion", namespace, name, leftover=True)
        return found

    async def _record(self, world: World, last: LastVersion) -> bool:
        """Write lastVersion; with it, on the first visit, that the model has been seen."""
        document = {
            "number": last.number,
            "token": last.token,
            "name": version_name(world.model.metadata.name, last.number),
        }
        if last.uid:
            document["uid"] = last.uid
        wanted: dict[str, Any] = {**world.stored.status, "lastVersion": document}
        if not world.model.status.conditions:
            wanted |= _first_visit(world)
        return await self._writer.patch(world.stored, wanted)


def _first_visit(world: World) -> dict[str, Any]:
    generation = world.stored.generation
    seen: tuple[StoredCondition, ...] = timed(first_conditions(), (), generation, world.now)
    return {"observedGeneration": generation, "conditions": [c.document() for c in seen]}


def _owned(obj: dict[str, Any], uid: str) -> bool:
    return any(owner["uid"] == uid for owner in obj["metadata"].get("ownerReferences") or ())
