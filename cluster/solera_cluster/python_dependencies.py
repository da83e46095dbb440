"""
The third-party Python packages of an image, installed on the host into a folder that the build copies.

The host does it because a build container has neither a package cache nor the host's certificate store.
Only wheels with the pinned hashes are taken, for the image's Python version. What no program of ours loads
at run time is removed.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from solera_cluster import packages, paths
from solera_cluster.errors import ClusterError

PYTHON_VERSION = "3.11"  # of both base images

# Paths below the target folder. Each removal is checked by the import of the packages in the built image.
DROPPED = (
    "bin",
    "*-stubs",
    "*.dist-info/RECORD",
    "*.dist-info/direct_url.json",
    # Arrow Flight, its S3 client (s3fs reads the store), C++ headers and the unversioned copies of libraries
    "pyarrow/include",
    "pyarrow/includes",
    "pyarrow/src",
    "pyarrow/_flight.*",
    "pyarrow/_s3fs.*",
    "pyarrow/_pyarrow_cpp_tests.*",
    "pyarrow/libarrow_flight.*",
    "pyarrow/libarrow_s3.*",
    "pyarrow/libarrow_python_flight.*",
    "pyarrow/libarrow_python.so",
    "pyarrow/libarrow_python.so.*.*.*",
    "pyarrow/libarrow_python_parquet_encryption.so",
    "pyarrow/libarrow_python_parquet_encryption.so.*.*.*",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/random/lib",
    # The synchronous Kubernetes client's types and calls, which load on first use; kubernetes.aio is used
    "kubernetes/client/models/[!_]*.py",
    "kubernetes/client/api/[!_]*.py",
    "kubernetes/docs",
)

# Anywhere below the target folder: sources that only a compiler or a type checker reads.
DROPPED_SUFFIXES = (
    ".pyi",
    ".pyx",
    ".pxd",
    ".pxi",
    ".pyc",
    ".h",
    ".hpp",
    ".c",
    ".cpp",
    ".tp",
    ".tpl",
    ".in",
    ".build",
)

# Their `tests` folders go; other packages may have a module of that name that they import.
TESTS_DROPPED_FROM = ("joblib", "numpy", "pandas", "pyarrow", "scipy", "sklearn", "skops", "fsspec", "wrapt")
# ... but for what the packages import themselves at run time
TESTS_KEPT = ("numpy/testing", "sklearn/utils/_testing.py")

# Of botocore's 400 service descriptions, the store's and the two by which credentials are got.
BOTOCORE_SERVICES = ("s3", "sts", "sso", "sso-oidc")


def ensure_uv(version: str, tools: Path) -> Path:
    """Return the path of `uv` in its own environment below `tools`, installing it if need be."""
    folder = tools / f"uv-{version}"
    uv = folder / "bin" / "uv"
    if not uv.exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        pinned = ("--require-hashes", "--requirement", str(paths.CHECKOUT / "requirements" / "uv.txt"))
        _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *pinned])
    return uv


def install(uv: Path, requirements: Path, target: Path, cache: Path) -> None:
    """Install exactly `requirements` (with hashes) into the empty folder `target`."""
    command = [
        str(uv),
        "pip",
        "install",
        "--quiet",
        "--target",
        str(target),
        "--python-version",
        PYTHON_VERSION,
        "--only-binary",
        ":all:",
        "--no-deps",
        "--require-hashes",
        "--link-mode",
        "copy",  # the files are stripped below; a hard link would change uv's cache
        "--requirements",
        str(requirements),
    ]
    _run(command, {"UV_CACHE_DIR": str(cache), "UV_NO_PROGRESS": "1"})


def trim(target: Path) -> None:
    """Remove from `target` what the programs never load."""
    for pattern in DROPPED:
        _remove(target.glob(pattern))
    for package in TESTS_DROPPED_FROM:
        folders = (path for path in (target / package).rglob("test*") if path.name in {"test", "tests"})
        _remove(path for path in folders if not path.relative_to(target).as_posix().startswith(TESTS_KEPT))
    services = target.glob("botocore/data/*/")
    _remove(path for path in services if path.name not in BOTOCORE_SERVICES)
    _remove(path for path in target.rglob("*.*") if path.suffix in DROPPED_SUFFIXES and path.is_file())
    _remove(target.rglob("__pycache__"))


def strip_libraries(target: Path) -> None:
    """
    Remove symbols that the loader does not need: a quarter of Arrow's library, nine tenths of uvloop's.

    Libraries in `*.libs` folders were moved there by patchelf, after which strip misplaces their segments.
    """
    packages.ensure({"binutils": "strip"})
    libraries = [
        path
        for path in sorted(target.rglob("*.so*"))
        if path.is_file() and not path.is_symlink() and not path.parent.name.endswith(".libs")
    ]
    for path in libraries:
        path.chmod(path.stat().st_mode | 0o200)
    if libraries:
        _run(["strip", "--strip-unneeded", "--preserve-dates", *map(str, libraries)])


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    finished = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        last = "\n".join((finished.stderr + finished.stdout).splitlines()[-12:])
        raise ClusterError(f"{Path(command[0]).name} failed ({finished.returncode}):\n{last}")


def _remove(paths: Iterable[Path]) -> None:
    for path in sorted(paths):  # listed whole before the first goes
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
