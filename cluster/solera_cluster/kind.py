"""The same cluster by kind, where Docker runs. Loading images into it is the images module's business."""

import subprocess
from pathlib import Path

from solera_cluster import paths, progress, versions
from solera_cluster.errors import ClusterError

CLUSTER_NAME = "solera"
CONFIGURATION = paths.CHECKOUT / "kind-config.yaml"


def kubeconfig() -> Path:
    """Where the kubeconfig of the kind cluster is written."""
    return paths.cluster_dir("kind") / "kubeconfig"


def is_up() -> bool:
    """Whether kind knows the cluster."""
    return CLUSTER_NAME in _kind("get", "clusters").split()


def up() -> None:
    """Create the cluster unless it is there, and write its kubeconfig."""
    if not is_up():
        image = versions.load().kind_node_image
        with progress.step(f"creating the kind cluster {CLUSTER_NAME} from {image}", expected_seconds=90):
            arguments = ("--config", str(CONFIGURATION), "--image", image, "--wait", "180s")
            _kind("create", "cluster", "--name", CLUSTER_NAME, "--kubeconfig", _target(), *arguments)
    kubeconfig().write_text(_kind("get", "kubeconfig", "--name", CLUSTER_NAME))


def down() -> None:
    """Delete the cluster."""
    _kind("delete", "cluster", "--name", CLUSTER_NAME, "--kubeconfig", _target())
    kubeconfig().unlink(missing_ok=True)


def _target() -> str:
    kubeconfig().parent.mkdir(parents=True, exist_ok=True)
    return str(kubeconfig())


def _kind(*arguments: str) -> str:
    result = subprocess.run(["kind", *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise ClusterError(f"`kind {' '.join(arguments)}` failed: {result.stderr.strip()[-1500:]}")
    return result.stdout
