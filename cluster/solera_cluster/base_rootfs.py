"""
The root file system of the base image, put together from Debian packages.

debootstrap resolves, downloads and verifies the packages of Debian's minimal variant with Python; only those
that a Python program needs are then unpacked. Nothing is configured: no package manager, no shell, no perl
gets into the image, and no maintainer script runs.
"""

import fnmatch
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from solera_cluster import packages
from solera_cluster.errors import ClusterError

# What the interpreter, its standard library and the wheels' shared objects link against.
PACKAGES = (
    "base-files",
    "ca-certificates",
    "libbz2-1.0",
    "libc-bin",
    "libc6",
    "libcrypt1",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libsmartcols1",
    "libsqlite3-0",
    "libssl3",
    "libstdc++6",
    "libuuid1",
    "media-types",
    "python3-minimal",
    "python3.11-minimal",
    "tzdata",
    "util-linux",
    "zlib1g",
)

# Of these packages only the named files: the C.UTF-8 locale, and lscpu, by which joblib counts cores.
ONLY = {
    "libc-bin": ("usr/lib/locale/*", "usr/share/doc/*/copyright"),
    "util-linux": ("usr/bin/lscpu", "usr/share/doc/*/copyright"),
}

# Not needed by a server process. Copyright files stay.
DROPPED = (
    "etc/apt*",
    "etc/profile*",
    "usr/bin/py3*",
    "usr/lib/*-linux-gnu/gconv",
    "usr/lib/python3*/dist-packages",
    "usr/lib/python3.11/ensurepip",
    "usr/lib/python3.11/idlelib",
    "usr/lib/python3.11/lib2to3",
    "usr/lib/python3.11/pydoc_data",
    "usr/lib/python3.11/test",
    "usr/lib/python3.11/tkinter",
    "usr/lib/python3.11/turtledemo",
    "usr/share/base-files",
    "usr/share/bug",
    "usr/share/ca-certificates",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/menu",
    "usr/share/pixmaps",
    "usr/share/python3",
    "usr/share/applications",
    "usr/share/zoneinfo/posix",
    "usr/share/zoneinfo/right",
)

ACCOUNTS = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n"
GROUP = "root:x:0:\nnonroot:x:65532:\n"


def build(root: Path, suite: str, cache: Path) -> None:
    """
    Fill the empty folder `root` from Debian's `suite`; downloaded packages are kept below `cache`.

    Needs the superuser. Raises ClusterError when debootstrap cannot be had or fails; SOLERA_BASE_IMAGE names
    an image to use instead.
    """
    archives = _download(suite, cache)
    _unpack(archives, root)
    _trim(root)
    _configure(root)


def _download(suite: str, cache: Path) -> Path:
    """Return the folder of the verified .deb files."""
    packages.ensure({"debootstrap": "debootstrap"})
    target = cache / f"debootstrap-{suite}"
    archives = target / "var/cache/apt/archives"
    complete = target / "complete"
    if complete.exists():
        return archives
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    log = cache / "debootstrap.log"
    with log.open("w") as output:
        finished = subprocess.run(
            [
                "debootstrap",
                "--variant=minbase",
                "--download-only",
                "--include=python3,ca-certificates",
                suite,
                str(target),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if finished.returncode:
        last = "\n".join(log.read_text().splitlines()[-8:])
        raise ClusterError(
            f"debootstrap failed ({finished.returncode}), its whole output is in {log}:\n{last}"
        )
    complete.touch()
    return archives


def _unpack(archives: Path, root: Path) -> None:
    for folder in ("bin", "lib", "lib64", "sbin"):  # the merged /usr, before any package puts files there
        (root / "usr" / folder).mkdir(parents=True, exist_ok=True)
        (root / folder).symlink_to(f"usr/{folder}")
    for package in PACKAGES:
        found = sorted(archives.glob(f"{package}_*.deb"))
        if len(found) != 1:
            raise ClusterError(f"{archives}: expected one file {package}_*.deb, found {len(found)}")
        patterns = ONLY.get(package)
        if patterns is None:
            _extract(found[0], root)
        else:
            with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
                _extract(found[0], Path(scratch))
                _copy_matching(Path(scratch), root, patterns)
        control = subprocess.run(["dpkg-deb", "-f", found[0]], capture_output=True, check=True, text=True)
        status = root / "var/lib/dpkg/status.d" / package  # where image scanners look in such images
        status.parent.mkdir(parents=True, exist_ok=True)
        status.write_text(control.stdout)


def _extract(deb: Path, root: Path) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as packed:
        subprocess.run(
            ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-p", "-C", root],
            stdin=packed.stdout,
            check=True,
        )
    if packed.returncode:
        raise ClusterError(f"{deb}: dpkg-deb cannot read it ({packed.returncode}); remove it and build again")


def _copy_matching(source: Path, root: Path, patterns: tuple[str, ...]) -> None:
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_file() and any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, root / name)


def _trim(root: Path) -> None:
    certificates = b"".join(
        path.read_bytes() for path in sorted(root.glob("usr/share/ca-certificates/*/*.crt"))
    )
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_bytes(certificates)
    for pattern in DROPPED:
        for path in sorted(root.glob(pattern)):
            _remove(path)
    for folder in sorted(root.glob("usr/share/doc/*")):
        if folder.is_symlink():  # to the folder of the package that holds the copyright file
            continue
        for path in sorted(folder.iterdir()):
            if path.name != "copyright":
                _remove(path)
        if not any(folder.iterdir()):
            folder.rmdir()
    for path in root.glob("usr/lib/python3.11/config-*"):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _configure(root: Path) -> None:
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text(ACCOUNTS)
    (root / "etc/group").write_text(GROUP)
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    tmp = root / "tmp"
    tmp.mkdir(exist_ok=True)
    tmp.chmod(0o1777)
    for folder, _, files in os.walk(root):
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink() and path.stat().st_mode & 0o6000:
                path.chmod(path.stat().st_mode & 0o1777)  # nobody needs set-user-id here
