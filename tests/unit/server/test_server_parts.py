"""The small parts: threads, logs, options."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solera_server import logs
from solera_server.http_server import http_date
from solera_server.metrics import BUCKETS, Metrics
from solera_server.threads import UNLIMITED, cpus, limit_threads, quota, usable_cpus

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, 1.0), ("", 1.0), ("2", 2.0), ("500m", 0.5), ("1500m", 1.5), ("0.25", 0.25), (" 4 ", 4.0)],
)
def test_cpu_quantities(text: str | None, expected: float) -> None:
    assert cpus(text) == expected


@pytest.mark.parametrize("text", ["lots", "-1", "0", "nan", "inf", "m", "1k"])
def test_bad_cpu_quantities(text: str) -> None:
    with pytest.raises(ValueError):
        cpus(text)


def test_threads_are_whole_and_at_least_one_and_do_not_overrule_the_user() -> None:
    environ = {"SOLERA_CPUS": "2500m", "OMP_NUM_THREADS": "7"}
    assert limit_threads(environ, usable=8) == 2
    assert environ["OMP_NUM_THREADS"] == "7"
    assert environ["OPENBLAS_NUM_THREADS"] == "2"
    assert limit_threads({"SOLERA_CPUS": "250m"}, usable=8) == 1
    assert limit_threads({"SOLERA_CPUS": "64"}, usable=1.5) == 1
    assert limit_threads({}, usable=8) == 1


@pytest.mark.parametrize(
    ("machine", "affinity", "granted", "usable"),
    [
        (64, 64, None, UNLIMITED),  # no limit: Kubernetes gives the node's count as SOLERA_CPUS
        (2, 2, None, 2),
        (64, 16, None, 16),
        (64, 64, 6.0, 6),
        (64, 2, 6.0, 2),
        (64, 64, 0.5, 0.5),
    ],
)
def test_cpus_that_may_be_had(machine: int, affinity: int, granted: float | None, usable: float) -> None:
    assert usable_cpus(machine, affinity, granted) == usable


def test_the_quota_of_both_versions_of_cgroups(tmp_path: Path) -> None:
    assert quota(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert quota(tmp_path) is None
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("150000\n")
    assert quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("400000 100000\n")
    assert quota(tmp_path) == 4.0


def test_the_command_line_imports_no_numpy_before_it_sets_threads() -> None:
    """And nothing of the server imports the specification's types, nor at its start what is large."""
    code = (
        "import sys, solera_server.cli\n"
        "assert 'numpy' not in sys.modules\n"
        "import solera_server.run, solera_server.fetch\n"
        "assert not [name for name in sys.modules if name == 'pydantic' or name.startswith('solera_core.spec')]\n"
        "large = {'pandas', 'scipy', 'sklearn', 'skops', 'fsspec', 's3fs', 'aiohttp', 'grpc', 'pyarrow',\n"
        "         'prometheus_client', 'email', 'importlib.metadata'}\n"
        "assert not large & sys.modules.keys(), large & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], level = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.mark.usefixtures("root_logger")
def test_log_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    log = logging.getLogger("test")
    log.debug("not shown")
    log.info("shown", extra={"path": Path("x"), "number": 3})
    try:
        int("why")
    except ValueError:
        log.exception("failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["level"], first["path"], first["number"]) == ("shown", "info", "x", 3)
    assert first["time"].endswith("+00:00")
    assert second["exception"].endswith("builtins.ValueError"), "what it says may be a client's"


def test_histogram_counts_each_value_once_at_its_bound() -> None:
    metrics = Metrics("m", "v")
    for seconds in (0.0004, 0.0005, 0.0006, 99.0):
        metrics.answered("v1", 200, seconds)
    text = metrics.exposition()[0].decode()
    labels = 'model="m",protocol="v1",version="v"'
    assert f'_bucket{{le="{BUCKETS[0]}",{labels}}} 2.0' in text
    assert f'_bucket{{le="{BUCKETS[1]}",{labels}}} 3.0' in text
    assert f'_bucket{{le="{BUCKETS[-1]}",{labels}}} 3.0' in text
    assert f'_bucket{{le="+Inf",{labels}}} 4.0' in text
    assert "solera_server_request_duration_seconds_sum" in text


@given(st.integers(0, 10_000_000_000))
def test_dates_are_those_of_http(seconds: int) -> None:
    assert http_date(seconds).decode() == formatdate(seconds, usegmt=True)
