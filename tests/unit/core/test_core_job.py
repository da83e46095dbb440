import dataclasses
import json

import pytest

from solera_core.job import (
    ArtifactReference,
    BadJob,
    DataDefaults,
    Job,
    Runtime,
    StoreLocation,
    parse_job,
)

JOB = Job(
    kind="evaluate",
    namespace="default",
    model="iris",
    version="iris-v3",
    uid="0123456789abcdef",
    task="Classification",
    training={"data": {"uri": "sklearn://iris", "target": "species"}},
    salt="ab" * 32,
    store=StoreLocation("s3://models/prefix", "https://store:7070", "eu", "/ca.crt"),
    runtime=Runtime("sklearn-1.9", "1.9.1", "trainer:1", "server:1"),
    deadline_seconds=3600,
    gates=({"metric": "accuracy", "min": "0.90"},),
    artifact=ArtifactReference("s3://models/prefix/x", "sha256:" + "0" * 64),
    data_defaults=DataDefaults("https://data", "eu", ("data.example.com",)),
    evaluation="0a1b2c3d",
)


def test_it_survives_the_environment():
    assert parse_job(JOB.encode()) == JOB
    assert "\n" not in JOB.encode()


def test_absent_parts_are_left_out():
    job = dataclasses.replace(JOB, kind="train", gates=(), artifact=None, evaluation=None)
    assert parse_job(job.encode()) == job
    assert "artifact" not in json.loads(job.encode())


def test_the_folder_tells_a_version_that_was_made_again():
    assert JOB.version_folder == "iris-v3-01234567"


def change(**changes):
    document = JOB.to_json()
    for path, value in changes.items():
        *way, last = path.split("__")
        node = document
        for part in way:
            node = node[part]
        if value is None:
            del node[last]
        else:
            node[last] = value
    return json.dumps(document)


WRONG = [
    ("{", "not JSON"),
    ("[]", "the Job document: write an object"),
    (change(kind="serve"), "kind: write train, evaluate, report"),
    (change(kind=None), "kind: required"),
    (change(model=""), "model: required"),
    (change(model=7), "model: write a string"),
    (change(salt="xyz"), "salt: write 64"),
    (change(store="s3://x"), "store: write an object"),
    (change(store__uri=None), "store.uri: required"),
    (change(store__user="me"), "store.user: there is no such field"),
    (change(other=1), "other: there is no such field"),
    (change(deadlineSeconds=0), "deadlineSeconds: write a positive"),
    (change(deadlineSeconds=True), "deadlineSeconds: write a positive"),
    (change(gates={}), "gates: write a list"),
    (change(training=[]), "training: write an object"),
    (change(artifact=None), "artifact: an evaluation needs it"),
    (change(artifact__digest="latest"), "artifact.digest: write sha256"),
    (change(evaluation=None), "evaluation: an evaluation needs it"),
    (change(evaluation="../../x"), "evaluation: write 8"),
    (change(dataDefaults__allowedHosts="x"), "dataDefaults.allowedHosts: write a list"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_document_is_refused_with_its_path(text, message):
    with pytest.raises(BadJob, match=message):
        parse_job(text)
