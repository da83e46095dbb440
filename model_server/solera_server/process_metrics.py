"""What the processes of a server take of the machine, under the names that Prometheus' clients use."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from solera_server.exposition import Family

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def process_families(pids: Sequence[int]) -> Iterator[Family]:
    """
    Yield the ``process_*`` metrics of several processes together, the parent of the others first.

    Memory that they share counts once. CPU time holds that of children that have ended.
    """
    cpu = virtual = resident = 0.0
    descriptors = 0
    started = None
    for pid in pids:
        directory = Path("/proc") / str(pid)
        try:
            # The name of the command may hold blanks and parentheses; what follows its last one does not.
            values = (directory / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            cpu += sum(map(int, values[11:15])) / _TICKS
            virtual += int(values[20])
            if started is None:
                started = _boot_seconds() + int(values[19]) / _TICKS
            resident += int(values[21]) * _PAGE if len(pids) == 1 else _share(directory)
            descriptors += sum(1 for _ in (directory / "fd").iterdir())
        except (OSError, ValueError, IndexError):  # it has just ended
            continue
    yield Family("process_cpu_seconds_total", "counter", "User and system CPU time, seconds.").add(cpu)
    yield Family("process_resident_memory_bytes", "gauge", "Memory in RAM.").add(resident)
    yield Family("process_virtual_memory_bytes", "gauge", "Virtual memory.").add(virtual)
    if started is not None:
        yield Family("process_start_time_seconds", "gauge", "Start, seconds since 1970.").add(started)
    yield Family("process_open_fds", "gauge", "Open file descriptors.").add(descriptors)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield Family("process_max_fds", "gauge", "File descriptors that one process may have.").add(limit)


def _share(directory: Path) -> float:
    """Return a process's proportional share of memory, bytes: a page in n processes counts as 1/n here."""
    for line in (directory / "smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024.0
    return 0.0


def _boot_seconds() -> float:
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        if line.startswith("btime"):
            return float(line.split()[1])
    return 0.0
