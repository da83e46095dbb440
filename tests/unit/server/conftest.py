from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import server_artifacts
import uvloop

from solera_server.health import Health, Phase
from solera_server.http_server import HttpServer
from solera_server.limits import Limits
from solera_server.load import LoadedModel, load
from solera_server.metrics import Metrics
from solera_server.serving import Serving
from solera_server.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from server_artifacts import Trained


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run these tests on the loop that the server runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return server_artifacts.write_iris(tmp_path_factory.mktemp("artifacts") / "iris")


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return server_artifacts.write_mixed(tmp_path_factory.mktemp("artifacts") / "mixed")


@pytest.fixture(scope="session")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return server_artifacts.write_regression(tmp_path_factory.mktemp("artifacts") / "regression")


@pytest.fixture(scope="session")
def loaded_iris(iris: Trained) -> LoadedModel:
    return load(iris.directory, iris.digest)


@pytest.fixture(scope="session")
def loaded_mixed(mixed: Trained) -> LoadedModel:
    return load(mixed.directory, mixed.digest)


@pytest.fixture(scope="session")
def loaded_regression(regression: Trained) -> LoadedModel:
    return load(regression.directory, regression.digest)


class Served:
    """A model served on a free port of loopback, with its parts at hand."""

    def __init__(self, serving: Serving, server: HttpServer, port: int) -> None:
        self.serving = serving
        self.server = server
        self.port = port
        self.url = f"http://127.0.0.1:{port}"


@asynccontextmanager
async def serve(loaded: LoadedModel, name: str, limits: Limits | None = None) -> AsyncIterator[Served]:
    """Serve on the running loop, as a process does, without its signals."""
    limits = limits or Limits()
    worker = Worker(asyncio.get_running_loop(), limits.in_flight)
    worker.start()
    health = Health(worker, stall_seconds=60.0)
    health.phase = Phase.SERVING
    metrics = Metrics(name, f"{name}-v1")
    serving = Serving(name, f"{name}-v1", loaded, worker, health, metrics, limits)
    server = HttpServer(serving.router(), limits, metrics)
    port = await server.listen("127.0.0.1", 0)
    try:
        yield Served(serving, server, port)
    finally:
        server.stop_listening()
        await server.finish(asyncio.get_running_loop().time() + 5)
        worker.stop()


@pytest.fixture
async def iris_server(loaded_iris: LoadedModel) -> AsyncIterator[Served]:
    async with serve(loaded_iris, "iris") as served:
        yield served


@pytest.fixture
async def mixed_server(loaded_mixed: LoadedModel) -> AsyncIterator[Served]:
    async with serve(loaded_mixed, "mixed") as served:
        yield served


@pytest.fixture
async def regression_server(loaded_regression: LoadedModel) -> AsyncIterator[Served]:
    async with serve(loaded_regression, "regression") as served:
        yield served


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value
