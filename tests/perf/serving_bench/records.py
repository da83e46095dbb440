"""The records of bench-server.json: one for each case, number of connections and server."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from serving_bench.wrk import Load


@dataclass(frozen=True)
class Point:
    case: str
    connections: int

    def __str__(self) -> str:
        return f"{self.case} at {self.connections}"


@dataclass(frozen=True)
class Sample:
    """One measured run: the load, the CPU seconds of the whole process tree, its memory afterwards in MB."""

    load: Load
    cpu_seconds: float
    memory_mb: float


@dataclass(frozen=True)
class Record:
    """``errors`` is the sum over all rounds; everything else a median. Throughput is good answers a second."""

    case: str
    connections: int
    server: str
    version: str
    throughput: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_request: float
    rss_mb: float
    cold_start_s: float
    errors: int


def record(point: Point, server: str, version: str, samples: Sequence[Sample], cold_start_s: float) -> Record:
    median = statistics.median
    return Record(
        case=point.case,
        connections=point.connections,
        server=server,
        version=version,
        throughput=round(median(sample.load.throughput for sample in samples), 1),
        p50_ms=round(median(sample.load.p50_ms for sample in samples), 4),
        p99_ms=round(median(sample.load.p99_ms for sample in samples), 4),
        cpu_ms_per_request=round(
            median(sample.cpu_seconds * 1000 / max(1, sample.load.requests) for sample in samples), 4
        ),
        rss_mb=round(median(sample.memory_mb for sample in samples), 1),
        cold_start_s=round(cold_start_s, 3),
        errors=sum(sample.load.errors for sample in samples),
    )


def write_records(path: Path, records: Sequence[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(one) for one in records], indent=1) + "\n", encoding="utf-8")


def read_records(path: Path) -> list[Record]:
    return [Record(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
