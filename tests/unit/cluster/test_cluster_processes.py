import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solera_cluster import processes
from solera_cluster.errors import ClusterError
from solera_cluster.processes import PidFile, Process

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def stat_line(name: str, state: str, started: int, threads: int = 1) -> str:
    return f"7 ({name}) {state} 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 {threads} 0 {started} 0 0"


@given(name=st.text(min_size=1, max_size=15), started=st.integers(0, 2**63))
def test_start_time_is_found_whatever_the_process_is_called(name, started):
    assert processes.start_time(stat_line(name, "S", started)) == started


def test_a_process_is_recognised_by_pid_start_time_and_boot():
    recorded = PidFile(pid=7, started=100, boot="boot-1")
    assert processes.is_same(recorded, "boot-1", stat_line("etcd", "S", 100))
    assert not processes.is_same(recorded, "boot-1", stat_line("etcd", "S", 101)), "the pid was used again"
    assert not processes.is_same(recorded, "boot-2", stat_line("etcd", "S", 100)), "the machine was restarted"
    assert not processes.is_same(recorded, "boot-1", stat_line("etcd", "Z", 100)), "a zombie does not run"
    assert not processes.is_same(recorded, "boot-1", None)


def test_a_killed_program_lives_until_its_last_thread_has_let_go():
    assert not processes.is_dead(stat_line("etcd", "Z", 100, threads=3))
    assert processes.is_dead(stat_line("etcd", "Z", 100, threads=1))
    assert not processes.is_dead(stat_line("etcd", "S", 100, threads=1))


@given(st.integers(), st.integers(), st.text())
def test_pid_file_reads_back(pid, started, boot):
    recorded = PidFile(pid, started, boot)
    assert PidFile.loads(recorded.dumps()) == recorded


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "12", '{"pid": 1}', '{"pid": "x", "started": 1, "boot": ""}']
)
def test_damaged_pid_file_names_no_process(text):
    assert PidFile.loads(text) is None


def test_started_process_is_found_by_another_look_and_stopped(tmp_path):
    process = Process("sleeper", tmp_path / "pids", tmp_path / "logs")
    assert process.pid() is None
    process.start(SLEEP)
    pid = Process("sleeper", tmp_path / "pids", tmp_path / "logs").pid()
    assert pid is not None
    assert os.getsid(pid) == pid, "it has a session of its own, so it outlives the terminal"
    process.start(SLEEP)
    assert process.pid() == pid, "what runs is not started twice"
    process.stop(patience=5)
    assert process.pid() is None
    assert processes.living([pid]) == []


def test_pid_that_another_process_has_now_is_never_signalled(tmp_path):
    process = Process("sleeper", tmp_path / "pids", tmp_path / "logs")
    with subprocess.Popen(SLEEP) as other:
        try:
            (tmp_path / "pids").mkdir()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            (tmp_path / "pids" / "sleeper.pid").write_text(PidFile(other.pid, 1, boot).dumps())
            process.stop(patience=0)
            assert other.poll() is None
        finally:
            other.kill()


def test_a_program_that_ends_early_is_reported_with_its_log(tmp_path):
    process = Process("broken", tmp_path / "pids", tmp_path / "logs")
    process.start([sys.executable, "-c", "raise SystemExit('no such option: --colour')"])
    with pytest.raises(ClusterError, match=r"(?s)broken ended before it answers.*no such option: --colour"):
        process.wait_until(lambda: False, "it answers", timeout=10)


def test_waiting_has_an_end(tmp_path):
    process = Process("sleeper", tmp_path / "pids", tmp_path / "logs")
    process.start(SLEEP)
    try:
        with pytest.raises(ClusterError, match=r"it answers did not happen in 0\.2 s"):
            process.wait_until(lambda: False, "it answers", timeout=0.2)
    finally:
        process.stop(patience=0)


def test_previous_log_is_kept(tmp_path):
    process = Process("talker", tmp_path / "pids", tmp_path / "logs")
    for word in ("first", "second"):
        process.start([sys.executable, "-c", f"print('{word}')"])
        with pytest.raises(ClusterError):
            process.wait_until(lambda: False, "it answers", timeout=10)
    assert process.log.read_text() == "second\n"
    assert process.log.with_suffix(".log.1").read_text() == "first\n"
