"""Compiling, with the real compiler and the one small program of ours, in a cache of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from solera_cluster import paths

COMMAND = [sys.executable, "-m", "solera_cluster", "build", "pause"]


def start(cache: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "SOLERA_CACHE": str(cache), "PYTHONPATH": str(paths.CHECKOUT / "cluster")}
    return subprocess.Popen(
        COMMAND,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def finish(build: "subprocess.Popen[str]") -> tuple[Path, str]:
    output, said = build.communicate(timeout=300)
    assert build.returncode == 0, said
    return Path(output.strip()) / "pause", said


def test_two_builds_compile_a_program_once(tmp_path):
    first, second = start(tmp_path), start(tmp_path)
    (binary, one), (same, other) = finish(first), finish(second)
    assert binary == same
    assert os.access(binary, os.X_OK)
    said = one + other
    assert said.count("compiling pause") - said.count("still") == 1, said
    assert "waiting for another build (process " in said


def test_a_killed_build_leaves_no_half_program_and_is_repeated(tmp_path):
    killed = start(tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "go-build").exists():
        assert killed.poll() is None
        assert time.monotonic() < deadline, "compiling never began"
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not list(tmp_path.glob("bin/*/pause"))
    binary, said = finish(start(tmp_path))
    assert "compiling pause" in said
    assert "waiting" not in said, "the killed build holds no lock"
    before = binary.stat().st_mtime_ns
    binary, said = finish(start(tmp_path))
    assert (binary.stat().st_mtime_ns, said) == (before, ""), "what is there is not compiled again"
