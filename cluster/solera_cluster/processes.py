"""Starts programs in the background and finds them again, by pid files that survive the reuse of pids."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from solera_cluster import progress
from solera_cluster.errors import ClusterError

_POLL_SECONDS = 0.1
_LOG_TAIL_BYTES = 3000


@dataclass(frozen=True)
class PidFile:
    """A process as it was when it was started; `started` is its start time in clock ticks since boot."""

    pid: int
    started: int
    boot: str

    def dumps(self) -> str:
        """Write it down."""
        return json.dumps({"pid": self.pid, "started": self.started, "boot": self.boot})

    @staticmethod
    def loads(text: str) -> "PidFile | None":
        """Read it back; None for a file that was cut off or means something else."""
        try:
            stored = json.loads(text)
            return PidFile(int(stored["pid"]), int(stored["started"]), str(stored["boot"]))
        except (ValueError, KeyError, TypeError):
            return None


def start_time(stat: str) -> int:
    """Find the start time in a line of /proc/PID/stat; the name before it may hold blanks and brackets."""
    return int(stat.rpartition(")")[2].split()[19])


def is_dead(stat: str) -> bool:
    """
    Whether a process has ended, by its line of /proc/PID/stat.

    The first thread of a killed program is a zombie at once; its ports are free when the others are gone too.
    """
    fields = stat.rpartition(")")[2].split()
    return fields[0] in {"Z", "X"} and int(fields[17]) <= 1


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None


def is_same(recorded: PidFile, boot: str, stat: str | None) -> bool:
    """Whether the process that has the recorded pid now is the one that was recorded, and lives."""
    if stat is None or recorded.boot != boot or is_dead(stat):
        return False
    return start_time(stat) == recorded.started


@dataclass(frozen=True)
class Process:
    """A program of one cluster, known by its name in the directories of pid files and of logs."""

    name: str
    pids: Path
    logs: Path

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.logs / f"{self.name}.log"

    @property
    def _pid_file(self) -> Path:
        return self.pids / f"{self.name}.pid"

    def pid(self) -> int | None:
        """Give the pid, if the program that was started is still running."""
        try:
            recorded = PidFile.loads(self._pid_file.read_text())
        except FileNotFoundError:
            return None
        if recorded is None or not is_same(recorded, _boot(), _stat(recorded.pid)):
            return None
        return recorded.pid

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        """Start the program in a session of its own, unless it runs; the previous log is kept as `.1`."""
        if self.pid():
            return
        for directory in (self.pids, self.logs):
            directory.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as output:
            started = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
                env={**os.environ, **(environment or {})},
            )
        stat = _stat(started.pid)
        if stat is not None:
            unfinished = self._pid_file.with_suffix(".unfinished")
            unfinished.write_text(PidFile(started.pid, start_time(stat), _boot()).dumps())
            unfinished.replace(self._pid_file)
        # It outlives this command on purpose: say so to the garbage collector, which would warn.
        started.returncode = 0

    def stop(self, patience: float) -> None:
        """Ask the program to end, make it end after `patience` seconds, and forget it."""
        if pid := self.pid():
            end([pid], patience)
        self._pid_file.unlink(missing_ok=True)

    def wait_until(self, ready: Callable[[], bool], what: str, timeout: float) -> None:
        """Wait for a condition of the running program; raises ClusterError with the end of its log."""
        deadline = time.monotonic() + timeout
        while not ready():
            if self.pid() is None:
                raise ClusterError(f"{self.name} ended before {what}.\n{self.log_tail()}")
            if time.monotonic() > deadline:
                waited = progress.duration(timeout)
                raise ClusterError(f"{self.name}: {what} did not happen in {waited}.\n{self.log_tail()}")
            time.sleep(_POLL_SECONDS)

    def log_tail(self) -> str:
        """Give the end of the log, for an error message."""
        try:
            text = self.log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
        except FileNotFoundError:
            return f"There is no log at {self.log}."
        return f"The end of {self.log}:\n{text}"


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def living(pids: Iterable[int]) -> list[int]:
    """Give those of the pids that are still processes, zombies apart."""
    return [pid for pid in pids if (stat := _stat(pid)) is not None and not is_dead(stat)]


def end(pids: Sequence[int], patience: float) -> None:
    """Send SIGTERM, wait up to `patience` seconds, then SIGKILL; returns when none of them lives."""
    if patience > 0:
        _signal(pids, signal.SIGTERM)
        deadline = time.monotonic() + patience
        while living(pids) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    rest = living(pids)
    _signal(rest, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while living(rest):
        if time.monotonic() > deadline:
            raise ClusterError(f"processes {living(rest)} do not end, not even when killed")
        time.sleep(_POLL_SECONDS)


def running_from(binaries: Path, text: str) -> list[int]:
    """Give the pids of processes whose program is below `binaries` and whose command line has `text`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            program = (entry / "exe").readlink()
            words = (entry / "cmdline").read_bytes()
        except OSError:  # gone meanwhile, or another user's
            continue
        if program.is_relative_to(binaries) and text.encode() in words:
            found.append(int(entry.name))
    return living(found)
