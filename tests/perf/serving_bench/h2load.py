"""
The load generator h2load for gRPC: closed loop, the same message again and again, latencies in microseconds.

It knows nothing of gRPC: a call is a POST whose body is the message behind five bytes of its length, and whose
answer has the status 200 in any case. A call that failed has no message, so the bytes of all answers are counted.
"""

from __future__ import annotations

import re
import resource
import shutil
import statistics
import subprocess
from typing import TYPE_CHECKING

from serving_bench.wrk import Load

if TYPE_CHECKING:
    from pathlib import Path

CALLS_OF_A_CONNECTION = 16
"""At most so many at a time: 64 calls at once come over four connections."""
PREFIX = 5
"""Bytes of gRPC before each message: whether it is compressed, and its length."""


def require_h2load() -> None:
    """
    Make sure that h2load is there, by apt-get where that works.

    Raises RuntimeError.
    """
    if shutil.which("h2load") is None:
        install = ["apt-get", "install", "-qy", "--no-install-recommends", "nghttp2-client"]
        if shutil.which("apt-get") is None or subprocess.run(install, check=False).returncode:
            raise RuntimeError("h2load is missing: install nghttp2 (Debian: nghttp2-client).")


def version() -> str:
    told = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=False).stdout
    return told.strip()


def load(
    address: str,
    message: bytes,
    answer_bytes: int,
    calls: int,
    seconds: int,
    *,
    cpu: int | None,
    folder: Path,
) -> Load:
    """Send ``message`` with ``calls`` under way at a time; answers have ``answer_bytes`` each."""
    folder.mkdir(parents=True, exist_ok=True)
    body, log = folder / "message", folder / "calls.log"
    body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    log.unlink(missing_ok=True)
    connections = -(-calls // CALLS_OF_A_CONNECTION)
    pinned = ["taskset", "-c", str(cpu)] if cpu is not None else []
    options = [f"-c{connections}", f"-m{calls // connections}", f"-D{seconds}", f"--log-file={log}"]
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    url = f"http://{address}/inference.GRPCInferenceService/ModelInfer"
    before = _children_seconds()
    done = subprocess.run(
        [*pinned, "h2load", *options, *headers, "-d", str(body), url],
        capture_output=True,
        text=True,
        check=False,
    )
    used = _children_seconds() - before
    if done.returncode:
        raise RuntimeError(f"h2load ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}")
    lines = log.read_text(encoding="ascii")
    size = answer_bytes + PREFIX
    return result(done.stdout, lines, size=size, calls=calls, seconds=seconds, generator=used / seconds)


def result(told: str, log: str, *, size: int, calls: int, seconds: int, generator: float) -> Load:
    """
    Judge a run by what h2load said and the lines of its log: begin, status, microseconds.

    ``size`` is that of a good answer, ``calls`` were under way when it ended.
    """
    rows = [line.split("\t") for line in log.splitlines()]
    times = [int(row[2]) / 1000 for row in rows if row[1] == "200"]
    found = re.search(r"\((\d+)\) data", told)
    answers = int(found[1]) // size if found else 0
    # What was under way at the end may have brought its message and not its end, or neither.
    good = len(times) if abs(answers - len(times)) <= calls else min(answers, len(times))
    percentiles = statistics.quantiles(times, n=100) if len(times) > 1 else [0.0] * 99
    wrong = len(rows) - good
    return Load(len(rows), float(seconds), percentiles[49], percentiles[98], wrong, wrong, generator)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
