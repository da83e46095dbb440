"""Everything that Solera watches, and whom a change wakes.

A change of a child wakes its TrainedModel or its ModelVersion; nothing else is carried with it, so that a
missed or doubled event changes nothing.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from solera_operator.api import ModelVersion, TrainedModel
from solera_operator.controllers.stored import Stored, project_model, project_version
from solera_operator.domain.observed import (
    Deployment,
    Job,
    Meta,
    Pod,
    Route,
    Service,
    project_deployment,
    project_job,
    project_meta,
    project_pod,
    project_route,
    project_service,
)
from solera_operator.engine.apply import Footprint, footprint
from solera_operator.engine.cache import Reader, Reflector
from solera_operator.engine.client import KubeClient
from solera_operator.engine.resource import (
    AUTOSCALERS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    HTTP_ROUTES,
    JOBS,
    NETWORK_POLICIES,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from solera_operator.engine.source import KopfSource
from solera_operator.engine.store import Key
from solera_operator.resources.names import COMPONENT_LABEL, MANAGED_SELECTOR, MODEL_LABEL, VERSION_LABEL

TRAINED_MODELS = Resource("solera.dev", "v1alpha1", TrainedModel.plural, "TrainedModel")
MODEL_VERSIONS = Resource("solera.dev", "v1alpha1", ModelVersion.plural, "ModelVersion")

BY_MODEL = "model"
BY_VERSION = "version"

Wake = Callable[[Key], None]


class HasMeta(Protocol):
    """What all projections of children have."""

    @property
    def meta(self) -> Meta: ...


Projected = TypeVar("Projected", bound=HasMeta)
Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True)
class Child:
    """A child that can be deleted: just this one, whatever has its name later."""

    resource: Resource
    meta: Meta


@dataclass(frozen=True, slots=True)
class Applied(Generic[Seen]):
    """A child that is kept by server-side apply: what is seen of it, and the footprint of our own part."""

    meta: Meta
    seen: Seen
    footprint: Footprint


def applied(project: Callable[[Mapping[str, Any]], Seen]) -> Callable[[Mapping[str, Any]], Applied[Seen]]:
    """Add identity and footprint to a projection."""
    return lambda obj: Applied(project_meta(obj), project(obj), footprint(obj))


def nothing(_: Mapping[str, Any]) -> None:
    """The projection of children of which only the footprint matters."""


def by_model(child: HasMeta) -> Iterable[Key]:
    """The model that a child belongs to, by its label."""
    model = child.meta.labels.get(MODEL_LABEL)
    return [(child.meta.namespace, model)] if model else []


def by_version(child: HasMeta) -> Iterable[Key]:
    """The version that a child belongs to, by its label."""
    version = child.meta.labels.get(VERSION_LABEL)
    return [(child.meta.namespace, version)] if version else []


CHILD_INDEXES = {BY_MODEL: by_model, BY_VERSION: by_version}


class Caches:
    """The caches of both controllers: Solera's own kinds by the event source, children by reflectors."""

    def __init__(
        self,
        client: KubeClient,
        source: KopfSource,
        *,
        wake_model: Wake,
        wake_version: Wake,
        namespaces: Sequence[str] = (),
    ) -> None:
        """``namespaces`` empty: all of them."""
        self.models: Reader[Stored[TrainedModel]] = source.feed(
            TRAINED_MODELS, project=project_model, on_change=self._model_changed
        )
        self.versions: Reader[Stored[ModelVersion]] = source.feed(
            MODEL_VERSIONS,
            project=project_version,
            on_change=self._version_changed,
            indexes={BY_MODEL: by_model},
        )
        self._wake_model = wake_model
        self._wake_version = wake_version

        def reflect(
            resource: Resource,
            project: Callable[[Mapping[str, Any]], Projected],
            *,
            optional: bool = False,
        ) -> Reflector[Projected]:
            return Reflector(
                client,
                resource,
                project=project,
                on_change=self._child_changed,
                namespaces=namespaces,
                label_selector=MANAGED_SELECTOR,
                indexes=CHILD_INDEXES,
                optional=optional,
            )

        self.jobs: Reflector[Job] = reflect(JOBS, project_job)
        self.pods: Reflector[Pod] = reflect(PODS, project_pod)
        self.deployments: Reflector[Applied[Deployment]] = reflect(DEPLOYMENTS, applied(project_deployment))
        self.services: Reflector[Applied[Service]] = reflect(SERVICES, applied(project_service))
        # A cluster may lack the Gateway API.
        self.routes: Reflector[Applied[Route]] = reflect(HTTP_ROUTES, applied(project_route), optional=True)
        self.companions: dict[str, Reflector[Applied[None]]] = {
            resource.kind: reflect(resource, applied(nothing))
            for resource in (AUTOSCALERS, DISRUPTION_BUDGETS, NETWORK_POLICIES, SERVICE_ACCOUNTS)
        }

    @property
    def _followed(self) -> tuple[Reflector[Any], ...]:
        return (
            self.jobs,
            self.pods,
            self.deployments,
            self.services,
            self.routes,
            *self.companions.values(),
        )

    @property
    def required(self) -> tuple[Reader[Any], ...]:
        """The caches without which nothing may be decided."""
        return (self.models, self.versions, *self._followed)

    def applied(self, kind: str) -> Reflector[Any]:
        """The cache of a kind that is kept by server-side apply."""
        named: dict[str, Reflector[Any]] = {
            "Deployment": self.deployments,
            "Service": self.services,
            "HTTPRoute": self.routes,
        }
        return named[kind] if kind in named else self.companions[kind]

    def served(self, model: Key, uid: str) -> dict[str, tuple[Child, ...]]:
        """What serves each version of a model, in the order in which it is to be removed."""
        found: dict[str, tuple[Child, ...]] = {}
        for kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget", "Deployment", "Service"):
            cache = self.applied(kind)
            for child in cache.by_index(BY_MODEL, model):
                meta: Meta = child.meta
                if meta.owner_uid == uid and meta.name == meta.labels.get(VERSION_LABEL):
                    found[meta.name] = (*found.get(meta.name, ()), Child(cache.resource, meta))
        return found

    def synced(self) -> bool:
        """Whether every required cache has had its first full list."""
        return all(cache.synced.is_set() for cache in self.required)

    async def run(self) -> None:
        """Follow the children until cancelled."""
        async with asyncio.TaskGroup() as group:
            for cache in self._followed:
                group.create_task(cache.run())

    def _child_changed(self, _: Key, old: HasMeta | None, new: HasMeta | None) -> None:
        child = new or old
        if child is None:
            return
        if isinstance(child, Job) or child.meta.labels.get(COMPONENT_LABEL) in {
            "train",
            "evaluate",
            "report",
        }:
            for key in by_version(child):
                self._wake_version(key)
        else:
            for key in by_model(child):
                self._wake_model(key)

    def _model_changed(
        self, key: Key, _: Stored[TrainedModel] | None, new: Stored[TrainedModel] | None
    ) -> None:
        """Gates may have changed, so the versions of the model are woken too."""
        self._wake_model(key)
        if new is not None:
            for version in self.versions.by_index(BY_MODEL, key):
                self._wake_version(version.meta.key)

    def _version_changed(
        self, key: Key, old: Stored[ModelVersion] | None, new: Stored[ModelVersion] | None
    ) -> None:
        self._wake_version(key)
        version = new or old
        if version is not None:
            for model in by_model(version):
                self._wake_model(model)
