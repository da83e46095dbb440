"""
Builds images from Containerfiles: docker where its engine runs, otherwise buildah.

buildah keeps its images below the cache directory, so that removing that directory removes them.
"""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from solera_cluster import oci_layout, packages, paths
from solera_cluster.errors import ClusterError
from solera_cluster.image_recipes import Recipe

_PUSHED = "pushed"


class Builder(Protocol):
    """What the rest needs of a builder."""

    name: str

    def existing(self) -> set[str]:
        """References of all images that are built."""
        ...

    def build(self, recipe: Recipe, context: Path) -> None:
        """Build one image from the files in `context`; its parents exist."""
        ...

    def export(self, reference: str, archive: Path, present: Collection[str]) -> None:
        """Write an archive for `ctr images import`; blobs whose digest is in `present` may be left out."""
        ...

    def size(self, reference: str) -> int:
        """Bytes of all layers, uncompressed."""
        ...

    def remove(self, references: Collection[str]) -> None:
        """Remove images."""
        ...


def _run(command: list[str], *, what: str, environment: dict[str, str] | None = None) -> str:
    finished = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}
    )
    if finished.returncode:
        last = "\n".join((finished.stdout + finished.stderr).strip().splitlines()[-15:])
        raise ClusterError(f"{what} failed ({command[0]} exited with {finished.returncode}):\n{last}")
    return finished.stdout


def _build_arguments(recipe: Recipe) -> list[str]:
    return [word for name, value in recipe.arguments.items() for word in ("--build-arg", f"{name}={value}")]


class Buildah:
    """Images by buildah, without any daemon and without a network."""

    name = "buildah"

    def __init__(self) -> None:
        self._folder = paths.cache_dir() / "images"
        # Locks and mount counts must not outlive a reboot, so they are not in the cache directory.
        run = "/run/solera-buildah-" + hashlib.sha256(str(self._folder).encode()).hexdigest()[:8]
        self._command = [
            "buildah",
            *("--root", str(self._folder / "storage"), "--runroot", run),
            *("--storage-driver", "overlay"),
        ]

    def existing(self) -> set[str]:
        """List the references in the storage; its index is read directly, which takes no lock."""
        index = self._folder / "storage" / "overlay-images" / "images.json"
        if not index.exists():
            return set()
        return {name for image in json.loads(index.read_text()) for name in image.get("names") or ()}

    def build(self, recipe: Recipe, context: Path) -> None:
        """One layer for each Containerfile, every time stamp 0: the same inputs give the same image ID."""
        packages.ensure({"buildah": "buildah"})
        ours = all(value.startswith("localhost/") for value in recipe.arguments.values())
        command = [
            *self._command,
            *("bud", "--layers=false", "--timestamp", "0", "--format", "oci"),
            "--pull-never" if ours else "--pull",
            *("--isolation", "chroot", "--network", "host", *_build_arguments(recipe)),
            *("--file", str(recipe.containerfile), "--tag", recipe.reference, str(context)),
        ]
        _run(command, what=f"building {recipe.reference}")

    def export(self, reference: str, archive: Path, present: Collection[str]) -> None:
        """
        Write an OCI archive; its lower layers are not compressed, which would take longest.

        buildah compresses whatever it pushes to an OCI layout, unless the layout has the layer already. So
        the lower layers get there, once, by a push to a plain directory, which does not compress.
        """
        layout = oci_layout.Layout(self._folder / "layout")
        inspect = [*self._command, "inspect", "--type", "image", reference]
        image = json.loads(_run(inspect, what=f"inspecting {reference}"))
        layers = image["OCIv1"]["rootfs"]["diff_ids"]
        if not layout.has(layers[:-1]) or len(layers) == 1:
            with tempfile.TemporaryDirectory(prefix="plain-", dir=self._folder) as plain:
                self._push("--disable-compression", reference, f"dir:{plain}")
                manifest = layout.take(Path(plain))
        else:
            self._push(reference, f"oci:{layout.folder}:{_PUSHED}")
            manifest = layout.pushed()
        layout.write_archive(manifest, reference, archive, present)
        layout.keep_only_shared(layers[:-1])

    def _push(self, *arguments: str) -> None:
        _run([*self._command, "push", "--quiet", *arguments], what=f"exporting {arguments[-2]}")

    def size(self, reference: str) -> int:
        """Sum the uncompressed layers' sizes, from the storage's own records."""
        images = json.loads(_run([*self._command, "images", "--json"], what="listing images"))
        for image in images:
            if reference in (image.get("names") or ()):
                return _bytes(image["size"])
        raise ClusterError(f"{reference} is not built; run `images build`")

    def remove(self, references: Collection[str]) -> None:
        """Remove images and what interrupted builds left; layers still used by others stay."""
        _run([*self._command, "rm", "--all"], what="removing working containers")
        for reference in references:
            _run([*self._command, "rmi", "--force", reference], what=f"removing {reference}")
        layers = self._folder / "storage" / "overlay-layers" / "layers.json"
        used = (
            {layer.get("diff-digest") for layer in json.loads(layers.read_text())}
            if layers.exists()
            else set()
        )
        oci_layout.Layout(self._folder / "layout").forget_shared_but(used)


class Docker:
    """Images by a docker engine."""

    name = "docker"

    def existing(self) -> set[str]:
        """References in the engine's store."""
        listing = _run(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"], what="listing images")
        return set(listing.split())

    def build(self, recipe: Recipe, context: Path) -> None:
        """Build with BuildKit and a fixed time stamp."""
        command = [
            *("docker", "build", "--quiet", "--build-arg", "SOURCE_DATE_EPOCH=0", *_build_arguments(recipe)),
            *("--file", str(recipe.containerfile), "--tag", recipe.reference, str(context)),
        ]
        _run(command, what=f"building {recipe.reference}", environment={"DOCKER_BUILDKIT": "1"})

    def export(self, reference: str, archive: Path, present: Collection[str]) -> None:  # noqa: ARG002 docker saves whole images only
        """Save the whole image."""
        _run(["docker", "save", "--output", str(archive), reference], what=f"exporting {reference}")

    def size(self, reference: str) -> int:
        """Size as the engine states it."""
        return int(
            _run(["docker", "image", "inspect", "--format", "{{.Size}}", reference], what="inspecting")
        )

    def remove(self, references: Collection[str]) -> None:
        """Remove images."""
        for reference in references:
            _run(["docker", "rmi", reference], what=f"removing {reference}")


@functools.cache
def docker_runs() -> bool:
    """Whether a docker engine answers."""
    if shutil.which("docker") is None:
        return False
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def choose() -> Builder:
    """Give the builder of this machine; SOLERA_BUILDER=buildah or docker decides otherwise."""
    named = os.environ.get("SOLERA_BUILDER", "")
    if named not in {"", "buildah", "docker"}:
        raise ClusterError(f"SOLERA_BUILDER is {named!r}; write buildah or docker, or leave it out")
    return Docker() if named == "docker" or (not named and docker_runs()) else Buildah()


def _bytes(text: str) -> int:
    """Read buildah's sizes, such as `48.6 MB`."""
    number, unit = text.split()
    return round(float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit.upper()])
