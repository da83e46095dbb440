"""Fixtures for tests against a real API server, without nodes and without controllers.

Session: `api_kubeconfig` (path), `api` (a client, CRDs installed). Test: `namespace` (fresh, removed afterwards).
Runs under pytest-xdist and beside other runs: all share one server, which an earlier user may have started.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import Api, SharedServer, connect, locked


@pytest.fixture(scope="session")
def api_kubeconfig() -> Iterator[Path]:
    """Path of the kubeconfig of an API server that is up."""
    server = SharedServer()
    yield server.acquire()
    server.release()


@pytest.fixture(scope="session")
def api(api_kubeconfig: Path) -> Iterator[Api]:
    """A client of the API server, which serves this checkout's CRDs."""
    with connect(api_kubeconfig) as http:
        client = Api(http)
        with locked(api_kubeconfig.parent / "crds.lock"):
            client.install_crds()
        yield client


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """The name of a fresh namespace."""
    name = f"t-{uuid.uuid4().hex[:12]}"
    api.ok(api.create("/api/v1/namespaces", {"metadata": {"name": name}}))
    yield name
    api.remove_namespace(name)
