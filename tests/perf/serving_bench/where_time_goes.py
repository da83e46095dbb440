"""
Where the server's time goes, for a case under load: ``make bench-profile CASES=iris CONNECTIONS=64``.

The server runs under cProfile, which makes functions of Python look dearer than they are, and says nothing of the
kernel: good for a ranking, not for figures.
"""

from __future__ import annotations

import argparse
import pstats
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from serving_bench import machine, models, wrk
from serving_bench.bench_server import say
from serving_bench.cases import CASES, bodies
from serving_bench.running import Running
from serving_bench.servers import SERVERS

if TYPE_CHECKING:
    from serving_bench.servers import Start

SECONDS = 4
SHOWN = 25


def main() -> int:
    known = {case.name: case for case in CASES}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=list(known), default="iris")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--build", type=Path, default=machine.BUILD)
    options = parser.parse_args()
    wrk.require_wrk()
    cpus, case, build = machine.take_cpus(), known[options.case], options.build.resolve()
    stats = build / "profile.out"
    stats.unlink(missing_ok=True)

    def profiled(python: Path, start: Start) -> list[str]:
        executable, *arguments = SERVERS["solera"].command(python, start)
        return [executable, "-m", "cProfile", "-o", str(stats), *arguments]

    server = replace(SERVERS["solera"], command=profiled)
    one = Running(server, models.model(case.model, build), build, cpu=cpus.server)
    try:
        path, form = one.where(case)
        asked = [body for body, _ in bodies(one.model, form, case.rows)]
        url = f"http://127.0.0.1:{one.port}{path}"
        load = wrk.load(url, asked, options.connections, SECONDS, cpu=cpus.generator, folder=build / "wrk")
        for pid in one.tree.pids():
            subprocess.run(["kill", f"-{signal.SIGINT.value}", str(pid)], check=False)
        one.tree.wait(20)
    finally:
        one.tree.stop()
    say(f"{case.title}, {options.connections} connections: {load.requests} requests under the profiler")
    say(table(stats, load.requests))
    return 0


def table(stats: Path, requests: int) -> str:
    """The functions with the most time of their own, in microseconds a request, those of the load only."""
    lines = ["us/request  calls/request  function"]
    entries = pstats.Stats(str(stats)).stats
    often = [
        (own, calls, where) for where, (_, calls, own, _, _) in entries.items() if calls > requests / 100
    ]
    for own, calls, (file, line, function) in sorted(often, reverse=True)[:SHOWN]:
        place = f"{Path(file).name}:{line} " if line else ""
        lines.append(f"{own / requests * 1e6:10.1f}  {calls / requests:13.2f}  {place}{function}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
