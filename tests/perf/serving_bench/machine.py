"""Which CPUs the generator and the servers get, and what the machine is."""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "build" / "bench"
"""Where models, servers' logs and scripts of the load generator are kept between runs."""


@dataclass(frozen=True)
class Cpus:
    """One CPU for the load generator and the harness, another one for the server that is measured."""

    generator: int
    server: int

    @property
    def shared(self) -> bool:
        return self.generator == self.server


def take_cpus() -> Cpus:
    """
    Move this process to the generator's CPU and return both.

    From now on SIGTERM ends it as Ctrl-C does, so that the servers end with it: some of them are stopped and
    would stay so for ever.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    usable = sorted(os.sched_getaffinity(0))
    cpus = Cpus(usable[0], usable[-1])
    os.sched_setaffinity(0, {cpus.generator})
    return cpus


def facts(cpus: Cpus) -> dict[str, str]:
    """What a reader needs to judge the figures."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = re.search(r"model name\s*:\s*(.*)", info)
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"))
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    shared = ", shared by generator and server: figures are of no use for comparison" if cpus.shared else ""
    return {
        "date": datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit.stdout.strip() or "unknown",
        "cpu": (name[1] if name else platform.machine()) + shared,
        "cpus": str(os.cpu_count()),
        "memory": f"{int(memory[1]) // 1_000_000} GB" if memory else "unknown",
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f} processes wanted a CPU on average in the minute before",
    }
