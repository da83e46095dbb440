"""Requests to the object store are signed as AWS's own client signs them."""

import datetime as dt
from pathlib import Path
from unittest import mock

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from solera_cluster import object_store
from solera_cluster.errors import ClusterError
from solera_cluster.object_store import Credentials

CREDENTIALS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
NOW = dt.datetime(2026, 11, 23, 12, 0, 0, tzinfo=dt.UTC)


def signed_by_botocore(method: str, path: str, body: bytes) -> str:
    request = AWSRequest(method=method, url=f"http://127.0.0.1:7070{path}", data=body)
    request.headers["Host"] = "127.0.0.1:7070"
    signer = S3SigV4Auth(
        BotocoreCredentials(CREDENTIALS.access_key, CREDENTIALS.secret_key), "s3", object_store.REGION
    )
    request.context["client_config"] = mock.Mock(s3={"payload_signing_enabled": True})
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        signer.add_auth(request)
    return str(request.headers["Authorization"])


@given(
    method=st.sampled_from(["PUT", "GET"]),
    name=st.text(alphabet="abcXYZ019-_.~/", min_size=1, max_size=40),
    body=st.binary(max_size=200),
)
def test_signatures_agree_with_botocore(method: str, name: str, body: bytes) -> None:
    path = f"/models/{name}"
    headers = object_store.sign(CREDENTIALS, method, path, body, host="127.0.0.1:7070", now=NOW)
    assert headers["authorization"] == signed_by_botocore(method, path, body)


@pytest.mark.parametrize("uri", ["models/x", "s3://models", "s3:///x", "https://models/x"])
def test_an_address_that_is_no_object_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="write s3://BUCKET/KEY"):
        object_store.upload(tmp_path, uri)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"cannot read .*absent\.csv: No such file"):
        object_store.upload(tmp_path / "absent.csv", "s3://models/absent.csv")


def test_the_secret_has_the_keys_that_jobs_read() -> None:
    made = object_store.secret("object-store", "demo", CREDENTIALS)
    assert made["stringData"] == {
        "AWS_ACCESS_KEY_ID": CREDENTIALS.access_key,
        "AWS_SECRET_ACCESS_KEY": CREDENTIALS.secret_key,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": "http://object-store.object-store.svc.cluster.local:7070",
    }
