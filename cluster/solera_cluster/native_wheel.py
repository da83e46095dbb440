"""
The server's C extension for its image, compiled on this machine.

One file serves every CPython from 3.11 on. Where this machine cannot make it, the image goes without: the
server then computes with numpy, with the same results.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from solera_cluster.errors import ClusterError

EXTENSION = "solera_native.abi3.so"
_SOURCES = ("*.c", "*.h", "setup.py", "pyproject.toml")


def sources(checkout: Path) -> list[Path]:
    """Everything that the extension is made from."""
    folder = checkout / "native"
    found = sorted(path for pattern in _SOURCES for path in folder.glob(pattern))
    if not found:
        raise ClusterError(f"{folder} holds no sources: this checkout is incomplete")
    return [*found, checkout / "requirements" / "native.txt"]


def obstacle() -> str | None:
    """Say why the extension cannot be compiled here for the image; None where it can."""
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return "this machine is no Linux with glibc, as the image is"
    if shutil.which("cc") is None:
        return "there is no C compiler (Debian: apt-get install gcc libc6-dev)"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return f"{sys.executable} has no C headers (Debian: apt-get install python3-dev)"
    return None


def extension(checkout: Path, uv: Path, uv_cache: Path, cache: Path) -> Path:
    """Return the path of the extension below `cache`, compiled if need be; raises ClusterError."""
    used = sources(checkout)
    built = cache / _digest(used) / EXTENSION
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            wheel = _wheel(checkout, uv, uv_cache, Path(scratch))
            with zipfile.ZipFile(wheel) as archive:
                unpacked = Path(archive.extract(EXTENSION, scratch))
            unpacked.replace(built)
    return built


def _digest(used: Iterable[Path]) -> str:
    digest = hashlib.sha256(platform.machine().encode())
    for path in used:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _wheel(checkout: Path, uv: Path, uv_cache: Path, scratch: Path) -> Path:
    # Compiled from a copy: setuptools leaves its own files beside the sources.
    copied = scratch / "native"
    shutil.copytree(checkout / "native", copied, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    constraints = checkout / "requirements" / "native.txt"
    command = [
        *(
            str(uv),
            "build",
            "--quiet",
            "--wheel",
            "--python",
            sys.executable,
            "--out-dir",
            str(scratch / "out"),
        ),
        *("--build-constraints", str(constraints), "--require-build-hashes", str(copied)),
    ]
    environment = {
        **os.environ,
        "UV_CACHE_DIR": str(uv_cache),
        "UV_NO_PROGRESS": "1",
        "SOURCE_DATE_EPOCH": "315532800",
    }
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode:
        last = "\n".join((finished.stderr + finished.stdout).splitlines()[-20:])
        raise ClusterError(f"the extension in {checkout / 'native'} could not be compiled:\n{last}")
    [wheel] = (scratch / "out").glob("*.whl")
    return wheel
