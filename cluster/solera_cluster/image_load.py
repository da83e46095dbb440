"""Brings built images to the nodes: only those, and of those only the layers, that are not there yet."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from solera_cluster import node, paths, progress
from solera_cluster.errors import ClusterError
from solera_cluster.image_builder import Builder


def missing_in_containerd(references: Sequence[str]) -> list[str]:
    """Give those that the running local cluster's containerd does not have."""
    present = set(node.ctr("images", "list", "--quiet").split())
    return [reference for reference in references if reference not in present]


def into_containerd(builder: Builder, references: Sequence[str]) -> None:
    """Import into the running local cluster's containerd; raises ClusterError when it does not run."""
    missing = missing_in_containerd(references)
    folder = paths.cache_dir() / "images"
    for reference in missing:
        with (
            progress.step(f"loading {reference}"),
            tempfile.TemporaryDirectory(prefix="load-", dir=folder) as scratch,
        ):
            blobs = set(node.ctr("content", "list", "--quiet").split())
            archive = Path(scratch) / "image.tar"
            builder.export(reference, archive, blobs)
            try:
                _import(archive)
            except ClusterError:
                if not blobs:
                    raise
                builder.export(reference, archive, ())  # containerd collected a layer between the two calls
                _import(archive)


def into_kind(builder: Builder, references: Sequence[str], cluster: str) -> None:
    """Load into every node of a kind cluster; kind itself skips what a node has."""
    for reference in references:
        with progress.step(f"loading {reference} into kind cluster {cluster}"):
            if builder.name == "docker":
                _kind("load", "docker-image", reference, "--name", cluster)
                continue
            with tempfile.TemporaryDirectory(prefix="load-", dir=paths.cache_dir() / "images") as scratch:
                archive = Path(scratch) / "image.tar"
                builder.export(reference, archive, ())
                _kind("load", "image-archive", str(archive), "--name", cluster)


def _import(archive: Path) -> None:
    node.ctr("images", "import", str(archive))


def _kind(*arguments: str) -> None:
    finished = subprocess.run(["kind", *arguments], capture_output=True, text=True, check=False)
    if finished.returncode:
        raise ClusterError(f"kind {' '.join(arguments)} failed:\n{finished.stderr.strip()[-1500:]}")
