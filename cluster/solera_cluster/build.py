"""Compiles what is missing: one binary after another, so that an interrupted build can go on."""

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from solera_cluster import gomod, parts, paths, progress, toolchain, versions
from solera_cluster.errors import ClusterError

_WAIT_SECONDS = 0.3


def missing(names: Iterable[str] = ()) -> list[str]:
    """Names of the parts that are not compiled yet."""
    directory = paths.bin_dir()
    return [part.name for part in parts.select(names) if not (directory / part.name).exists()]


def ensure(names: Iterable[str] = ()) -> Path:
    """
    Compile the named parts and groups (all, if none is named) that are missing; give the binaries' directory.

    Another build may run at the same time: each part is compiled by whoever takes the lock first, and the
    other waits for it. Raises ClusterError when something does not compile.
    """
    selected = parts.select(names)
    directory = paths.bin_dir()
    lacking = [part for part in selected if not (directory / part.name).exists()]
    if not lacking:
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    go = toolchain.ensure(paths.cache_dir())
    progress.say(
        f"Building {len(lacking)} of {len(parts.PARTS)} binaries with Go {toolchain.version()}, on two cores"
        f" about {progress.duration(sum(part.seconds for part in lacking))}: {directory}"
    )
    for number, part in enumerate(lacking, start=1):
        _ensure_one(go, part, directory, f"{number}/{len(lacking)}")
    _drop_build_cache(directory)
    return directory


def _ensure_one(go: Path, part: parts.Part, directory: Path, position: str) -> None:
    binary = directory / part.name
    announced = False
    with (paths.cache_dir() / "build.lock").open("a+") as lock:
        while not binary.exists():
            if _taken(lock):
                lock.seek(0)
                if not announced:
                    progress.say(f"  waiting for another build ({lock.read().strip() or 'just started'})")
                    announced = True
                time.sleep(_WAIT_SECONDS)
                continue
            if not binary.exists():
                lock.truncate(0)
                lock.write(f"process {os.getpid()} of {paths.CHECKOUT}, at {part.name}\n")
                lock.flush()
                _compile(go, part, binary, position)
            fcntl.flock(lock, fcntl.LOCK_UN)


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _compile(go: Path, part: parts.Part, binary: Path, position: str) -> None:
    unfinished = binary.with_name(f".{part.name}.unfinished")
    command: list[str | Path] = [
        go, "build", "-mod=readonly", "-trimpath", "-ldflags", parts.linker_flags(part, versions.load()),
        "-o", unfinished, part.package,
    ]  # fmt: skip
    with progress.step(f"[{position}] compiling {part.name}", expected_seconds=part.seconds):
        result = subprocess.run(
            command, cwd=paths.GO_MODULE, env=gomod.environment(), capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise ClusterError(
                f"{part.name} does not compile (package {part.package}); Go said at the end:\n"
                f"{result.stderr.strip()[-2000:]}"
            )
        unfinished.replace(binary)


def _drop_build_cache(directory: Path) -> None:
    """Remove the compiled packages, several GB, once every binary is there and nobody is compiling."""
    if any(not (directory / part.name).exists() for part in parts.PARTS):
        return
    with (paths.cache_dir() / "build.lock").open("a+") as lock:
        if not _taken(lock):
            shutil.rmtree(paths.go_cache_dir(), ignore_errors=True)


def prune() -> list[Path]:
    """Remove binaries of other versions that no process runs any more; give the removed directories."""
    current = paths.bin_dir()
    running = {target.parent for target in _executables()}
    removed = [
        directory
        for directory in (paths.cache_dir() / "bin").glob("*")
        if directory != current and directory not in running
    ]
    for directory in removed:
        shutil.rmtree(directory, ignore_errors=True)
    return removed


def _executables() -> set[Path]:
    """Paths of the executables of all processes that this user may look at."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/exe"):
        try:
            found.add(link.readlink())
        except OSError:  # gone meanwhile, a kernel thread, or another user's
            continue
    return found
