"""An extension that does not fit the server: numpy computes, the log says why, and who insists gets an error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import solera_native
from server_process import running, serve_arguments

from solera_server.compiled import kernels_numpy

if TYPE_CHECKING:
    from server_artifacts import Trained

NUMBER = kernels_numpy.INTERFACE
UNFIT = {
    "of an older server": ("solera_native.py", "def linear(): pass", "has the interface none"),
    "of another server": ("solera_native.py", f"INTERFACE = {NUMBER + 1}", f"has the interface {NUMBER + 1}"),
    "incomplete": ("solera_native.py", f"INTERFACE = {NUMBER}", "has no Trees"),
    "in want of a package": (
        "solera_native.py",
        "import not_to_be_found",
        "cannot be loaded: No module named",
    ),
    "for another machine": ("solera_native.abi3.so", "not an object file", "cannot be loaded: "),
}
UNFIT_FILES = pytest.mark.parametrize(("name", "content", "reason"), UNFIT.values(), ids=UNFIT)


def test_both_have_one_number() -> None:
    header = (Path(__file__).parents[3] / "native" / "kernels.h").read_text()
    assert f"#define SOLERA_INTERFACE {NUMBER}\n" in header
    assert solera_native.INTERFACE == NUMBER


@UNFIT_FILES
async def test_a_server_with_an_unfit_extension_says_so_and_serves(
    tmp_path: Path, iris: Trained, name: str, content: str, reason: str
) -> None:
    (tmp_path / name).write_text(content)
    arguments = serve_arguments(iris.directory, "--name", "flower")
    async with running(*arguments, PYTHONPATH=str(tmp_path), SOLERA_KERNELS="") as server:
        warning = await server.event("numpy computes, several times slower")
        url = await server.url()
        async with httpx.AsyncClient() as client:
            metadata = (await client.get(f"{url}/v2/models/flower")).json()
            answer = await client.post(
                f"{url}/v1/models/flower:predict", json={"instances": [[5.1, 3.5, 1.4, 0.2]]}
            )
    assert warning["level"] == "warning"
    assert reason in warning["reason"]
    assert metadata["parameters"]["kernels"] == "numpy"
    assert metadata["parameters"]["predictor"] == "compiled"
    assert answer.json() == {"predictions": ["setosa"]}


@UNFIT_FILES
async def test_who_insists_on_an_unfit_extension_is_told(
    tmp_path: Path, iris: Trained, name: str, content: str, reason: str
) -> None:
    (tmp_path / name).write_text(content)
    arguments = serve_arguments(iris.directory)
    async with running(*arguments, PYTHONPATH=str(tmp_path), SOLERA_KERNELS="native") as server:
        assert await server.exit_code() != 0
    assert any("SOLERA_KERNELS is native, and the extension" in str(event) for event in server.events)
    assert reason in str(server.events)
    assert "Traceback" not in str(server.events)


async def test_who_chooses_numpy_is_not_warned(iris: Trained) -> None:
    async with running(*serve_arguments(iris.directory), SOLERA_KERNELS="numpy") as server:
        await server.event("serving")
    assert {event["level"] for event in server.events} == {"info"}


async def test_a_wrong_choice_is_refused(iris: Trained) -> None:
    async with running(*serve_arguments(iris.directory), SOLERA_KERNELS="fast") as server:
        assert await server.exit_code() != 0
    assert "write native or numpy" in str(server.events)
