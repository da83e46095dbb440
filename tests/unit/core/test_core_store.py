import time

import pytest
import s3_double

from solera_core import artifact, object_access
from solera_core.failures import ArtifactCorrupt, StoreDenied, StoreUnavailable
from solera_core.job import StoreLocation
from solera_core.store import AlreadyThere, NotFound, Store, artifact_uri


@pytest.fixture
def credentials(tmp_path):
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "AWS_ACCESS_KEY_ID").write_text("key\n")
    (folder / "AWS_SECRET_ACCESS_KEY").write_text("secret")
    return folder


@pytest.fixture
def s3(credentials, monkeypatch):
    monkeypatch.setattr(object_access, "CONNECT_TIMEOUT_SECONDS", 1)
    monkeypatch.setattr(object_access, "ATTEMPTS", 2)
    with s3_double.serving() as (bucket, url):
        yield bucket, Store(StoreLocation("s3://models/prefix", url), credentials)


@pytest.fixture(params=["s3", "file"])
def store(request, tmp_path):
    if request.param == "file":
        return Store(StoreLocation(f"file://{tmp_path}/store"), None)
    return request.getfixturevalue("s3")[1]


@pytest.fixture
def built(tmp_path):
    directory = tmp_path / "artifact"
    directory.mkdir()
    for name in artifact.REQUIRED:
        (directory / name).write_bytes(name.encode() * 10)
    artifact.write_manifest(directory)
    return directory


def test_what_is_written_is_read(store):
    uri = f"{store.uri}/ns/iris/x.json"
    with pytest.raises(NotFound):
        store.read(uri, 100)
    store.write(uri, b"one")
    store.write(uri, b"two")
    assert store.read(uri, 100) == b"two"


def test_create_does_not_overwrite(store):
    uri = f"{store.uri}/ns/iris/x.json"
    store.create(uri, b"one")
    with pytest.raises(AlreadyThere):
        store.create(uri, b"two")
    assert store.read(uri, 100) == b"one"


def test_an_artifact_comes_back_whole(store, built, tmp_path):
    uri, manifest = store.put_artifact(built, "ns", "iris")
    assert uri == artifact_uri(store.uri, "ns", "iris", manifest.digest)
    assert store.put_artifact(built, "ns", "iris") == (uri, manifest), "a retry finds it there"
    store.fetch_artifact(uri, manifest.digest, tmp_path / "fetched")
    assert artifact.verify(tmp_path / "fetched", manifest.digest) == manifest


def test_the_manifest_is_written_last(s3, built):
    bucket, store = s3
    store.put_artifact(built, "ns", "iris")
    assert [path for command, path in bucket.requests if command == "PUT"][-1].endswith(artifact.MANIFEST)
    before = len(bucket.requests)
    store.put_artifact(built, "ns", "iris")
    assert {command for command, _ in bucket.requests[before:]} <= {"HEAD", "GET"}


def test_a_changed_file_in_the_store_is_refused(s3, built, tmp_path):
    bucket, store = s3
    uri, manifest = store.put_artifact(built, "ns", "iris")
    key = next(path for path in bucket.objects if path.endswith(artifact.MODEL))
    for data in (b"x" * len(bucket.objects[key]), bucket.objects[key] + b"more"):
        bucket.objects[key] = data
        with pytest.raises(ArtifactCorrupt):
            store.fetch_artifact(uri, manifest.digest, tmp_path / "fetched")


@pytest.mark.parametrize("name", [artifact.MODEL, artifact.MANIFEST])
@pytest.mark.parametrize("damage", [None, lambda data: data[:-1], lambda data: data[:-1] + b"?"])
def test_a_damaged_artifact_is_repaired_by_the_next_training(s3, built, tmp_path, name, damage):
    bucket, store = s3
    uri, manifest = store.put_artifact(built, "ns", "iris")
    key = next(path for path in bucket.objects if path.endswith(name))
    whole = bucket.objects.pop(key)
    if damage is not None:
        bucket.objects[key] = damage(whole)
    before = len(bucket.requests)
    assert store.put_artifact(built, "ns", "iris") == (uri, manifest)
    assert bucket.objects[key] == whole
    store.fetch_artifact(uri, manifest.digest, tmp_path / "fetched")
    written = {path for command, path in bucket.requests[before:] if command == "PUT"}
    if (name, damage) != (artifact.MANIFEST, None):
        assert written == {key}, "what is whole is not written again"


def test_another_artifact_than_the_promised_is_refused(store, built, tmp_path):
    uri, _ = store.put_artifact(built, "ns", "iris")
    with pytest.raises(ArtifactCorrupt, match="has the digest"):
        store.fetch_artifact(uri, "sha256:" + "0" * 64, tmp_path / "fetched")


def test_reading_is_bounded(store):
    uri = f"{store.uri}/x"
    store.write(uri, b"x" * 101)
    with pytest.raises(ArtifactCorrupt, match="more than 100 bytes"):
        store.read(uri, 100)


def test_a_store_without_conditional_puts(s3):
    bucket, store = s3
    bucket.conditional = False
    uri = f"{store.uri}/x"
    store.create(uri, b"one")
    with pytest.raises(AlreadyThere):
        store.create(uri, b"two")
    assert store.read(uri, 10) == b"one"


ANSWERS = [
    ((403, "AccessDenied"), StoreDenied),
    ((403, "SignatureDoesNotMatch"), StoreDenied),
    ((403, "InvalidAccessKeyId"), StoreDenied),
    ((503, "ServiceUnavailable"), StoreUnavailable),
    ((500, "InternalError"), StoreUnavailable),
    ((503, "SlowDown"), StoreUnavailable),
]


@pytest.mark.parametrize(("answer", "failure"), ANSWERS)
@pytest.mark.parametrize("action", ["read", "write", "exists"])
def test_what_the_store_answers_has_a_name(s3, answer, failure, action):
    bucket, store = s3
    bucket.always = answer
    uri = f"{store.uri}/x"
    with pytest.raises(failure, match="s3://models/prefix/x"):
        {
            "read": lambda: store.read(uri, 9),
            "write": lambda: store.write(uri, b""),
            "exists": lambda: store.exists(uri),
        }[action]()


def test_a_passing_error_is_tried_again(s3):
    bucket, store = s3
    store.write(f"{store.uri}/x", b"one")
    bucket.forced = [(503, "ServiceUnavailable")]
    assert store.read(f"{store.uri}/x", 10) == b"one"


def test_a_missing_bucket_is_said_on_a_write(s3):
    bucket, store = s3
    bucket.always = (404, "NoSuchBucket")
    with pytest.raises(StoreDenied, match='the bucket "models"'):
        store.write(f"{store.uri}/x", b"")


def test_a_store_that_does_not_answer(credentials, monkeypatch):
    monkeypatch.setattr(object_access, "ATTEMPTS", 1)
    store = Store(StoreLocation("s3://models/prefix", "http://127.0.0.1:9"), credentials)
    start = time.monotonic()
    for action in (lambda: store.read(f"{store.uri}/x", 1), lambda: store.exists(f"{store.uri}/x")):
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            action()
    assert time.monotonic() - start < 30


def test_missing_credentials_are_said(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    store = Store(StoreLocation("s3://models/prefix", "http://127.0.0.1:9"), tmp_path)
    with pytest.raises(StoreDenied, match="no credentials"):
        store.read(f"{store.uri}/x", 1)


@pytest.mark.parametrize("where", ["in a pod", "with a Secret", "elsewhere"])
def test_what_to_check_depends_on_where_one_is(monkeypatch, tmp_path, where):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    if where == "in a pod":
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    credentials = tmp_path if where == "with a Secret" else tmp_path / "none"
    store = Store(StoreLocation("s3://models/prefix", "http://127.0.0.1:9"), credentials)
    words = "check AWS_ACCESS_KEY_ID and .* AWS_PROFILE" if where == "elsewhere" else "check the Secret of"
    with pytest.raises(StoreDenied, match=words):
        store.read(f"{store.uri}/x", 1)


def test_a_directory_that_cannot_be_made_is_no_bucket():
    store = Store(StoreLocation("file:///proc/x/y"), None)
    with pytest.raises(StoreUnavailable, match="the directory of file:///proc/x/y/z cannot be made"):
        store.write("file:///proc/x/y/z", b"")


OUTSIDE = [
    "s3://other/x",
    "s3://models/prefix",
    "s3://models/prefix/../x",
    "s3://models/prefix/a//b",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("uri", OUTSIDE)
def test_nothing_outside_the_store_is_touched(s3, uri):
    _, store = s3
    with pytest.raises(ArtifactCorrupt, match="is not a place in the store"):
        store.read(uri, 10)


@pytest.mark.parametrize("uri", ["", "gs://x/y", "/var/x", "s3://", "simplecache::s3://x/y", "S3://x/y"])
def test_a_store_that_is_none_is_refused(uri):
    with pytest.raises(StoreUnavailable, match="is not s3://bucket/prefix"):
        Store(StoreLocation(uri), None)
