import json

import pytest

from solera_core import artifact
from solera_core.canonical import canonical_json, sha256_digest
from solera_core.failures import ArtifactCorrupt


@pytest.fixture
def directory(tmp_path):
    for name in artifact.REQUIRED:
        (tmp_path / name).write_bytes(b"content of " + name.encode())
    artifact.write_manifest(tmp_path)
    return tmp_path


def digest_of(directory):
    return sha256_digest((directory / artifact.MANIFEST).read_bytes())


def rewrite(directory, change):
    path = directory / artifact.MANIFEST
    document = json.loads(path.read_bytes())
    change(document)
    path.write_bytes(canonical_json(document))
    return sha256_digest(path.read_bytes())


def test_what_was_written_verifies(directory):
    manifest = artifact.verify(directory, digest_of(directory))
    assert set(manifest.files) == set(artifact.REQUIRED)
    assert manifest.digest == digest_of(directory)
    assert manifest.size == sum((directory / name).stat().st_size for name in artifact.REQUIRED)


def test_the_digest_depends_on_content_alone(directory, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for name in reversed(artifact.REQUIRED):
        (other / name).write_bytes((directory / name).read_bytes())
    assert artifact.write_manifest(other).digest == digest_of(directory)


def test_a_result_beside_the_manifest_is_no_part_of_it(directory):
    digest = digest_of(directory)
    (directory / artifact.RESULT).write_text("{}")
    artifact.verify(directory, digest)
    assert artifact.write_manifest(directory).digest == digest


def flip(directory):
    path = directory / artifact.MODEL
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(bytes(data))


def link(directory):
    path = directory / artifact.MODEL
    path.rename(directory.parent / "elsewhere")
    path.symlink_to(directory.parent / "elsewhere")


TAMPERED = {
    "one bit": (flip, "SHA-256"),
    "longer": (lambda d: (d / artifact.SCHEMA).write_bytes(b"x" * 99), "bytes, not the manifest's"),
    "missing": (lambda d: (d / artifact.EXAMPLES).unlink(), "is missing"),
    "extra": (lambda d: (d / "extra.py").write_text(""), "does not list: extra.py"),
    "symlink": (link, "not a regular file"),
    "manifest": (lambda d: rewrite(d, lambda m: m["files"].pop(artifact.SCHEMA)), "has the digest"),
    "no manifest": (lambda d: (d / artifact.MANIFEST).unlink(), "no manifest.json"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_changed_artifact_is_refused(directory, case):
    digest = digest_of(directory)
    change, message = TAMPERED[case]
    change(directory)
    with pytest.raises(ArtifactCorrupt, match=message):
        artifact.verify(directory, digest)


HOSTILE = {
    "path traversal": (lambda m: m["files"].update({"../x": {"sha256": "0" * 64, "size": 1}}), "cannot have"),
    "absolute": (
        lambda m: m["files"].update({"/etc/passwd": {"sha256": "0" * 64, "size": 1}}),
        "cannot have",
    ),
    "hidden": (lambda m: m["files"].update({".x": {"sha256": "0" * 64, "size": 1}}), "cannot have"),
    "itself": (
        lambda m: m["files"].update({"manifest.json": {"sha256": "0" * 64, "size": 1}}),
        "cannot have",
    ),
    "result": (lambda m: m["files"].update({"result.json": {"sha256": "0" * 64, "size": 1}}), "cannot have"),
    "huge": (lambda m: m["files"]["model.skops"].update(size=10**15), "a size that is not"),
    "negative": (lambda m: m["files"]["model.skops"].update(size=-1), "a size that is not"),
    "boolean size": (lambda m: m["files"]["model.skops"].update(size=True), "a size that is not"),
    "no hash": (lambda m: m["files"]["model.skops"].update(sha256="zz"), "no SHA-256"),
    "no model": (lambda m: m["files"].pop("model.skops"), "does not list model.skops"),
    "version": (lambda m: m.update(formatVersion=2), "format version 1"),
    "other field": (lambda m: m.update(more=1), "other fields"),
    "many files": (
        lambda m: m["files"].update({f"f{i}": {"sha256": "0" * 64, "size": 1} for i in range(99)}),
        "more than 64 files",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_manifest_is_refused_though_its_digest_is_right(directory, case):
    change, message = HOSTILE[case]
    digest = rewrite(directory, change)
    with pytest.raises(ArtifactCorrupt, match=message):
        artifact.verify(directory, digest)


def test_a_manifest_that_is_not_canonical_is_refused(directory):
    path = directory / artifact.MANIFEST
    path.write_bytes(json.dumps(json.loads(path.read_bytes()), indent=1).encode())
    with pytest.raises(ArtifactCorrupt, match="not canonical"):
        artifact.verify(directory)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:" + "g" * 64, "md5:" + "0" * 64, "0" * 64])
def test_what_is_no_digest_is_refused(directory, digest):
    with pytest.raises(ArtifactCorrupt, match="is not a digest"):
        artifact.verify(directory, digest)
