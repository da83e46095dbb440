from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import server_artifacts
from closing_loop import ClosingLoop
from echo_server import Echo, echoing
from grpc_calls import Answering, answering
from loopback import Served, serve

from solera_server.limits import Limits
from solera_server.load import LoadedModel, load

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable

    from server_artifacts import Trained


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run these tests on the loop that the server runs on."""
    return {"uvloop": ClosingLoop}


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


@pytest.fixture
async def iris_server(loaded_iris: LoadedModel) -> AsyncIterator[Served]:
    async with serve(loaded_iris, "iris") as served:
        yield served


@pytest.fixture
async def iris_grpc(loaded_iris: LoadedModel) -> AsyncIterator[Answering]:
    async with answering(loaded_iris) as one:
        yield one


@pytest.fixture
async def mixed_server(loaded_mixed: LoadedModel) -> AsyncIterator[Served]:
    async with serve(loaded_mixed, "mixed") as served:
        yield served


@pytest.fixture
async def regression_server(loaded_regression: LoadedModel) -> AsyncIterator[Served]:
    async with serve(loaded_regression, "regression") as served:
        yield served


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echoing(Limits()) as echo:
        yield echo
