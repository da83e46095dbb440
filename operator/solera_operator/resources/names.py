"""Names, labels, selectors and owner references of the objects that Solera owns."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

API_VERSION = "solera.dev/v1alpha1"

MODEL_LABEL = "solera.dev/model"
VERSION_LABEL = "solera.dev/version"
COMPONENT_LABEL = "solera.dev/component"

Component = Literal["train", "evaluate", "report", "server", "route"]

APP_LABELS = {"app.kubernetes.io/managed-by": "solera"}
"""On every object that Solera creates."""

MANAGED_SELECTOR = "app.kubernetes.io/managed-by=solera"
"""The label selector by which children are listed and watched."""

NAME_LIMIT = 63


def version_name(model: str, number: int) -> str:
    """The name of version ``number`` of a model; its Deployment, Service, HPA and PDB share it."""
    return f"{model}-v{number}"


def train_job_name(version: str) -> str:
    return fitted(f"{version}-train")


def evaluate_job_name(version: str, evaluation: str) -> str:
    """``evaluation`` is what is judged, as 8 hex digits."""
    return fitted(f"{version}-evaluate-{evaluation}")


def report_job_name(version: str, of: Literal["train", "evaluate"], evaluation: str | None) -> str:
    return fitted(f"{version}-report-{evaluation if of == 'evaluate' else 'train'}")


def fitted(name: str) -> str:
    """``name`` itself, or where it is longer than a DNS label may be, its head and a hash of all of it.

    Only a Job of a model with a 40-letter name and a four-digit version needs it.
    """
    if len(name) <= NAME_LIMIT:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    return f"{name[: NAME_LIMIT - 11].rstrip('-')}-{digest}"


def labels(model: str, *, version: str | None = None, component: Component | None = None) -> dict[str, str]:
    """The labels of an object that belongs to a model."""
    found = {**APP_LABELS, "app.kubernetes.io/name": model, MODEL_LABEL: model}
    if version is not None:
        found[VERSION_LABEL] = version
    if component is not None:
        found[COMPONENT_LABEL] = component
    return found


def server_selector(model: str, version: str) -> dict[str, str]:
    """The labels that choose the server pods of one version. Immutable: part of every Deployment made."""
    return {MODEL_LABEL: model, VERSION_LABEL: version, COMPONENT_LABEL: "server"}


def model_selector(model: str) -> dict[str, str]:
    """The labels that choose the server pods of every version of a model."""
    return {MODEL_LABEL: model, COMPONENT_LABEL: "server"}


def owner_reference(kind: Literal["TrainedModel", "ModelVersion"], name: str, uid: str) -> dict[str, Any]:
    """The controller reference to a parent.

    ``blockOwnerDeletion`` stays unset: it matters to foreground deletion only, and with it the operator
    would need the right to update its parents' finalizers where that is enforced.
    """
    return {"apiVersion": API_VERSION, "kind": kind, "name": name, "uid": uid, "controller": True}


def metadata(
    name: str, namespace: str, owner: dict[str, Any], object_labels: dict[str, str]
) -> dict[str, Any]:
    """The metadata of an owned object."""
    return {"name": name, "namespace": namespace, "labels": object_labels, "ownerReferences": [owner]}


def service_address(model: str, namespace: str) -> str:
    """Where clients within the cluster reach a model."""
    return f"http://{model}.{namespace}.svc"
