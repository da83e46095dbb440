"""The cluster as the tests see it: one `kubectl proxy` on a socket of its own, and plain HTTP through it.

So every kind of kubeconfig works, nothing listens on a port, and asking often costs little.
"""

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from solera_cluster import kubectl

Object = dict[str, Any]
Answer = TypeVar("Answer")

_PLACES = {
    "trainedmodels": "/apis/solera.dev/v1alpha1",
    "modelversions": "/apis/solera.dev/v1alpha1",
    "jobs": "/apis/batch/v1",
    "deployments": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "poddisruptionbudgets": "/apis/policy/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
    "httproutes": "/apis/gateway.networking.k8s.io/v1",
    "gateways": "/apis/gateway.networking.k8s.io/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "mutatingadmissionpolicies": "/apis/admissionregistration.k8s.io/v1",
    "mutatingadmissionpolicybindings": "/apis/admissionregistration.k8s.io/v1",
}
CHILDREN = (
    "services",
    "deployments",
    "horizontalpodautoscalers",
    "poddisruptionbudgets",
    "networkpolicies",
    "serviceaccounts",
    "httproutes",
    "jobs",
)
"""What Solera makes beside ModelVersions."""

MANAGED = "app.kubernetes.io/managed-by=solera"


def place(kind: str, namespace: str | None = None, name: str | None = None) -> str:
    """The path of a collection, or of one object; `kind` is the plural."""
    parts = [_PLACES.get(kind, "/api/v1")]
    if namespace is not None:
        parts.append(f"namespaces/{namespace}")
    parts.append(kind)
    if name is not None:
        parts.append(name)
    return "/".join(parts)


def wait_for(seen: Callable[[], Answer | None], seconds: float, what: str, every: float = 0.3) -> Answer:
    """Ask until the answer is truthy; fail with the last answer after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = seen()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:.0f} s there is still not: {what}; last seen: {answer!r}")
        time.sleep(every)


class Kube:
    """Reads and writes objects of the cluster. Raises httpx.HTTPStatusError with the server's own words."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def ask(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """One request, whatever the answer."""
        return self._http.request(method, path, **kwargs)

    def _ok(self, method: str, path: str, **kwargs: Any) -> Object:
        answer = self.ask(method, path, **kwargs)
        if answer.is_error:
            raise AssertionError(f"{method} {path}: {answer.status_code}: {answer.text[:2000]}")
        found: Object = answer.json()
        return found

    def find(self, kind: str, namespace: str | None, name: str) -> Object | None:
        path = place(kind, namespace, name)
        answer = self.ask("GET", path)
        if answer.status_code == 404:
            return None
        if answer.is_error:
            raise AssertionError(f"GET {path}: {answer.status_code}: {answer.text[:2000]}")
        found: Object = answer.json()
        return found

    def get(self, kind: str, namespace: str | None, name: str) -> Object:
        return self._ok("GET", place(kind, namespace, name))

    def list(self, kind: str, namespace: str | None = None, selector: str = "") -> list[Object]:
        found = self._ok("GET", place(kind, namespace), params={"labelSelector": selector})
        items: list[Object] = found["items"]
        return items

    def create(self, kind: str, namespace: str | None, body: Object) -> Object:
        return self._ok("POST", place(kind, namespace), json=body)

    def merge(self, kind: str, namespace: str | None, name: str, patch: Object) -> Object:
        headers = {"Content-Type": "application/merge-patch+json"}
        return self._ok("PATCH", place(kind, namespace, name), content=json.dumps(patch), headers=headers)

    def apply(self, kind: str, namespace: str | None, body: Object) -> Object:
        """Server-side apply, as a user of GitOps does it."""
        path = place(kind, namespace, body["metadata"]["name"])
        return self._ok(
            "PATCH",
            path,
            params={"fieldManager": "a-user", "force": "true"},
            content=json.dumps(body),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )

    def delete(self, kind: str, namespace: str | None, name: str, **options: Any) -> None:
        path = place(kind, namespace, name)
        answer = self.ask("DELETE", path, params=options)
        if answer.is_error and answer.status_code != 404:
            raise AssertionError(f"DELETE {path}: {answer.status_code}: {answer.text[:2000]}")

    def log(self, namespace: str, pod: str, **options: Any) -> str:
        """A container's log, or why there is none."""
        return self.ask("GET", place("pods", namespace, pod) + "/log", params=options).text


@contextlib.contextmanager
def connect(folder: Path) -> Iterator[Kube]:
    """A client for as long as the block runs; its socket stands in `folder`."""
    socket = folder / "kube.sock"
    command = kubectl.command("proxy", f"--unix-socket={socket}")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: socket.exists() or process.poll() is not None, 20, "kubectl proxy", every=0.05)
            transport = httpx.HTTPTransport(uds=str(socket), retries=3)
            with httpx.Client(transport=transport, base_url="http://localhost", timeout=30) as http:
                yield Kube(http)
        finally:
            process.terminate()


class Watch:
    """Every state of one kind's objects in a namespace, in order, collected by a watch."""

    def __init__(self, kube: Kube, kind: str, namespace: str) -> None:
        begin = kube.ask("GET", place(kind, namespace), params={"limit": 1}).json()["metadata"][
            "resourceVersion"
        ]
        path = f"{place(kind, namespace)}?watch=1&timeoutSeconds=900&resourceVersion={begin}"
        self._process = subprocess.Popen(
            kubectl.command("get", "--raw", path),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.seen: list[Object] = []
        self._reader = threading.Thread(target=self._read, name=f"watch {kind}")
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.seen.append(json.loads(line))

    def states(self, name: str) -> list[Object]:
        return [event["object"] for event in self.seen if event["object"]["metadata"]["name"] == name]

    def close(self) -> None:
        self._process.terminate()
        self._reader.join(10)
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
