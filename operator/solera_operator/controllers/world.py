"""What one reconcile of a TrainedModel decides on, as it was when it began."""

from dataclasses import dataclass
from datetime import datetime

from solera_core.spec import Invalid
from solera_operator.api import ModelVersion, TrainedModel
from solera_operator.controllers.caches import BY_MODEL, Caches, Child
from solera_operator.controllers.stored import Stored
from solera_operator.domain.fingerprint import training_token
from solera_operator.domain.observed import Deployment
from solera_operator.domain.promotion import Champion, Pin
from solera_operator.domain.verdicts import as_version
from solera_operator.domain.versions import Version


@dataclass(frozen=True, slots=True)
class World:
    """A model, its versions and what serves it.

    Attributes:
        stored: the model as the cache has it.
        model: its value.
        token: of the training that its spec asks for.
        versions: its versions as decisions see them.
        by_name: the same as they are stored.
        unreadable: names of versions that today's types cannot read, and why. They are there, and may be
            what is wanted or what serves.
        deployments: its servers, by version.
        served: what each version is served by, be it a Service that has lost its Deployment.
        target: the version that traffic goes to, empty when there is none yet.
        now: the clock.
    """

    stored: Stored[TrainedModel]
    model: TrainedModel
    token: str
    versions: tuple[Version, ...]
    by_name: dict[str, ModelVersion]
    unreadable: dict[str, str]
    deployments: dict[str, Deployment]
    served: dict[str, tuple[Child, ...]]
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


def observe(caches: Caches, stored: Stored[TrainedModel], model: TrainedModel, now: datetime) -> World:
    """Look at everything that belongs to the model."""
    key, uid = stored.meta.key, stored.meta.uid
    token = training_token(model.spec.task, model.spec.training)
    own = [v for v in caches.versions.by_index(BY_MODEL, key) if v.meta.owner_uid == uid]
    by_name = {v.meta.name: v.value for v in own if not isinstance(v.value, Invalid)}
    deployments = deployments_of(caches, stored)
    return World(
        stored=stored,
        model=model,
        token=token,
        versions=tuple(as_version(v, token, model.spec.gates or ()) for v in by_name.values()),
        by_name=by_name,
        unreadable={v.meta.name: str(v.value) for v in own if isinstance(v.value, Invalid)},
        deployments=deployments,
        served=caches.served(key, uid),
        target=_target(caches, stored, model, deployments),
        now=now,
    )


def deployments_of(caches: Caches, stored: Stored[TrainedModel]) -> dict[str, Deployment]:
    """A model's servers, by version."""
    return {
        d.meta.name: d.seen
        for d in caches.deployments.by_index(BY_MODEL, stored.meta.key)
        if d.meta.owner_uid == stored.meta.uid and not d.meta.deleting
    }


def _target(
    caches: Caches, stored: Stored[TrainedModel], model: TrainedModel, deployments: dict[str, Deployment]
) -> str:
    """The version that the stable Service names; when it was deleted, the one that it named last."""
    service = caches.services.get(*stored.meta.key)
    if service is not None and service.meta.owner_uid == stored.meta.uid and service.seen.target:
        return service.seen.target
    serving = model.status.serving
    return serving.version if serving is not None and serving.version in deployments else ""
