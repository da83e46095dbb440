"""The load generator wrk: closed loop, keep-alive, bodies in turn from a file; latencies in microseconds."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Requests are formatted before the run starts: each costs the generator a table look-up only.
SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local formatted, count, turn = {}, 0, 0
local by_status = {}

function init(args)
  for body in io.lines(args[1]) do
    count = count + 1
    formatted[count] = wrk.format(nil, nil, nil, body)
  end
end

function request()
  turn = turn % count + 1
  return formatted[turn]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests":%d,"microseconds":%d,"p50":%.1f,"p99":%.1f,"status":%d,"connect":%d,' ..
    '"read":%d,"write":%d,"timeout":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect, errors.read, errors.write, errors.timeout))
end
"""
# A census makes wrk hand every answer to Lua, which costs: only after errors have been seen.
CENSUS = """
function response(status)
  if status ~= 200 then io.write("STATUS " .. status .. "\\n") end
end
"""


@dataclass(frozen=True)
class Load:
    """A measured run. Times in milliseconds; ``errors`` counts answers that are not 2xx and broken connections."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int
    statuses: int
    generator_cpu: float = 0.0
    """Share of its CPU that the generator took: near 1 it was the bottleneck."""

    @property
    def throughput(self) -> float:
        """Good answers a second."""
        return max(0, self.requests - self.statuses) / self.seconds


def require_wrk() -> None:
    """
    Make sure that wrk is there, by apt-get where that works.

    Raises RuntimeError.
    """
    if shutil.which("wrk") is None:
        install = ["apt-get", "install", "-qy", "wrk"]
        if shutil.which("apt-get") is None or subprocess.run(install, check=False).returncode:
            raise RuntimeError("wrk is missing: install the package wrk of your distribution.")


def version() -> str:
    """Its first line about itself, such as "wrk debian/4.1.0"."""
    told = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout
    return " ".join(told.split()[:2])


def load(
    url: str, bodies: Sequence[bytes], connections: int, seconds: int, *, cpu: int | None, folder: Path
) -> Load:
    """Send ``bodies`` in turn over ``connections`` for whole ``seconds`` and return what came of it."""
    before = _children_seconds()
    output = _run(SCRIPT, url, bodies, connections, seconds, cpu=cpu, folder=folder)
    used = _children_seconds() - before
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    result = json.loads(line.removeprefix("RESULT ").replace("nan", "0"))
    broken = sum(result[kind] for kind in ("connect", "read", "write", "timeout"))
    return Load(
        result["requests"],
        result["microseconds"] / 1e6,
        result["p50"] / 1000,
        result["p99"] / 1000,
        broken + result["status"],
        result["status"],
        used * 1e6 / result["microseconds"],
    )


def census(url: str, bodies: Sequence[bytes], connections: int, *, folder: Path) -> dict[str, int]:
    """Return how often each status other than 200 came in a second of load."""
    output = _run(SCRIPT + CENSUS, url, bodies, connections, 1, cpu=None, folder=folder)
    counts: dict[str, int] = {}
    for line in output.splitlines():
        if line.startswith("STATUS "):
            counts[line[7:]] = counts.get(line[7:], 0) + 1
    return counts


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(
    script: str,
    url: str,
    bodies: Sequence[bytes],
    connections: int,
    seconds: int,
    *,
    cpu: int | None,
    folder: Path,
) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    lua, lines = folder / "load.lua", folder / "bodies"
    lua.write_text(script, encoding="utf-8")
    lines.write_bytes(b"\n".join(bodies) + b"\n")
    pinned = ["taskset", "-c", str(cpu)] if cpu is not None else []
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(lua)]
    done = subprocess.run(
        [*pinned, "wrk", *options, url, "--", str(lines)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"wrk ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}")
    return done.stdout
