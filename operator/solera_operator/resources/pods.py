"""What the pods of Jobs and servers have in common: hardening, scratch space, credentials, scheduling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solera_operator.settings import Settings

MODEL_PORT = 8080
MANAGEMENT_PORT = 8081
SERVER_CONTAINER = "server"
FETCH_CONTAINER = "fetch"
TRAINER_CONTAINER = "trainer"

STORE_DIRECTORY = "/var/run/solera/store"
DATA_DIRECTORY = "/var/run/solera/data"
CLAIM_DIRECTORY = "/var/run/solera/pvc"
CA_DIRECTORY = "/var/run/solera/ca"
CA_FILE = f"{CA_DIRECTORY}/ca.crt"

POD_SECURITY = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class Volumes:
    """Volumes of a pod and where a container mounts them."""

    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)

    def __add__(self, other: Volumes) -> Volumes:
        return Volumes([*self.volumes, *other.volumes], [*self.mounts, *other.mounts])


def scratch(name: str, path: str, size: str) -> Volumes:
    """A writable directory that goes with the pod."""
    return Volumes(
        [{"name": name, "emptyDir": {"sizeLimit": size}}],
        [{"name": name, "mountPath": path}],
    )


def secret_files(name: str, path: str, secret: str | None) -> Volumes:
    """The keys of a Secret as files. The operator itself never reads it; no Secret, no volume."""
    if secret is None:
        return Volumes()
    # Readable by the image's user, whichever number a platform gives it; the pod has no other user.
    return Volumes(
        [{"name": name, "secret": {"secretName": secret, "defaultMode": 0o444}}],
        [{"name": name, "mountPath": path, "readOnly": True}],
    )


def claim_files(claim: str | None) -> Volumes:
    """The volume claim that holds the data, read-only."""
    if claim is None:
        return Volumes()
    return Volumes(
        [{"name": "claim", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}],
        [{"name": "claim", "mountPath": CLAIM_DIRECTORY, "readOnly": True}],
    )


def store_access(settings: Settings) -> Volumes:
    """Credentials and certificate authority of the artifact store, as the settings name them."""
    store = settings.artifact_store
    found = secret_files("store", STORE_DIRECTORY, store.secret_name)
    if store.ca_config_map_name is None:
        return found
    source = {
        "name": store.ca_config_map_name,
        "defaultMode": 0o444,
        "items": [{"key": "ca.crt", "path": "ca.crt"}],
    }
    authority = Volumes(
        [{"name": "store-ca", "configMap": source}],
        [{"name": "store-ca", "mountPath": CA_DIRECTORY, "readOnly": True}],
    )
    return found + authority


def store_document(
    uri: str, endpoint_url: str | None, region: str | None, settings: Settings
) -> dict[str, Any]:
    """How a pod reaches the store: the part of the Job document, and the server's SOLERA_STORE."""
    found: dict[str, Any] = {"uri": uri}
    if endpoint_url is not None:
        found["endpointUrl"] = endpoint_url
    if region is not None:
        found["region"] = region
    if settings.artifact_store.ca_config_map_name is not None:
        found["caFile"] = CA_FILE
    return found


def cpu_environment(container: str) -> dict[str, Any]:
    """SOLERA_CPUS: the CPU limit in whole CPUs, rounded up; the node's CPUs where there is no limit."""
    source = {"containerName": container, "resource": "limits.cpu", "divisor": "1"}
    return {"name": "SOLERA_CPUS", "valueFrom": {"resourceFieldRef": source}}


def scratch_size(resources: Mapping[str, Any], default: str) -> str:
    """The size of scratch space: the limit on ephemeral storage where the user gave one."""
    return str(resources.get("limits", {}).get("ephemeral-storage", default))


def scheduling(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The pod fields that a user's ``pod`` section (camelCase, as stored) may set."""
    found: dict[str, Any] = {}
    for key in ("nodeSelector", "tolerations", "priorityClassName"):
        if pod.get(key):
            found[key] = pod[key]
    if pod.get("imagePullSecrets"):
        found["imagePullSecrets"] = [
            secret if isinstance(secret, dict) else {"name": secret} for secret in pod["imagePullSecrets"]
        ]
    return found


def pod_base(service_account: str | None) -> dict[str, Any]:
    """The hardened part of a pod's spec: no token, no service variables, Pod Security "restricted"."""
    base: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
    }
    if service_account is not None:
        base["serviceAccountName"] = service_account
    return base
