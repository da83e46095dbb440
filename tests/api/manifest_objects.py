"""The shipped manifests and the objects that the operator builds, as dicts to send to an API server."""

import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from api_server import ROOT

from solera_cluster import build

MANIFESTS = ROOT / "manifests"

# Where kinds live in the API, beside Solera's own
PLURALS = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "ConfigMap": "configmaps",
    "CustomResourceDefinition": "customresourcedefinitions",
    "Deployment": "deployments",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "Job": "jobs",
    "ModelVersion": "modelversions",
    "Namespace": "namespaces",
    "NetworkPolicy": "networkpolicies",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "TrainedModel": "trainedmodels",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}
CLUSTER_SCOPED = {
    "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace", "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}  # fmt: skip


def load(path: Path) -> ModuleType:
    """Import a file that belongs to no package; its own folder is searched meanwhile."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


owned = load(ROOT / "tests" / "unit" / "resources" / "owned_objects.py")


@cache
def _kubectl() -> Path:
    return build.ensure(["kubectl"]) / "kubectl"


def kustomize(folder: Path) -> list[dict[str, Any]]:
    """The objects of a kustomization."""
    done = subprocess.run([_kubectl(), "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def collection(obj: dict[str, Any], namespace: str) -> str:
    """The path at which an object is created; namespaced ones in ``namespace``."""
    group = obj["apiVersion"]
    root = f"/apis/{group}" if "/" in group else f"/api/{group}"
    plural = PLURALS[obj["kind"]]
    return f"{root}/{plural}" if obj["kind"] in CLUSTER_SCOPED else f"{root}/namespaces/{namespace}/{plural}"


def moved(obj: dict[str, Any], namespace: str) -> dict[str, Any]:
    """A copy of an object in another namespace."""
    if obj["kind"] in CLUSTER_SCOPED:
        return obj
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


def path_of(obj: dict[str, Any], namespace: str) -> str:
    return f"{collection(obj, namespace)}/{obj['metadata']['name']}"
