"""Archives for containerd, made from a kept folder of blobs."""

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from solera_cluster import image_builder
from solera_cluster.errors import ClusterError
from solera_cluster.oci_layout import Layout


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def plain_directory(folder: Path, layers: list[bytes]) -> Path:
    """An image as buildah pushes it to a plain directory."""
    folder.mkdir()
    config = b"{}"
    for content in (config, *layers):
        (folder / hashlib.sha256(content).hexdigest()).write_bytes(content)
    manifest = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"digest": digest_of(config)},
        "layers": [{"digest": digest_of(layer)} for layer in layers],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    return folder


def test_an_archive_holds_what_containerd_lacks(tmp_path: Path) -> None:
    below, above = b"dependencies", b"sources"
    layout = Layout(tmp_path / "layout")
    manifest = layout.take(plain_directory(tmp_path / "plain", [below, above]))
    layout.write_archive(manifest, "localhost/x:1", tmp_path / "a.tar", {digest_of(below)})
    with tarfile.open(tmp_path / "a.tar") as tar:
        names = set(tar.getnames())
        index_file = tar.extractfile("index.json")
        assert index_file is not None
        index = json.load(index_file)
    blobs = {name.replace("blobs/sha256/", "sha256:") for name in names if name.startswith("blobs/")}
    assert blobs == {digest_of(above), digest_of(b"{}"), manifest["digest"]}
    assert {"oci-layout", "index.json"} <= names
    [described] = index["manifests"]
    assert described["annotations"] == {"io.containerd.image.name": "localhost/x:1"}
    assert described["digest"] == manifest["digest"]


def test_only_shared_layers_stay(tmp_path: Path) -> None:
    below, above, other = b"dependencies", b"sources", b"other dependencies"
    layout = Layout(tmp_path / "layout")
    layout.take(plain_directory(tmp_path / "one", [below, above]))
    layout.keep_only_shared([digest_of(below)])
    assert layout.has([digest_of(below)])
    assert not layout.has([digest_of(above)])
    layout.take(plain_directory(tmp_path / "two", [other, above]))
    layout.keep_only_shared([digest_of(other)])
    assert layout.has([digest_of(below), digest_of(other)])
    layout.forget_shared_but({digest_of(other)})
    assert layout.has([digest_of(other)])
    assert not layout.has([digest_of(below)])


def test_an_unknown_builder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLERA_BUILDER", "podman")
    with pytest.raises(ClusterError, match="write buildah or docker"):
        image_builder.choose()


@pytest.mark.parametrize(("text", "size"), [("48.6 MB", 48_600_000), ("1.43 kB", 1430), ("12 B", 12)])
def test_buildahs_sizes_are_read(text: str, size: int) -> None:
    assert image_builder._bytes(text) == size
