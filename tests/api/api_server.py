"""An API server for tests: started once for all runs and workers that want it, stopped by the last of them."""

import base64
import fcntl
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = "api"
CRDS = sorted((ROOT / "crds").glob("solera.dev_*.yaml"))
GROUP = "/apis/solera.dev/v1alpha1"
STATE = Path(os.environ.get("SOLERA_CACHE") or Path.home() / ".cache" / "solera")


def cluster_tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the cluster tool of this checkout."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "cluster")}
    return subprocess.run(
        [sys.executable, "-m", "solera_cluster", *arguments],
        env=environment,
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )


class SharedServer:
    """The API server named `api`: whoever uses it holds a shared lock, so that the last user can tell.

    One that was up before the tests is left as it is.
    """

    def __init__(self) -> None:
        """Open the lock file; take nothing yet."""
        STATE.mkdir(parents=True, exist_ok=True)
        self._users = (STATE / "api-tests.users").open("a")
        self._starting = STATE / "api-tests.starting"
        # In the server's own directory: it goes when somebody stops that server and starts another one.
        self._ours = STATE / "cluster" / CLUSTER / "started-by-tests"

    def acquire(self) -> Path:
        """Start the server if it is not up, and return the path of its kubeconfig."""
        with locked(self._starting):
            fcntl.flock(self._users, fcntl.LOCK_SH)
            if cluster_tool("status", "--name", CLUSTER).returncode != 0:
                self._start()
            found = cluster_tool("kubeconfig", "--name", CLUSTER)
        if found.returncode != 0:
            raise RuntimeError(f"the cluster tool gives no kubeconfig:\n{found.stderr}{found.stdout}")
        return Path(found.stdout.strip().splitlines()[-1])

    def _start(self) -> None:
        built = cluster_tool("build", "control-plane")
        if built.returncode != 0:
            raise RuntimeError(f"the control plane was not built:\n{built.stderr[-4000:]}{built.stdout}")
        started = cluster_tool("up", "--api-only", "--name", CLUSTER)
        if started.returncode != 0:
            raise RuntimeError(f"the API server did not start:\n{started.stderr[-4000:]}{started.stdout}")
        self._ours.touch()

    def release(self) -> None:
        """Stop the server if the tests started it and nobody else uses it."""
        with locked(self._starting):
            if self._is_last() and self._ours.exists():
                cluster_tool("down", "--name", CLUSTER)
                self._ours.unlink(missing_ok=True)

    def _is_last(self) -> bool:
        """Give the shared lock up and say whether nobody else holds it."""
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            self._users.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def connect(kubeconfig: Path) -> httpx.Client:
    """Return an HTTP client for the kubeconfig's current cluster and user (certificates, inline or as files)."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]

    def text(section: dict[str, str], key: str) -> str:
        if f"{key}-data" in section:
            return base64.b64decode(section[f"{key}-data"]).decode()
        return (kubeconfig.parent / section[key]).read_text()

    context = ssl.create_default_context(cadata=text(cluster, "certificate-authority"))
    with tempfile.NamedTemporaryFile("w") as pair:  # ssl reads certificates of clients from files only
        pair.write(text(user, "client-certificate") + "\n" + text(user, "client-key"))
        pair.flush()
        context.load_cert_chain(pair.name)
    return httpx.Client(base_url=cluster["server"], verify=context, timeout=30.0)


def wait_for(what: str, check: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Return the first true value that `check` gives; fail with its last value after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := check()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:g} s for {what}; last seen: {value!r}")
        time.sleep(0.05)
    return value


class Api:
    """The verbs of the API server that tests need. Answers are `httpx.Response`; `ok` unwraps them."""

    def __init__(self, http: httpx.Client) -> None:
        """Take a client from `connect`."""
        self.http = http

    @staticmethod
    def ok(response: httpx.Response) -> Any:
        """Return the body of an answer that must be a success."""
        assert response.is_success, f"{response.request.method} {response.request.url}: {response.text}"
        return response.json()

    def get(self, path: str, **query: str) -> httpx.Response:
        """Read."""
        return self.http.get(path, params=query)

    def create(self, path: str, manifest: Any, *, dry_run: bool = False) -> httpx.Response:
        """Create as kubectl does: unknown fields are errors."""
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self.http.post(path, json=manifest, params=query)

    def apply(
        self, path: str, manifest: Any, *, manager: str = "tests", dry_run: bool = False
    ) -> httpx.Response:
        """Server-side apply; unknown fields are errors."""
        query = {"fieldManager": manager, "force": "true", "fieldValidation": "Strict"}
        return self.http.patch(
            path,
            content=yaml.safe_dump(manifest),
            params=query | ({"dryRun": "All"} if dry_run else {}),
            headers={"content-type": "application/apply-patch+yaml"},
        )

    def patch(self, path: str, patch: Any) -> httpx.Response:
        """Patch by JSON merge patch."""
        return self.http.patch(path, json=patch, headers={"content-type": "application/merge-patch+json"})

    def delete(self, path: str, **query: str) -> httpx.Response:
        """Delete an object or a collection."""
        return self.http.delete(path, params=query)

    def install_crds(self) -> None:
        """Apply the checkout's CRDs and wait until they are served."""
        for file in CRDS:
            manifest = yaml.safe_load(file.read_text())
            path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{manifest['metadata']['name']}"
            self.ok(self.apply(path, manifest))
            wait_for(f"{path} to be established", lambda path=path: self._condition(path, "Established"))
            wanted = manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
            kind = manifest["spec"]["names"]["kind"]
            wait_for(f"the schema of {kind} to be served", lambda w=wanted, k=kind: self._served_spec(k) == w)

    def _condition(self, path: str, kind: str) -> bool:
        conditions = self.get(path).json().get("status", {}).get("conditions") or []
        return any(item["type"] == kind and item["status"] == "True" for item in conditions)

    def _served_spec(self, kind: str) -> Any:
        answer = self.get(f"/openapi/v3{GROUP}")
        schemas = answer.json()["components"]["schemas"] if answer.is_success else {}
        return schemas.get(f"dev.solera.v1alpha1.{kind}", {}).get("properties", {}).get("spec")

    def remove_namespace(self, name: str) -> None:
        """Delete a namespace and all in it; there is no controller manager that would."""
        for group in self._groups():
            for resource in self.ok(self.get(group))["resources"]:
                if resource["namespaced"] and "deletecollection" in resource["verbs"]:
                    self.delete(
                        f"{group}/namespaces/{name}/{resource['name']}", propagationPolicy="Background"
                    )
        self.ok(self.delete(f"/api/v1/namespaces/{name}"))
        left = self.get(f"/api/v1/namespaces/{name}")
        if left.is_success:
            namespace = left.json()
            namespace["spec"] = {"finalizers": []}
            self.http.put(f"/api/v1/namespaces/{name}/finalize", json=namespace)

    def _groups(self) -> list[str]:
        listed = self.ok(self.get("/apis"))["groups"]
        return ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in listed)]
