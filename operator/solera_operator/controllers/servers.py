"""What serves a model: applying it, turning traffic, removing what is no longer needed."""

from typing import Any

import structlog

from solera_operator.api import ModelVersion
from solera_operator.controllers.caches import Applied, Caches
from solera_operator.controllers.model_status import turned, warm_until
from solera_operator.controllers.model_writer import ModelWriter
from solera_operator.controllers.world import World
from solera_operator.domain.diagnosis import Failure
from solera_operator.domain.rollout import Rollout, plan_rollout
from solera_operator.engine.apply import Applier, NameConflict, footprint
from solera_operator.engine.client import KubeClient
from solera_operator.engine.errors import ApiError, Conflict, Invalid, NotFound, Unavailable
from solera_operator.engine.repair import replace_spec
from solera_operator.engine.resource import HTTP_ROUTES, names
from solera_operator.resources import autoscaling, network, route, serving
from solera_operator.settings import Settings

log = structlog.get_logger(__name__)


class Servers:
    """Writes Deployments, Services, routes and what goes with them."""

    def __init__(self, client: KubeClient, caches: Caches, settings: Settings, writer: ModelWriter) -> None:
        self._client = client
        self._caches = caches
        self._settings = settings
        self._writer = writer
        self._applier = Applier(client)

    async def serve(self, world: World) -> tuple[Rollout | None, Failure | None]:
        """Serve the champion: bring it up, turn traffic when it is ready, remove what it replaces.

        Returns what was decided, and what stands in the way.
        """
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
            turned=turned(world.model, world.target),
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
        left = set(world.served) - set(world.deployments) - {champion.version, world.target}
        for name in sorted({*rollout.remove, *left}):
            await self._remove(world, name)
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
            note = f"{rollout.target} serves (was {world.target})"
            self._writer.emit(world.stored, "TrafficTurned", note, "Route")
        if model.spec.serving.gateway is not None:
            await self._apply(route.http_route(model, rollout.target))
        else:
            await self._remove_route(world)

    async def _apply(self, desired: dict[str, Any]) -> None:
        cache = self._caches.applied(desired["kind"])
        live: Applied[Any] | None = cache.get(*names(desired))
        try:
            await self._applier.apply(desired, live.footprint if live else None, cache.observe)
        except Invalid:
            if live is None:
                raise
            # What somebody has added to a list does not go together with ours: replace whole lists.
            answer = await replace_spec(self._client, desired, live.meta.uid)
            await self._applier.apply(desired, footprint(answer), cache.observe)

    async def _remove_route(self, world: World) -> None:
        """The spec names no gateway any more."""
        meta = world.stored.meta
        found = self._caches.routes.get(*meta.key)
        if found is not None and found.meta.owner_uid == meta.uid:
            await self._client.delete(HTTP_ROUTES, *meta.key, uid=found.meta.uid)

    async def _remove(self, world: World, name: str) -> None:
        log.info("servers removed", version=name)
        for child in world.served.get(name, ()):
            await self._client.delete(child.resource, *child.meta.key, uid=child.meta.uid)


def _refused_child(error: ApiError) -> Failure:
    """A child that the API server refuses: a kind that is not installed, a policy, a wrong value."""
    if isinstance(error, NotFound) and not error.details.get("kind"):  # the path itself is not served
        return Failure(
            "GatewayApiMissing",
            "spec.serving.gateway: this cluster has no Gateway API (HTTPRoute): install it, or leave "
            "gateway out",
        )
    return Failure("ChildRefused", f"the API server refused a child: {error.reason}: {error.message}"[:1024])
