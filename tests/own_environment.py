"""
Python environments apart from the checkout's own, for packages whose pins would not agree with ours.

Each is made on demand from a hash-pinned file ``requirements/<name>.txt`` and kept in the cache under a name
that holds the file's hash, so that a changed file makes a new environment. From a shell,
``.venv/bin/python tests/own_environment.py NAME`` prints the path of its interpreter.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_REQUIREMENTS = _ROOT / "requirements"


def environment(name: str) -> Path:
    """
    Return the interpreter of the environment ``name``, which is made first if it is not there.

    ``name`` is a path below requirements/ without its ending, such as ``clients`` or ``peers/mlserver``. Two
    processes that ask at once wait for one another. Raises FileNotFoundError without such a file, and
    RuntimeError with the installer's words when it fails.
    """
    requirements = _REQUIREMENTS / f"{name}.txt"
    text = requirements.read_bytes()
    kind = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(kind.encode() + b"\0" + text).hexdigest()[:12]
    home = _cache() / "environments"
    folder = home / f"{name.replace('/', '-')}-{digest}"
    python, finished = folder / "bin" / "python", folder / ".finished"
    if finished.exists():
        return python
    home.mkdir(parents=True, exist_ok=True)
    with (home / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder, python, requirements)
            finished.touch()
    return python


def _make(folder: Path, python: Path, requirements: Path) -> None:
    uv = _uv()
    _run(uv, "venv", "--quiet", "--python", sys.executable, str(folder))
    _run(
        uv, "pip", "install", "--quiet", "--require-hashes", "--python", str(python), "-r", str(requirements)
    )


def _cache() -> Path:
    named = os.environ.get("SOLERA_CACHE")
    return Path(named).expanduser().resolve() if named else Path.home() / ".cache" / "solera"


def _uv() -> str:
    # The one that `make env` installed by its hashes.
    pinned = (_REQUIREMENTS / "uv.txt").read_text(encoding="utf-8")
    version = pinned.split("uv==", 1)[1].split()[0]
    uv = _cache() / "tools" / f"uv-{version}" / "bin" / "uv"
    if not uv.exists():
        raise RuntimeError(f"{uv} is missing; `make env` installs it")
    return str(uv)


def _run(*command: str) -> None:
    environ = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environ |= {"UV_CACHE_DIR": str(_cache() / "uv"), "UV_NO_PROGRESS": "1"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.stdout.write(f"{environment(sys.argv[1])}\n")
