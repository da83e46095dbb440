"""
ModelInfer over gRPC, Solera beside KServe, MLServer and a bare grpc.aio: ``make bench-grpc``.

As bench-server does it: all servers of a model are started and checked, then stopped by SIGSTOP, and only the
one that is measured runs. The generator is h2load, which sends the same message again and again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from serving_bench import h2load, machine, models, server_report
from serving_bench.bench_server import EXTENTS, names, say
from serving_bench.cases import CASES, CONNECTIONS, Case
from serving_bench.grpc_servers import GRPC_SERVERS, GrpcRunning
from serving_bench.records import Point, Record, Sample, record, write_records
from serving_bench.running import NotCorrect

if TYPE_CHECKING:
    from serving_bench.bench_server import Extent

GRPC_CASES = ("iris", "forest-32")
WARM_SECONDS = 1


class Bench:
    """One run. ``samples`` by (point, server), ``starts`` by (model, server)."""

    def __init__(self, servers: list[str], extent: Extent, cpus: machine.Cpus, build: Path) -> None:
        self._servers, self._extent, self._cpus, self._build = servers, extent, cpus, build
        self._random = random.Random(4)
        self._versions = {name: GRPC_SERVERS[name].server.version() for name in servers}
        self.samples: dict[tuple[Point, str], list[Sample]] = defaultdict(list)
        self.starts: dict[tuple[str, str], float] = {}
        self.failures: list[str] = []

    def records(self, cases: list[Case]) -> list[Record]:
        return [
            record(
                point, name, self._versions[name], self.samples[point, name], self.starts[case.model, name]
            )
            for case in cases
            for point in (Point(case.name, calls) for calls in CONNECTIONS)
            for name in self._servers
            if self.samples[point, name]
        ]

    def measure(self, case: Case) -> None:
        model = models.model(case.model, self._build)
        running: dict[str, tuple[GrpcRunning, int]] = {}
        try:
            for name in self._servers:
                self._start(name, model, case, running)
            for number in range(self._extent.rounds):
                for calls in CONNECTIONS:
                    order = list(running)
                    self._random.shuffle(order)
                    for name in order:
                        self._sample(number, Point(case.name, calls), case, *running[name])
        finally:
            for one, _ in running.values():
                one.tree.stop()

    def _start(
        self, name: str, model: models.Model, case: Case, running: dict[str, tuple[GrpcRunning, int]]
    ) -> None:
        try:
            one = GrpcRunning(GRPC_SERVERS[name], model, self._build, cpu=self._cpus.server)
        except NotCorrect as error:
            self._fail(f"{name}, {case.name}: {error}")
            return
        try:
            size = one.answer_bytes(case.rows)
        except NotCorrect as error:
            self._fail(f"{name}, {case.name}: {error}")
            one.tree.stop()
            return
        self.starts[model.name, name] = one.cold_start
        running[name] = one, size
        version = self._versions[name]
        say(f"{case.name:9} {name:9} {version:8} answers correctly; started in {one.cold_start:.2f} s")
        one.tree.freeze()

    def _sample(self, number: int, point: Point, case: Case, one: GrpcRunning, size: int) -> None:
        asked, calls, seconds = one.message(case.rows), point.connections, self._extent.seconds
        cpu, folder = self._cpus.generator, self._build / "h2load"
        one.tree.thaw()
        try:
            h2load.load(one.address, asked, size, calls, WARM_SECONDS, cpu=cpu, folder=folder)
            before = one.tree.cpu_seconds()
            load = h2load.load(one.address, asked, size, calls, seconds, cpu=cpu, folder=folder)
            used = one.tree.cpu_seconds() - before
            name = one.one.server.name
            self.samples[point, name].append(Sample(load, used, one.tree.memory_mb()))
        finally:
            one.tree.freeze()
        say(
            f"  round {number + 1} {case.name:9} {calls:3} {name:9} {load.throughput:9.0f}/s  p50 {load.p50_ms:8.2f} ms  "
            f"p99 {load.p99_ms:8.2f} ms  CPU {used / load.seconds:4.0%}, generator's {load.generator_cpu:4.0%}"
        )

    def _fail(self, words: str) -> None:
        self.failures.append(words)
        say(f"FAILED {words}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extent", choices=list(EXTENTS), default="full", help="how much (%(default)s)")
    parser.add_argument("--cases", default="", help="names, comma-separated (all)")
    parser.add_argument("--servers", default="", help="names, comma-separated (all)")
    parser.add_argument("--build", type=Path, default=machine.BUILD, help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=machine.ROOT / "build" / "bench-grpc.json")
    options = parser.parse_args()
    h2load.require_h2load()
    cpus = machine.take_cpus()
    facts = machine.facts(cpus)
    extent = EXTENTS[options.extent]
    known = {case.name: case for case in CASES if case.name in GRPC_CASES}
    cases = [known[name] for name in names(options.cases, list(known), "CASES")]
    begin = time.monotonic()
    bench = Bench(
        names(options.servers, list(GRPC_SERVERS), "SERVERS"), extent, cpus, options.build.resolve()
    )
    for case in cases:
        bench.measure(case)
        write_records(options.out, bench.records(cases))
    found = bench.records(cases)
    facts["minutes"] = f"{(time.monotonic() - begin) / 60:.0f}"
    facts["extent"] = f"{extent.rounds} rounds of {extent.seconds} s"
    facts["generator"] = f"{h2load.version()}, 1 thread"
    shares = [sample.load.generator_cpu for samples in bench.samples.values() for sample in samples]
    facts["generator's CPU"] = f"median {statistics.median(shares):.0%}, at most {max(shares):.0%}"
    options.out.with_name(f"{options.out.stem}-run.json").write_text(json.dumps(facts, indent=1))
    say("\n" + server_report.tables(found, "call"))
    say(f"records: {os.path.relpath(options.out)}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
