"""Environments of their own: made once, however many ask at a time; made anew when the file changes."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import own_environment


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    uv = own_environment._uv()
    monkeypatch.setattr(own_environment, "_uv", lambda: uv)
    monkeypatch.setattr(own_environment, "_REQUIREMENTS", tmp_path)
    monkeypatch.setenv("SOLERA_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_all_who_ask_at_once_get_the_same_one_which_works(
    requirements: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (requirements / "peers").mkdir()
    (requirements / "peers" / "none.txt").write_text("# nothing\n", encoding="utf-8")
    made: list[Path] = []
    make = own_environment._make

    def counted(folder: Path, python: Path, file: Path) -> None:
        made.append(folder)
        make(folder, python, file)

    monkeypatch.setattr(own_environment, "_make", counted)
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(own_environment.environment, ["peers/none"] * 4))
    assert len(made) == 1
    [python] = found
    assert subprocess.run([python, "-c", "print(1)"], capture_output=True, check=True).stdout == b"1\n"

    (requirements / "peers" / "none.txt").write_text("# nothing else\n", encoding="utf-8")
    assert own_environment.environment("peers/none") != python


def test_one_that_was_begun_is_made_anew_and_a_failure_is_told(requirements: Path) -> None:
    file = requirements / "odd.txt"
    file.write_text("this is no requirement\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="this is no requirement"):
            own_environment.environment("odd")
    with pytest.raises(FileNotFoundError):
        own_environment.environment("absent")
