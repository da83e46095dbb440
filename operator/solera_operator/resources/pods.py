"""What the pods of Jobs and servers have in common: hardening, scratch space, credentials, scheduling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from solera_core.canonical import canonical_json
from solera_core.job import DATA_VOLUME, STORE_CREDENTIALS, StoreLocation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solera_operator.api.modelversion import Store
    from solera_operator.settings import Settings

MODEL_PORT = 8080
MANAGEMENT_PORT = 8081
SERVER_CONTAINER = "server"
FETCH_CONTAINER = "fetch"
TRAINER_CONTAINER = "trainer"

CA_DIRECTORY = "/var/run/solera/ca"
CA_FILE = f"{CA_DIRECTORY}/ca.crt"


def container_security() -> dict[str, Any]:
    """What every container gives up."""
    return {
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
        [{"name": "claim", "mountPath": DATA_VOLUME, "readOnly": True}],
    )


def store_access(settings: Settings) -> Volumes:
    """Credentials and certificate authority of the artifact store, as the settings name them."""
    store = settings.artifact_store
    found = secret_files("store", STORE_CREDENTIALS, store.secret_name)
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


def store_location(store: Store, settings: Settings) -> StoreLocation:
    """How a pod reaches the store that a version lives in."""
    with_authority = settings.artifact_store.ca_config_map_name is not None
    return StoreLocation(
        uri=store.uri,
        endpoint_url=store.endpoint_url,
        region=store.region,
        ca_file=CA_FILE if with_authority else None,
    )


def store_document(store: Store, settings: Settings) -> str:
    """The same as JSON, for SOLERA_STORE: uri, and endpointUrl, region, caFile where they are known."""
    place = store_location(store, settings)
    document = {
        "uri": place.uri,
        "endpointUrl": place.endpoint_url,
        "region": place.region,
        "caFile": place.ca_file,
    }
    return canonical_json({k: v for k, v in document.items() if v is not None}).decode().strip()


def literal(text: str) -> str:
    """Text for an environment variable or argument, safe from Kubernetes' $(NAME) and $$ expansion."""
    return text.replace("$", "$$")


def cpu_environment(container: str) -> dict[str, Any]:
    """SOLERA_CPUS: the CPU limit in whole CPUs, rounded up; the node's CPUs where there is no limit."""
    source = {"containerName": container, "resource": "limits.cpu", "divisor": "1"}
    return {"name": "SOLERA_CPUS", "valueFrom": {"resourceFieldRef": source}}


def scratch_size(resources: Mapping[str, Any], default: str) -> str:
    """The size of scratch space: the limit on ephemeral storage where the user gave one."""
    return str(resources.get("limits", {}).get("ephemeral-storage", default))


def scheduling(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The pod fields that a user's ``pod`` section (camelCase, as stored) may set."""
    keys = ("nodeSelector", "tolerations", "priorityClassName", "imagePullSecrets")
    return {key: pod[key] for key in keys if key in pod}


def pod_base(service_account: str | None) -> dict[str, Any]:
    """The hardened part of a pod's spec: no token, no service variables, Pod Security "restricted"."""
    base: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    if service_account is not None:
        base["serviceAccountName"] = service_account
    return base
