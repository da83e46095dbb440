"""Solera's own objects as the caches hold them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from solera_core.spec import Invalid
from solera_operator.api import ModelVersion, TrainedModel, read
from solera_operator.domain.observed import Meta, project_meta

Kind = TypeVar("Kind", TrainedModel, ModelVersion)


@dataclass(frozen=True, slots=True)
class Stored(Generic[Kind]):
    """One object: who it is, what it says (or why it cannot be read), and its status as it is stored."""

    meta: Meta
    generation: int
    value: Kind | Invalid
    status: Mapping[str, Any]
    api_version: str
    kind: str

    def live(self) -> dict[str, Any]:
        """What a status patch and an Event need of the object."""
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "metadata": {
                "namespace": self.meta.namespace,
                "name": self.meta.name,
                "uid": self.meta.uid,
                "resourceVersion": self.meta.resource_version,
            },
            "status": self.status,
        }


def project_model(obj: Mapping[str, Any]) -> Stored[TrainedModel]:
    return _stored(obj, TrainedModel)


def project_version(obj: Mapping[str, Any]) -> Stored[ModelVersion]:
    return _stored(obj, ModelVersion)


def _stored(obj: Mapping[str, Any], kind: type[Kind]) -> Stored[Kind]:
    return Stored(
        meta=project_meta(obj),
        generation=obj["metadata"].get("generation", 0),
        value=read(kind, obj),
        status=obj.get("status") or {},
        api_version=obj["apiVersion"],
        kind=obj["kind"],
    )
