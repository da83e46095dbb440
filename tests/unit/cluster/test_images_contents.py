"""What gets into an image's root file system, its dependencies and its source layer."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from solera_cluster import base_rootfs, image_contexts, native_wheel, paths, python_dependencies


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "dropped",
    [
        "pandas/tests/test_frame.py",
        "scipy/stats/tests/data/big.npy",
        "pyarrow/libarrow_flight.so.2600",
        "pyarrow/libarrow_python.so",
        "pyarrow/libarrow_python.so.2600.1.0",
        "pyarrow/include/arrow/api.h",
        "botocore/data/ec2/2016-11-15/service-2.json.gz",
        "numpy/typing.pyi",
        "sklearn/tree/_tree.pyx",
        "orjson/__pycache__/a.cpython-311.pyc",
        "kubernetes/client/models/v1_pod.py",
        "bin/f2py",
        "pandas-stubs/frame.pyi",
    ],
)
def test_what_no_program_loads_is_removed(tmp_path: Path, dropped: str) -> None:
    path = write(tmp_path / dropped)
    python_dependencies.trim(tmp_path)
    assert not path.exists()


@pytest.mark.parametrize(
    "kept",
    [
        "numpy/testing/__init__.py",
        "numpy/testing/tests/__init__.py",
        "pyarrow/libarrow_python.so.2600",
        "pyarrow/libparquet.so.2600",
        "pyarrow/_dataset.cpython-311-x86_64-linux-gnu.so",
        "botocore/data/s3/2006-03-01/service-2.json.gz",
        "botocore/data/endpoints.json",
        "kubernetes/client/models/__init__.py",
        "kubernetes/aio/client/models/v1_pod.py",
        "s3fs-2026.9.0.dist-info/METADATA",
        "somebody/tests/helper.py",
    ],
)
def test_what_programs_load_stays(tmp_path: Path, kept: str) -> None:
    path = write(tmp_path / kept)
    python_dependencies.trim(tmp_path)
    assert path.exists()


def test_the_base_keeps_copyrights_and_makes_one_certificate_bundle(tmp_path: Path) -> None:
    write(tmp_path / "usr/share/ca-certificates/mozilla/b.crt", "B\n")
    write(tmp_path / "usr/share/ca-certificates/mozilla/a.crt", "A\n")
    copyright_file = write(tmp_path / "usr/share/doc/libc6/copyright")
    changelog = write(tmp_path / "usr/share/doc/libc6/changelog.gz")
    (tmp_path / "usr/share/doc/libc6-dev").symlink_to("libc6")
    write(tmp_path / "usr/share/doc/empty/README")
    base_rootfs._trim(tmp_path)
    assert (tmp_path / "etc/ssl/certs/ca-certificates.crt").read_text() == "A\nB\n"
    assert copyright_file.exists()
    assert not changelog.exists()
    assert not (tmp_path / "usr/share/doc/empty").exists()
    assert not (tmp_path / "usr/share/ca-certificates").exists()


def test_nothing_in_the_base_is_set_user_id(tmp_path: Path) -> None:
    program = write(tmp_path / "usr/bin/mount")
    program.chmod(0o4755)
    base_rootfs._configure(tmp_path)
    assert stat.S_IMODE(program.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "tmp").stat().st_mode) == 0o1777
    assert "nonroot:x:65532:65532:" in (tmp_path / "etc/passwd").read_text()


def test_the_base_has_neither_shell_nor_package_manager() -> None:
    assert {"bash", "dash", "apt", "dpkg", "perl-base", "coreutils"}.isdisjoint(base_rootfs.PACKAGES)


def test_sources_are_copied_below_their_source_root_with_fixed_permissions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, context = tmp_path / "checkout", tmp_path / "context"
    write(checkout / "core/solera_core/data/table.json").chmod(0o600)
    write(checkout / "core/solera_core/__pycache__/a.pyc")
    context.mkdir(mode=0o700)
    monkeypatch.setattr(paths, "CHECKOUT", checkout)
    image_contexts.fill_component(["core/solera_core"], context, native=False)
    files = {path.relative_to(context).as_posix() for path in context.rglob("*") if path.is_file()}
    assert files == {"solera_core/data/table.json"}
    assert stat.S_IMODE((context / "solera_core/data/table.json").stat().st_mode) == 0o644
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o755 for path in context.rglob("*") if path.is_dir())


def test_the_servers_context_has_an_extension_that_any_python_of_the_image_loads(tmp_path: Path) -> None:
    assert native_wheel.obstacle() is None, "the tests need a C compiler and Python's headers"
    image_contexts.fill_component(["core/solera_core"], tmp_path, native=True)
    program = "import solera_native; print(solera_native.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(tmp_path / "solera_native.abi3.so")
    assert (tmp_path / "solera_native.abi3.so").stat().st_mode & 0o777 == 0o644


def test_without_a_compiler_the_context_has_no_extension_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    image_contexts.fill_component(["core/solera_core"], tmp_path, native=True)
    assert not (tmp_path / "solera_native.abi3.so").exists()
    said = capsys.readouterr()
    assert "computes with numpy" in said.out + said.err
    assert "no C compiler" in said.out + said.err
