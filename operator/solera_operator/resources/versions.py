"""The ModelVersion that a TrainedModel's controller creates: by plain POST, never changed afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from solera_operator.resources import names

if TYPE_CHECKING:
    from solera_operator.api.trainedmodel import TrainedModel
    from solera_operator.settings import ArtifactStore, Runtime


def model_version(
    model: TrainedModel,
    *,
    number: int,
    token: str,
    reason: str,
    salt: str,
    runtime: Runtime,
    store: ArtifactStore,
) -> dict[str, Any]:
    """Version ``number`` of a model: a snapshot of what is trained, why, with which images, and where to.

    Args:
        model: the parent, whose task and training are copied.
        number: never used before for this model.
        token: what caused the version.
        reason: the kind of cause, e.g. Created.
        salt: of the split into training and held-out rows.
        runtime: the images, as the settings have them now.
        store: where its artifact goes, as the settings have it now.
    """
    meta = model.metadata
    name = names.version_name(meta.name, number)
    owner = names.owner_reference("TrainedModel", meta.name, meta.uid)
    place = {"uri": store.uri, "endpointUrl": store.endpoint_url, "region": store.region}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelVersion",
        "metadata": names.metadata(name, meta.namespace, owner, names.labels(meta.name, version=name)),
        "spec": {
            "modelName": meta.name,
            "number": number,
            "token": token,
            "reason": reason,
            "task": str(model.spec.task),
            "training": model.spec.training.document(),
            "salt": salt,
            "runtime": {
                "name": runtime.name,
                "sklearnVersion": runtime.sklearn_version,
                "trainerImage": runtime.trainer_image,
                "serverImage": runtime.server_image,
            },
            "store": {key: value for key, value in place.items() if value is not None},
        },
    }
