"""A server with all its processes: started on one CPU, frozen while others are measured, weighed, and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


class ProcessTree:
    """The process of ``command`` and everything that descends from it; ``log`` gets what they write."""

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], log: Path, *, cpu: int | None, folder: Path
    ) -> None:
        pinned = ["taskset", "-c", str(cpu), *command] if cpu is not None else list(command)
        folder.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                pinned, env=dict(environ), stdout=out, stderr=out, cwd=folder, start_new_session=True
            )
        self._log = log
        self._frozen: list[int] = []

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def output(self) -> str:
        """The last of what it wrote."""
        return self._log.read_text(errors="replace")[-2000:]

    def pids(self) -> list[int]:
        """The processes of the tree: the first one, its session's, and their descendants."""
        parents: dict[int, int] = {}
        members = {self.pid}
        for pid, fields in _stats():
            parents[pid] = int(fields[1])
            if int(fields[3]) == self.pid:
                members.add(pid)
        grown = True
        while grown:
            more = {pid for pid, parent in parents.items() if parent in members and pid not in members}
            members |= more
            grown = bool(more)
        return sorted(members & set(parents))

    def cpu_seconds(self) -> float:
        """User and system time of all its processes, those that ended and were waited for included."""
        wanted = set(self.pids())
        return sum(
            sum(int(fields[place]) for place in (11, 12, 13, 14)) / _TICKS
            for pid, fields in _stats()
            if pid in wanted
        )

    def memory_mb(self) -> float:
        """
        Resident memory of the tree in MB, each page once, as if no other tree shared any with it.

        Pages of files count once for each file however many of the tree's processes map it, private and
        anonymous ones by their proportional share, which is shared within the tree only.
        """
        anonymous, files = 0, {}
        for pid in self.pids():
            with contextlib.suppress(OSError):
                anonymous += _anonymous_kb(pid)
                for path, kilobytes in _files_kb(pid).items():
                    files[path] = max(files.get(path, 0), kilobytes)
        return (anonymous + sum(files.values())) / 1000

    def freeze(self) -> None:
        """Stop all processes, so that an idle server costs nothing while another one is measured."""
        self._frozen = self.pids()
        self._signal(signal.SIGSTOP, self._frozen)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT, self._frozen)
        self._frozen = []

    def wait(self, seconds: float) -> None:
        """Wait for the first process to end by itself, at most so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def stop(self, seconds: float = 1.0) -> None:
        """End the tree: SIGTERM, and SIGKILL for what is left."""
        self.thaw()
        pids = self.pids()
        self._signal(signal.SIGTERM, [self.pid] if self.running else pids)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(_alive(pid) for pid in pids):
            self._process.poll()
            time.sleep(0.02)
        self._signal(signal.SIGKILL, [pid for pid in pids if _alive(pid)])
        self._process.wait()

    @staticmethod
    def _signal(number: signal.Signals, pids: Sequence[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Yield each process's id with the fields of /proc/PID/stat that follow its name."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()


def _alive(pid: int) -> bool:
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _anonymous_kb(pid: int) -> int:
    totals = {}
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        totals[name] = int(value.split()[0])
    return totals.get("Pss_Anon", totals.get("Pss", 0)) + totals.get("Pss_Shmem", 0)


def _files_kb(pid: int) -> dict[str, int]:
    """Resident kilobytes by mapped file, without the pages of it that the process made its own."""
    sizes: dict[str, int] = {}
    path = ""
    for line in (_PROC / str(pid) / "smaps").read_text().splitlines():
        first, *rest = line.split(None, 5)
        if not first.endswith(":"):
            path = rest[4] if len(rest) > 4 and rest[4].startswith("/") else ""
        elif path and not path.startswith(("/dev/", "/memfd:", "/SYSV")) and first in ("Rss:", "Anonymous:"):
            sizes[path] = sizes.get(path, 0) + int(rest[0]) * (1 if first == "Rss:" else -1)
    return sizes
