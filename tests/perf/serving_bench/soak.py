"""
A million requests to one server, and its memory meanwhile: ``make bench-soak``.

The load changes model-port connections as clients do: each stretch of load opens its connections anew, with one,
16 and 64 of them in turn, and some of the requests are refused on purpose, since errors must not leak either.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from serving_bench import machine, models, wrk
from serving_bench.bench_server import say
from serving_bench.cases import bodies
from serving_bench.running import Running
from serving_bench.servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Sequence

STRETCH_SECONDS = 2
CONNECTIONS = (64, 16, 1)
WRONG = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[1,2,"three",4]}]}'
GROWTH_MB = 2.0
"""What the second half may have more than the first, in MB, and still count as steady."""


@dataclass(frozen=True)
class Reading:
    """Memory of the process tree after so many requests."""

    requests: int
    seconds: float
    rss_mb: float
    refused: int


def growth_mb(readings: Sequence[Reading]) -> float:
    """Median memory of the last quarter less that of the second one: the first is warming up."""
    quarter = max(1, len(readings) // 4)
    early = [one.rss_mb for one in readings[quarter : 2 * quarter]] or [readings[0].rss_mb]
    late = [one.rss_mb for one in readings[-quarter:]]
    return statistics.median(late) - statistics.median(early)


def soak(total: int, build: Path, cpus: machine.Cpus, model_name: str) -> list[Reading]:
    model = models.model(model_name, build)
    one = Running(SERVERS["solera"], model, build, cpu=cpus.server)
    try:
        good = [body for body, _ in bodies(model, SERVERS["solera"].body, 1)]
        asked = [*good, *[WRONG] * (len(good) // 50)]
        url = f"http://127.0.0.1:{one.port}{SERVERS['solera'].path}"
        readings = [Reading(0, 0.0, one.tree.memory_mb(), 0)]
        begin = time.monotonic()
        while readings[-1].requests < total:
            connections = CONNECTIONS[len(readings) % len(CONNECTIONS)]
            load = wrk.load(
                url, asked, connections, STRETCH_SECONDS, cpu=cpus.generator, folder=build / "wrk"
            )
            broken = load.errors - load.statuses
            if broken:
                raise RuntimeError(f"{broken} connections broke: {one.tree.output()}")
            last = readings[-1]
            seconds = round(time.monotonic() - begin, 1)
            refused = last.refused + load.statuses
            readings.append(
                Reading(last.requests + load.requests, seconds, round(one.tree.memory_mb(), 2), refused)
            )
            if len(readings) % 10 == 0:
                say(f"{readings[-1].requests:9,} requests  {readings[-1].rss_mb:7.2f} MB  {seconds:.0f} s")
    finally:
        one.tree.stop()
    return readings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--model", default="iris", choices=list(models.SOURCES))
    parser.add_argument("--build", type=Path, default=machine.BUILD)
    parser.add_argument("--out", type=Path, default=machine.ROOT / "build" / "bench-soak.json")
    options = parser.parse_args()
    wrk.require_wrk()
    cpus = machine.take_cpus()
    facts = machine.facts(cpus)
    readings = soak(options.requests, options.build.resolve(), cpus, options.model)
    growth = growth_mb(readings)
    document = {
        "facts": facts,
        "growth_mb": round(growth, 2),
        "readings": [asdict(reading) for reading in readings],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document), encoding="utf-8")
    last = readings[-1]
    say(
        f"{last.requests:,} requests in {last.seconds:.0f} s, {last.refused:,} of them refused as they should be; "
        f"{last.rss_mb:.1f} MB at the end, {growth:+.2f} MB between the second quarter and the last"
    )
    say(f"readings: {os.path.relpath(options.out)}")
    return 0 if growth < GROWTH_MB else 1


if __name__ == "__main__":
    sys.exit(main())
