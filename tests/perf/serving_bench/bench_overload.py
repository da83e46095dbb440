"""
More requests than the server can answer: ``make bench-overload``.

For each model and each ratio: the capacity is measured in a closed loop, then open-loop load at half of it, at
the ratio, and at half of it again, and then the capacity once more: goodput is compared with the mean of both, as the
machine's speed drifts. Repeated in rounds; medians over them. The records have, at each ratio, the worst of the models.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving_bench import machine, models, wrk
from serving_bench import overload_figures as figures
from serving_bench.bench_server import say
from serving_bench.cases import bodies, v2_plain_body
from serving_bench.open_loop import Phase, play
from serving_bench.running import Running
from serving_bench.servers import SERVERS, V2_PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

RATIOS = (0.5, 1.0, 2.0, 5.0, 10.0)
DEADLINE = 1.0
"""Seconds in which an answer is good: twice the server's default --max-wait."""
CONNECTIONS = (16, 64)
"""For the capacity: more let a compiled model merge more; on a slow one 64 are refused, and the refusals cost."""
CAPACITY_SECONDS = 3
TRIES = 3
"""By so many measurements of each number of connections one is chosen, for all trials."""


@dataclass(frozen=True)
class Subject:
    """A model and the rows of a request: of moderate capacity, so that ten times as much can be generated."""

    model: str
    rows: int
    title: str


SUBJECTS = (
    Subject("neighbours", 1, "nearest neighbours among 80,000, 1 row"),
    Subject("splines", 1, "splines and logistic regression, 1 row"),
)


@dataclass(frozen=True)
class Extent:
    """Rounds, and seconds of the three phases."""

    rounds: int
    before: float
    load: float
    after: float


EXTENTS = {
    "full": Extent(3, 2.0, 6.0, 3.0),
    "short": Extent(2, 1.5, 4.0, 2.5),
    "quick": Extent(1, 1.0, 2.0, 2.0),
}


@dataclass(frozen=True)
class Trial:
    """One model at one ratio in one round. Rates in requests a second; ``recovered_s`` infinite if it never did."""

    subject: str
    ratio: float
    capacity: float
    goodput_ratio: float
    reject_p99_ms: float
    recovered_s: float
    counts: dict[str, int]
    broken_elsewhere: int
    lag_p99_ms: float
    generator_cpu: float
    timeline: list[figures.Window]


class Overload:
    def __init__(self, subject: Subject, extent: Extent, build: Path, cpus: machine.Cpus) -> None:
        self._extent = extent
        self._build = build
        self._cpus = cpus
        model = models.model(subject.model, build)
        asked = bodies(model, v2_plain_body, subject.rows)
        self._bodies = [body for body, _ in asked]
        self.running = Running(SERVERS["solera"], model, build, cpu=cpus.server)
        kind = re.search(r'"predictor":\s*"([^"]+)"', self.running.tree.output())
        self.title = f"{subject.title} ({kind[1] if kind else 'unknown'})"
        found = {count: [self._capacity(count) for _ in range(TRIES)] for count in CONNECTIONS}
        self._connections = max(CONNECTIONS, key=lambda count: statistics.median(found[count]))

    def _capacity(self, connections: int) -> float:
        """Good answers a second to clients that wait for each answer."""
        url = f"http://127.0.0.1:{self.running.port}{V2_PATH}"
        cpu, folder = self._cpus.generator, self._build / "wrk"
        return wrk.load(url, self._bodies, connections, CAPACITY_SECONDS, cpu=cpu, folder=folder).throughput

    def trial(self, ratio: float) -> Trial:
        extent, before = self._extent, self._capacity(self._connections)
        phases = [
            Phase(before / 2, extent.before),
            Phase(before * ratio, extent.load),
            Phase(before / 2, extent.after),
        ]
        played = play(self.running.port, V2_PATH, self._bodies, phases, deadline=DEADLINE)
        capacity = statistics.mean((before, self._capacity(self._connections)))
        by_phase = [[one for one in played.outcomes if one.phase == number] for number in range(3)]
        fall = extent.before + extent.load
        after = figures.windows(by_phase[2], fall, fall + extent.after)
        around = figures.windows(played.outcomes, fall - 1, fall + extent.after)
        others = figures.counts([*by_phase[0], *by_phase[2]])
        return Trial(
            subject=self.title,
            ratio=ratio,
            capacity=capacity,
            goodput_ratio=figures.goodput(played.outcomes, extent.before, extent.load) / capacity,
            reject_p99_ms=figures.refusal_p99_ms(by_phase[1]),
            recovered_s=figures.recovered_s(after, figures.normal_ms(by_phase[0])),
            counts=figures.counts(by_phase[1]),
            broken_elsewhere=sum(count for name, count in others.items() if name != "200"),
            lag_p99_ms=played.lag_p99 * 1000,
            generator_cpu=played.cpu_share,
            timeline=around,
        )


def summary(trials: Sequence[Trial], extent: Extent) -> list[dict[str, float]]:
    """The records: medians over the rounds, then the worst of the models."""
    made = []
    for ratio in sorted({trial.ratio for trial in trials}):
        by_model: dict[str, list[Trial]] = {}
        for trial in trials:
            if trial.ratio == ratio:
                by_model.setdefault(trial.subject, []).append(trial)
        worst = [_medians(group, extent) for group in by_model.values()]
        made.append(
            {
                "offered_ratio": ratio,
                "goodput_ratio": round(min(one[0] for one in worst), 3),
                "reject_p99_ms": round(max(one[1] for one in worst), 2),
                "recovered_s": round(max(one[2] for one in worst), 2),
            }
        )
    return made


def _medians(trials: Sequence[Trial], extent: Extent) -> tuple[float, float, float]:
    recovered = statistics.median(trial.recovered_s for trial in trials)
    return (
        statistics.median(trial.goodput_ratio for trial in trials),
        statistics.median(trial.reject_p99_ms for trial in trials),
        # JSON has no infinity: what did not recover while it was watched gets all of that time.
        extent.after if math.isinf(recovered) else recovered,
    )


def _run(subjects: Sequence[Subject], extent: Extent, build: Path, cpus: machine.Cpus) -> list[Trial]:
    trials = []
    for subject in subjects:
        overload = Overload(subject, extent, build, cpus)
        try:
            for number in range(extent.rounds):
                for ratio in RATIOS:
                    trial = overload.trial(ratio)
                    trials.append(trial)
                    say(
                        f"{overload.title}, round {number + 1}: {ratio:4} x {trial.capacity:.0f}/s  goodput "
                        f"{trial.goodput_ratio:.0%}  refusals p99 {trial.reject_p99_ms:.1f} ms  "
                        f"normal after {trial.recovered_s:.1f} s  {trial.counts}  generator: lag p99 "
                        f"{trial.lag_p99_ms:.1f} ms, {trial.generator_cpu:.0%} of its CPU"
                    )
        finally:
            overload.running.tree.stop()
    return trials


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extent", choices=list(EXTENTS), default="full")
    known = [subject.model for subject in SUBJECTS]
    parser.add_argument("--model", choices=known, help="only this one (all)")
    parser.add_argument("--build", type=Path, default=machine.BUILD)
    parser.add_argument("--out", type=Path, default=machine.ROOT / "build" / "bench-overload.json")
    options = parser.parse_args()
    wrk.require_wrk()
    cpus = machine.take_cpus()
    facts: dict[str, Any] = dict(machine.facts(cpus))
    extent, begin = EXTENTS[options.extent], time.monotonic()
    subjects = [subject for subject in SUBJECTS if options.model in (None, subject.model)]
    trials = _run(subjects, extent, options.build.resolve(), cpus)
    records = summary(trials, extent)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    facts["minutes"] = f"{(time.monotonic() - begin) / 60:.0f}"
    facts["extent"] = f"{extent.rounds} rounds; {extent.before}, {extent.load} and {extent.after} s of load"
    details = {
        "facts": facts,
        "trials": [asdict(trial) | {"recovered_s": min(trial.recovered_s, extent.after)} for trial in trials],
    }
    options.out.with_name(f"{options.out.stem}-run.json").write_text(json.dumps(details), encoding="utf-8")
    for record in records:
        say("  ".join(f"{name} {value:g}" for name, value in record.items()))
    say(f"records: {os.path.relpath(options.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
