"""The image of the pods' sandboxes, made without any image tool so that the node stands on its own."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path


def reference(version: str) -> str:
    """Give the image's name."""
    return f"localhost/pause:{version}"


def write(archive: Path, binary: Path, version: str) -> None:
    """Write an OCI archive of one layer with one file: the static `binary`."""
    machine = os.uname().machine
    layer = _tar({"pause": (binary.read_bytes(), 0o755)})
    blobs: dict[str, bytes] = {}

    def add(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {
            "mediaType": f"application/vnd.oci.image.{media_type}",
            "digest": f"sha256:{digest}",
            "size": len(data),
        }

    layer_descriptor = add(layer, "layer.v1.tar")
    configuration = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [layer_descriptor["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": add(json.dumps(configuration).encode(), "config.v1+json"),
        "layers": [layer_descriptor],
    }
    described = add(json.dumps(manifest).encode(), "manifest.v1+json")
    described["annotations"] = {"io.containerd.image.name": reference(version)}
    index = {"schemaVersion": 2, "manifests": [described]}
    files = {name: (data, 0o644) for name, data in blobs.items()}
    files["index.json"] = (json.dumps(index).encode(), 0o644)
    files["oci-layout"] = (b'{"imageLayoutVersion": "1.0.0"}', 0o644)
    archive.write_bytes(_tar(files))


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (data, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
