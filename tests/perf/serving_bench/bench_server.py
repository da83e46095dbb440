"""
Solera beside the other servers of scikit-learn models: ``make bench-server``.

For each model all servers are started, one after the other, each timed to its first correct answer, and then
stopped by SIGSTOP. A round measures every server at every point (case and number of connections), in an order
that is shuffled anew; only the one that is measured runs. Medians over the rounds go to the records.
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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from serving_bench import machine, models, wrk
from serving_bench.cases import CASES, CONNECTIONS, Case, bodies
from serving_bench.records import Point, Record, Sample, record, write_records
from serving_bench.running import NotCorrect, Running
from serving_bench.servers import SERVERS, V1

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_SECONDS = 0.3
CHECKED = 16


@dataclass(frozen=True)
class Extent:
    """How much is measured: rounds over all servers, seconds of load for each sample, starts for each server."""

    rounds: int
    seconds: int
    starts: int


EXTENTS = {"full": Extent(5, 2, 3), "short": Extent(3, 2, 2), "quick": Extent(1, 1, 1)}


@dataclass(frozen=True)
class Plan:
    """``build`` is where models and run files go."""

    cases: list[Case]
    servers: list[str]
    connections: tuple[int, ...]
    extent: Extent
    build: Path


class Bench:
    """One run. ``samples`` by (point, server), ``starts`` by (model, server)."""

    def __init__(self, plan: Plan, cpus: machine.Cpus) -> None:
        self._plan = plan
        self._cpus = cpus
        self._random = random.Random(4)
        self._versions = {name: SERVERS[name].version() for name in plan.servers}
        self.samples: dict[tuple[Point, str], list[Sample]] = defaultdict(list)
        self.starts: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.failures: list[str] = []

    def run(self, save: Callable[[list[Record]], None]) -> list[Record]:
        """Measure everything; ``save`` gets all records so far after each model."""
        for name in dict.fromkeys(case.model for case in self._plan.cases):
            self._measure_model(models.model(name, self._plan.build))
            save(self.records())
        return self.records()

    def records(self) -> list[Record]:
        """The medians so far, in the order of cases, connections and servers."""
        found: list[Record] = []
        case_order, servers = [case.name for case in self._plan.cases], list(SERVERS)
        for (point, server), samples in self.samples.items():
            model = next(case.model for case in self._plan.cases if case.name == point.case)
            cold_start = statistics.median(self.starts[model, server])
            found.append(record(point, server, self._versions[server], samples, cold_start))
        return sorted(
            found, key=lambda one: (case_order.index(one.case), one.connections, servers.index(one.server))
        )

    def _measure_model(self, model: models.Model) -> None:
        cases = [case for case in self._plan.cases if case.model == model.name]
        running: dict[str, Running] = {}
        try:
            for name in self._plan.servers:
                self._start(name, model, cases, running)
            points = [Point(case.name, count) for case in cases for count in self._plan.connections]
            by_name = {case.name: case for case in cases}
            for number in range(self._plan.extent.rounds):
                for point in points:
                    order = list(running)
                    self._random.shuffle(order)
                    for name in order:
                        case = by_name[point.case]
                        if case.protocol == "best" or name in V1:
                            self._sample(number, point, case, running[name])
        finally:
            for one in running.values():
                one.tree.stop()

    def _start(self, name: str, model: models.Model, cases: list[Case], running: dict[str, Running]) -> None:
        """Start it as often as wanted, keep the last one, frozen, once it answers every case correctly."""
        times = self.starts[model.name, name]
        try:
            while len(times) < self._plan.extent.starts:
                if name in running:
                    running.pop(name).tree.stop()
                running[name] = Running(SERVERS[name], model, self._plan.build, cpu=self._cpus.server)
                times.append(running[name].cold_start)
            one = running[name]
            for case in cases:
                if case.protocol == "best" or name in V1:
                    path, form = one.where(case)
                    one.check(path, bodies(model, form, case.rows)[:CHECKED])
        except NotCorrect as error:
            self.failures.append(f"{name}, {model.name}: {error}")
            say(f"FAILED {self.failures[-1]}")
            if name in running:
                running.pop(name).tree.stop()
            return
        say(
            f"{model.name:9} {name:13} {self._versions[name]:8} answers correctly; started in {min(times):.2f} s"
        )
        one.tree.freeze()

    def _sample(self, number: int, point: Point, case: Case, one: Running) -> None:
        path, form = one.where(case)
        asked = [body for body, _ in bodies(one.model, form, case.rows)]
        url, folder = f"http://127.0.0.1:{one.port}{path}", self._plan.build / "wrk"
        one.tree.thaw()
        try:
            one.exercise(path, asked, WARM_SECONDS)
            before = one.tree.cpu_seconds()
            seconds, cpu = self._plan.extent.seconds, self._cpus.generator
            load = wrk.load(url, asked, point.connections, seconds, cpu=cpu, folder=folder)
            used = one.tree.cpu_seconds() - before
            if load.errors:
                counts = wrk.census(url, asked, point.connections, folder=folder)
                say(f"  {point} {one.server.name}: {load.errors} errors; in a second more: {counts}")
            self.samples[point, one.server.name].append(Sample(load, used, one.tree.memory_mb()))
        finally:
            one.tree.freeze()
        say(
            f"  round {number + 1} {case.name:9} {point.connections:3} {one.server.name:13}"
            f"{load.throughput:9.0f}/s  p50 {load.p50_ms:8.2f} ms  p99 {load.p99_ms:8.2f} ms  "
            f"CPU {used / load.seconds:4.0%}, generator's {load.generator_cpu:4.0%}"
        )


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def plan(options: argparse.Namespace) -> Plan:
    known = {case.name: case for case in CASES}
    cases = [known[name] for name in names(options.cases, list(known), "CASES")]
    servers = names(options.servers, list(SERVERS), "SERVERS")
    connections = tuple(int(count) for count in options.connections.split(","))
    return Plan(cases, servers, connections, EXTENTS[options.extent], options.build.resolve())


def names(text: str, known: list[str], option: str) -> list[str]:
    """Return the names that ``text`` lists, or all; exits with the known ones at a wrong one."""
    wanted = [name for name in text.replace(",", " ").split() if name]
    for name in wanted:
        if name not in known:
            sys.exit(f'{option}: there is no "{name}"; there are {", ".join(known)}.')
    return wanted or known


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--extent", choices=list(EXTENTS), default="full", help="how much (%(default)s)")
    made.add_argument("--cases", default="", help="names, comma-separated (all)")
    made.add_argument("--servers", default="", help="names, comma-separated (all)")
    made.add_argument("--connections", default=",".join(map(str, CONNECTIONS)), help="(%(default)s)")
    made.add_argument("--build", type=Path, default=machine.BUILD, help="(%(default)s)")
    made.add_argument("--out", type=Path, default=machine.ROOT / "build" / "bench-server.json")
    return made


def main() -> int:
    options = parser().parse_args()
    wrk.require_wrk()
    cpus = machine.take_cpus()
    facts = machine.facts(cpus)
    chosen = plan(options)
    begin = time.monotonic()
    bench = Bench(chosen, cpus)
    found = bench.run(lambda records: write_records(options.out, records))
    facts["minutes"] = f"{(time.monotonic() - begin) / 60:.0f}"
    facts["extent"] = (
        f"{chosen.extent.rounds} rounds of {chosen.extent.seconds} s, {chosen.extent.starts} starts"
    )
    facts["generator"] = f"{wrk.version()}, 1 thread"
    busiest = max(
        (sample.load.generator_cpu, f"{point}, {name}")
        for (point, name), samples in bench.samples.items()
        for sample in samples
    )
    facts["generator's CPU"] = f"at most {busiest[0]:.0%} ({busiest[1]})"
    facts["scikit-learn"] = models.sklearn.__version__
    options.out.with_name(f"{options.out.stem}-run.json").write_text(json.dumps(facts, indent=1))
    from serving_bench import server_report

    say("\n" + server_report.text(found))
    say(f"records: {os.path.relpath(options.out)}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
