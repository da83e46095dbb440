"""A model that is served straight from a store, by the real processes, and what is wrong with other places."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from server_process import running

from solera_core.failures import Failure
from solera_server.fetch import store_location
from solera_server.source import Source

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))
import s3_double

if TYPE_CHECKING:
    from collections.abc import Iterator

    from server_artifacts import Trained

HEX = "0123456789abcdef" * 4
BODY = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]}).encode()
PORTS = ("--port", "0", "--management-port", "0")


def listing(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


@pytest.fixture
def store(iris: Trained) -> Iterator[tuple[s3_double.Bucket, str, dict[str, str]]]:
    """A store of S3 with the artifact; returns it, the artifact's URI, and what a user's environment has."""
    with s3_double.serving() as (bucket, url):
        place = f"models/prefix/team/flower/artifacts/{iris.digest.replace(':', '-')}"
        for path in iris.directory.iterdir():
            bucket.objects[f"/{place}/{path.name}"] = path.read_bytes()
        environ = {
            "AWS_ACCESS_KEY_ID": "me",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_ENDPOINT_URL": url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        yield bucket, f"s3://{place}", environ


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_model_is_served_from_a_store(
    iris: Trained,
    store: tuple[s3_double.Bucket, str, dict[str, str]],
    workers: str,
    tmp_path: Path,
) -> None:
    _, uri, environ = store
    arguments = ("--model", uri, *PORTS, "--workers", workers, "--drain-delay", "0")
    async with running(*arguments, **environ, TMPDIR=str(tmp_path)) as server:
        url = await server.url()
        assert url
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{url}/v1/models/flower:predict", content=BODY)
            assert answer.json() == {"predictions": ["setosa"]}
        assert (await server.event("loading"))["model"] == uri
        assert (await server.event("fetched"))["digest"] == iris.digest
        assert listing(tmp_path) == [], "what was fetched is removed when it has been read"
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "aiohttp" not in maps, "the store's client is not in this process"
        server.process.send_signal(signal.SIGTERM)
        assert await server.exit_code(20) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_fetch_that_fails_ends_the_server_with_its_code(
    store: tuple[s3_double.Bucket, str, dict[str, str]], workers: str, tmp_path: Path
) -> None:
    bucket, uri, environ = store
    name = next(name for name in bucket.objects if name.endswith("model.skops"))
    bucket.objects[name] = bucket.objects[name][:-1] + b"!"
    arguments = ("--model", uri, *PORTS, "--workers", workers)
    async with running(*arguments, **environ, TMPDIR=str(tmp_path)) as server:
        assert await server.exit_code(30) == 65
    failures = [event for event in server.events if event["level"] == "error"]
    assert [event["reason"] for event in failures] == ["ArtifactCorrupt"], "said once"
    assert listing(tmp_path) == []


async def test_a_file_uri_is_a_directory(iris: Trained) -> None:
    async with running("--model", iris.directory.as_uri(), *PORTS, "--workers", "1") as server:
        assert (await server.event("serving"))["model"] == "iris"


def test_the_digest_and_the_name_are_of_the_place() -> None:
    source = Source(f"s3://bucket/prefix/ns/iris/artifacts/sha256-{HEX}/", None)
    assert source.digest == f"sha256:{HEX}"
    assert source.model_name == "iris"
    source.discard()
    other = Source("s3://bucket/penguins", f"sha256:{HEX}")
    assert other.digest == f"sha256:{HEX}"
    assert other.model_name == "penguins"
    assert not other.directory.exists()
    assert other.directory.parent.exists()
    other.discard()
    assert not other.directory.parent.exists()


def test_places_on_this_machine(tmp_path: Path) -> None:
    directory = tmp_path / "my model"
    directory.mkdir()
    for text in (str(directory), directory.as_uri()):
        source = Source(text, None)
        assert (source.directory, source.model_name, source.digest) == (directory, "my model", None)
        source.fetch()
        source.discard()
        assert directory.exists(), "it is the user's"
    shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("s3://bucket/models/iris", 'give --digest sha256:…, since "iris" is not'),
        ("s3://bucket/sha256-12", "give --digest"),
        ("s3://", "write a directory"),
        ("gs://bucket/x", "write a directory, file:///directory or s3://bucket/path"),
        ("file://host/x", "write a directory"),
    ],
)
def test_other_places_are_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(Failure, match=words):
        Source(text, None)


def test_the_store_is_what_clients_of_s3_are_told() -> None:
    location = store_location({}, "s3://bucket/path/x")
    assert (location.uri, location.endpoint_url, location.region) == ("s3://bucket/path", None, None)
    environ = {
        "AWS_ENDPOINT_URL": "http://a",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_CA_BUNDLE": "/ca.pem",
    }
    location = store_location(environ, "s3://bucket/path/x")
    assert (location.endpoint_url, location.region, location.ca_file) == (
        "http://a",
        "eu-central-1",
        "/ca.pem",
    )
    environ |= {"AWS_ENDPOINT_URL_S3": "http://b", "AWS_REGION": "us-west-2"}
    location = store_location(environ, "s3://bucket/path/x")
    assert (location.endpoint_url, location.region) == ("http://b", "us-west-2")
    environ["SOLERA_STORE"] = '{"uri": "s3://bucket"}'
    assert store_location(environ, "s3://bucket/path/x").endpoint_url is None, "the operator's word is all"
