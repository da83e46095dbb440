"""What ``make wheels`` builds is a server that serves, with the extension."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from server_process import running, serve_arguments

if TYPE_CHECKING:
    from server_artifacts import Trained

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def wheels(tmp_path: Path) -> list[Path]:
    subprocess.run(["make", "-s", "wheels", f"WHEELS={tmp_path}"], cwd=CHECKOUT, check=True, timeout=300)
    return list(tmp_path.glob("*.whl"))


@pytest.mark.skipif(shutil.which("cc") is None, reason="without a C compiler there is no extension")
async def test_the_wheels_serve_without_the_checkout(
    iris: Trained, wheels: list[Path], tmp_path: Path
) -> None:
    place = tmp_path / "installed"
    for wheel in wheels:
        zipfile.ZipFile(wheel).extractall(place)
    assert {path.name.partition(".")[0] for path in place.iterdir() if "dist-info" not in path.name} == {
        "solera_core", "solera_native", "solera_operator", "solera_server", "solera_trainer",
    }  # fmt: skip
    arguments = serve_arguments(iris.directory, "--page")
    async with running(*arguments, PYTHONPATH=str(place), SOLERA_KERNELS="native") as server:
        url = await server.url()
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert str(place / "solera_native") in maps
        async with httpx.AsyncClient() as client:
            answer = await client.get(url, headers={"accept": "text/html"})
            assert answer.text.startswith("<!doctype html>"), "what is no Python is in the wheel too"
