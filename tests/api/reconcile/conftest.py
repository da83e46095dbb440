"""An operator and a model for each test of its behaviour.

Most tests share one operator and one namespace (of this worker) and have a model of their own; tests that
stop, kill or count an operator have both to themselves.
"""

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from api_server import Api
from operator_process import OperatorProcess
from scene import Scene


def _namespace(api: Api, name: str) -> Iterator[str]:
    api.ok(api.create("/api/v1/namespaces", {"metadata": {"name": name}}))
    # No controller makes it here, and no pod is admitted without.
    api.ok(api.create(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}}))
    yield name
    api.remove_namespace(name)


@pytest.fixture(scope="module")
def shared_namespace(api: Api) -> Iterator[str]:
    yield from _namespace(api, f"s-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="module")
def shared_operator(
    api_kubeconfig: Path, shared_namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """An operator that nobody stops."""
    folder = tmp_path_factory.mktemp("operator")
    with OperatorProcess(api_kubeconfig, shared_namespace, folder) as operator:
        yield operator
        assert operator.running, operator.log()
        assert not operator.troubles(), "\n".join(operator.troubles())


@pytest.fixture
def scene(api: Api, request: pytest.FixtureRequest, shared_operator: OperatorProcess) -> Iterator[Scene]:
    """A model of this test's own, not created yet, in the shared namespace."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:38].strip("-")
    scene = Scene(api, shared_operator.namespace, name, [shared_operator])
    yield scene
    scene.delete()
    scene.player.collect_garbage()


@pytest.fixture
def own_namespace(api: Api, namespace: str) -> str:
    """A namespace of this test's own in which pods are admitted."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    api.ok(api.create(path, {"metadata": {"name": "default"}}))
    return namespace


@pytest.fixture
def new_operator(
    api_kubeconfig: Path, own_namespace: str, tmp_path: Path
) -> Iterator[Callable[..., OperatorProcess]]:
    """Starts operators in the test's own namespace; they are stopped at its end."""
    with ExitStack() as stack:

        def start(name: str = "operator") -> OperatorProcess:
            return stack.enter_context(OperatorProcess(api_kubeconfig, own_namespace, tmp_path, name))

        yield start


@pytest.fixture
def own(api: Api, own_namespace: str, new_operator: Callable[..., OperatorProcess]) -> Scene:
    """A model in a namespace with an operator of its own (`own.operators[0]`)."""
    return Scene(api, own_namespace, "iris", [new_operator()])
