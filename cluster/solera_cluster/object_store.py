"""The demonstration's object store as seen from this machine: credentials, buckets, uploads."""

import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import http.client
import json
import re
import secrets
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from solera_cluster import kubectl
from solera_cluster.errors import ClusterError

NAMESPACE = "object-store"
ENDPOINT = "http://object-store.object-store.svc.cluster.local:7070"
REGION = "us-east-1"
BUCKETS = ("solera-artifacts", "solera-data")

_ADMIN = "object-store-admin"
_PUT_SECONDS = 60


@dataclass(frozen=True)
class Credentials:
    """An S3 key pair."""

    access_key: str
    secret_key: str


def ensure_credentials() -> Credentials:
    """Give the store's key pair, made at random when the Secret is not there yet."""
    found = kubectl.find("secret", _ADMIN, f"--namespace={NAMESPACE}")
    if found is not None:
        data = {name: base64.b64decode(value).decode() for name, value in found["data"].items()}
        return Credentials(data["AWS_ACCESS_KEY_ID"], data["AWS_SECRET_ACCESS_KEY"])
    made = Credentials(f"solera{secrets.token_hex(7)}", secrets.token_urlsafe(30))
    if kubectl.find("namespace", NAMESPACE) is None:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        kubectl.apply(json.dumps(namespace))
    kubectl.apply(json.dumps(secret(_ADMIN, NAMESPACE, made)))
    return made


def secret(name: str, namespace: str, credentials: Credentials) -> dict[str, object]:
    """Build a Secret with the keys that Solera's Jobs and servers read."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "stringData": {
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": ENDPOINT,
        },
    }


@contextlib.contextmanager
def forwarded() -> Iterator[int]:
    """Forward a port of this machine's loopback to the store while the block runs; give its number."""
    command = kubectl.command("port-forward", f"--namespace={NAMESPACE}", "service/object-store", ":7070")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            found = re.search(r"127\.0\.0\.1:(\d+) ->", line)
            if not found:
                raise ClusterError(f"the object store cannot be reached by port-forward: {line.strip()}")
            yield int(found[1])
        finally:
            process.terminate()


def ensure_buckets(credentials: Credentials) -> None:
    """Create the buckets that do not exist."""
    with forwarded() as port:
        for bucket in BUCKETS:
            status, answer = request(port, credentials, "PUT", f"/{bucket}", b"")
            if status not in {200, 409}:  # 409: it is there
                raise ClusterError(f"the object store refused to create bucket {bucket} ({status}): {answer}")


def upload(file: Path, uri: str) -> None:
    """Copy a file to `s3://BUCKET/KEY`."""
    address = urllib.parse.urlsplit(uri)
    if address.scheme != "s3" or not address.netloc or not address.path.strip("/"):
        raise ClusterError(
            f"{uri} is no object; write s3://BUCKET/KEY, with one of the buckets {', '.join(BUCKETS)}"
        )
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ClusterError(f"cannot read {file}: {error.strerror}") from error
    with forwarded() as port:
        status, answer = request(
            port, ensure_credentials(), "PUT", f"/{address.netloc}{address.path}", content
        )
    if status != 200:
        raise ClusterError(f"the object store refused {uri} ({status}): {answer}")


def request(port: int, credentials: Credentials, method: str, path: str, body: bytes) -> tuple[int, str]:
    """Send one signed request to the forwarded port; give status and answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PUT_SECONDS)
    host = f"127.0.0.1:{port}"
    quoted = urllib.parse.quote(path)
    headers = sign(credentials, method, quoted, body, host=host, now=dt.datetime.now(dt.UTC))
    for attempt in range(5):
        try:
            connection.request(method, quoted, body, headers)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        except (ConnectionError, http.client.HTTPException):
            if attempt == 4:
                raise
            time.sleep(0.2 * 2**attempt)  # the forwarding process is up before the pod accepts
        finally:
            connection.close()
    raise AssertionError("unreachable")


def sign(
    credentials: Credentials, method: str, path: str, body: bytes, *, host: str, now: dt.datetime
) -> dict[str, str]:
    """Give the headers of AWS Signature Version 4 for a request without a query; `path` is quoted already."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    signed = ";".join(sorted(headers))
    canonical = "\n".join(
        [method, path, "", *(f"{name}:{headers[name]}" for name in sorted(headers)), "", signed, digest]
    )
    scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
    message = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (stamp[:8], REGION, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, message.encode(), "sha256").hex()
    authorization = (
        f"Credential={credentials.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
    )
    return {**headers, "authorization": f"AWS4-HMAC-SHA256 {authorization}"}
