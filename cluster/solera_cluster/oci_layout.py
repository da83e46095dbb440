"""A folder in the OCI image layout, from which archives for containerd are made."""

import hashlib
import io
import json
import tarfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any


class Layout:
    """Blobs by digest; layers that several images share stay, all else is removed after use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs" / "sha256"
        self._blobs.mkdir(parents=True, exist_ok=True)

    def has(self, digests: Iterable[str]) -> bool:
        """Whether all these blobs are there."""
        return all(self._path(digest).exists() for digest in digests)

    def take(self, plain: Path) -> dict[str, Any]:
        """Move in the files of an image pushed to a plain directory; give its manifest's descriptor."""
        content = (plain / "manifest.json").read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        (plain / "manifest.json").rename(self._blobs / digest)
        for path in plain.iterdir():
            if path.name != "version":
                path.rename(self._blobs / path.name)
        media_type = json.loads(content)["mediaType"]
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def pushed(self) -> dict[str, Any]:
        """Give the manifest's descriptor of the image that was just pushed to this layout."""
        index = self.folder / "index.json"
        [descriptor] = json.loads(index.read_text())["manifests"]
        index.unlink()
        return {name: descriptor[name] for name in ("mediaType", "digest", "size")}

    def write_archive(
        self, manifest: dict[str, Any], reference: str, archive: Path, present: Collection[str]
    ) -> None:
        """Write what `ctr images import` reads; blobs in `present` are left out."""
        described = json.loads(self._path(manifest["digest"]).read_text())
        wanted = [manifest, described["config"], *described["layers"]]
        named = manifest | {"annotations": {"io.containerd.image.name": reference}}
        with tarfile.open(archive, "w") as tar:
            _add(tar, "oci-layout", {"imageLayoutVersion": "1.0.0"})
            _add(tar, "index.json", {"schemaVersion": 2, "manifests": [named]})
            for digest in sorted({entry["digest"] for entry in wanted} - set(present)):
                tar.add(self._path(digest), "blobs/" + digest.replace(":", "/"))

    def keep_only_shared(self, shared: Iterable[str]) -> None:
        """Remove every blob but the given layers and those that were kept before."""
        self._keep(self._shared() | set(shared))

    def forget_shared_but(self, used: Collection[str]) -> None:
        """Remove layers that are not among those still used; they are made again if they are needed."""
        self._keep(self._shared() & set(used))

    def _shared(self) -> set[str]:
        record = self.folder / "shared.json"
        return set(json.loads(record.read_text())) if record.exists() else set()

    def _keep(self, digests: set[str]) -> None:
        (self.folder / "shared.json").write_text(json.dumps(sorted(digests)))
        for path in self._blobs.iterdir():
            if f"sha256:{path.name}" not in digests:
                path.unlink()

    def _path(self, digest: str) -> Path:
        return self._blobs / digest.removeprefix("sha256:")


def _add(tar: tarfile.TarFile, name: str, document: object) -> None:
    content = json.dumps(document).encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
