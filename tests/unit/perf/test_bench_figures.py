"""Figures of the benchmarks, from plain values: records, verdicts, recovery, growth, charts, the page."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_bench import overload_chart, server_chart, server_report, soak_chart
from serving_bench.bench_overload import EXTENTS, Trial, summary
from serving_bench.open_loop import Outcome, Phase, quantile, schedule
from serving_bench.overload_figures import Window, goodput, recovered_s, refusal_p99_ms
from serving_bench.page import replaced
from serving_bench.records import Point, Record, Sample, read_records, record, write_records
from serving_bench.soak import Reading, growth_mb
from serving_bench.svg import Axis
from serving_bench.wrk import Load

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {
    "case", "connections", "server", "version", "throughput", "p50_ms", "p99_ms", "cpu_ms_per_request",
    "rss_mb", "cold_start_s", "errors",
}  # fmt: skip


def one(server: str, throughput: float, case: str = "iris", connections: int = 16) -> Record:
    return Record(case, connections, server, "1", throughput, 1.0, 2.0, 0.1, 50.0, 0.5, 0)


def test_records_hold_medians_the_sum_of_errors_and_exactly_the_agreed_keys(tmp_path: Path) -> None:
    samples = [
        Sample(Load(requests, 2.0, p50, 9.0, errors, errors), requests * 0.001, memory)
        for requests, p50, errors, memory in ((100, 1.0, 0, 10.0), (300, 3.0, 2, 30.0), (200, 2.0, 1, 20.0))
    ]
    made = record(Point("iris", 16), "solera", "0.1", samples, 0.25)
    write_records(tmp_path / "build" / "records.json", [made])
    (written,) = json.loads((tmp_path / "build" / "records.json").read_text())
    assert set(written) == KEYS
    assert written["throughput"] == 99.5
    assert (written["p50_ms"], written["cpu_ms_per_request"], written["rss_mb"]) == (2.0, 1.0, 20.0)
    assert written["errors"] == 3
    assert read_records(tmp_path / "build" / "records.json") == [made]


def test_verdicts_compare_with_the_best_peer_and_never_with_the_floor() -> None:
    found = [one("solera", 30_000), one("solera-fixed", 60_000), one("bare", 90_000)]
    found += [one("kserve", 500), one("floor", 9_000)]
    (row,) = server_report.verdicts(found)
    assert row[1:6] == ("60.0x (40x)", "kserve", "180x", "120x", "50% (60%) missed")
    (row,) = server_report.verdicts([*found, one("fastapi", 1_000)])
    assert row[1:3] == ("30.0x (40x) missed", "fastapi")


def test_tables_and_chart_take_a_server_that_failed() -> None:
    found = [one("solera", 30_000), one("kserve", 500), one("solera", 3, "mixed")]
    assert "Iris" in server_report.text(found)
    assert "failed" in server_chart.draw(found)
    ET.fromstring(server_chart.draw(found))  # noqa: S314 - our own text


def calm(start: float) -> Window:
    return Window(start, good=5, bad=0, p90_ms=10)


def test_recovery_is_the_first_of_several_normal_windows() -> None:
    late = [replace(calm(number / 10), p90_ms=90 if number < 3 else 10) for number in range(10)]
    assert recovered_s(late, normal=20) == pytest.approx(0.3)
    relapse = [replace(window, bad=1) if window.start == 0.5 else window for window in late]
    assert recovered_s(relapse, normal=20) == math.inf
    assert recovered_s([calm(number / 10) for number in range(5)], normal=20) == 0


def test_answers_count_for_the_time_in_which_they_came() -> None:
    asked = [(0.9, 0.05), (0.9, 0.2), (1.5, 0.1), (2.9, 0.05), (2.9, 0.2)]
    outcomes = [Outcome(0, due, due, latency, 200) for due, latency in asked]
    outcomes.append(Outcome(0, 1.5, 1.5, 0.1, 503))
    assert goodput(outcomes, 1.0, 2.0) == 1.5


def test_refusals_are_429_and_503_only() -> None:
    outcomes = [Outcome(0, 0, 0, 0.010, 503), Outcome(0, 0, 0, 0.030, 429), Outcome(0, 0, 0, 9.0, 200)]
    assert refusal_p99_ms(outcomes) == 30
    assert refusal_p99_ms(outcomes[2:]) == 0


def test_the_summary_takes_the_worst_model_and_stays_json() -> None:
    base = Trial("a", 2.0, 100, 0.95, 5, 0.2, {"200": 9}, 0, 1, 0.1, [calm(0.0)])
    trials = [base, replace(base, subject="b", goodput_ratio=0.9, reject_p99_ms=1, recovered_s=math.inf)]
    (made,) = summary(trials, EXTENTS["full"])
    assert made == {"offered_ratio": 2.0, "goodput_ratio": 0.9, "reject_p99_ms": 5, "recovered_s": 3.0}
    json.dumps(made, allow_nan=False)


@given(st.floats(20, 400), st.floats(0.5, 3))
def test_arrivals_are_ordered_within_their_phases_and_about_as_many_as_planned(
    rate: float, seconds: float
) -> None:
    made = schedule([Phase(rate, seconds), Phase(2 * rate, seconds)])
    dues = [outcome.due for outcome in made]
    assert dues == sorted(dues)
    for number in (0, 1):
        inside = [outcome.due for outcome in made if outcome.phase == number]
        assert all(number * seconds <= due < (number + 1) * seconds for due in inside)
        expected = rate * (number + 1) * seconds
        assert abs(len(inside) - expected) < 6 * math.sqrt(expected) + 1


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_a_quantile_is_one_of_the_values_and_grows(values: list[float]) -> None:
    ordered = sorted(values)
    assert quantile(ordered, 0.5) in ordered
    assert quantile(ordered, 0.5) <= quantile(ordered, 0.99) <= ordered[-1]


def test_growth_leaves_the_warm_up_out() -> None:
    steady = [Reading(number, number, 10.0 + min(number, 3), 0) for number in range(20)]
    assert growth_mb(steady) == 0
    leaking = [Reading(number, number, 10.0 + number, 0) for number in range(20)]
    assert growth_mb(leaking) == 10


def test_charts_are_xml() -> None:
    readings = [{"requests": number * 100, "rss_mb": 50 + number} for number in range(5)]
    ET.fromstring(soak_chart.draw({"readings": readings}))  # noqa: S314 - our own text
    trial = {
        "subject": "a & b", "ratio": 2.0, "goodput_ratio": 0.9, "reject_p99_ms": 3.0,
        "timeline": [{"start": 0.0, "good": 3, "bad": 0, "p90_ms": 4.0}],
    }  # fmt: skip
    ET.fromstring(overload_chart.draw({"trials": [trial, trial | {"ratio": 10.0}]}))  # noqa: S314 - our own chart


def test_an_axis_keeps_within_its_ends() -> None:
    axis = Axis(1, 100, 0, 200, log=True)
    assert [axis(value) for value in (0.1, 1, 10, 100, 1e9)] == pytest.approx([0, 0, 100, 200, 200])


def test_the_page_changes_between_its_marks_only() -> None:
    page = "before <!-- x -->old<!-- /x --> after"
    changed = replaced(page, "x", "new\n")
    assert changed == "before <!-- x -->\nnew\n<!-- /x --> after"
    assert replaced(changed, "x", "new") == changed
    with pytest.raises(ValueError, match="no place <!-- y -->"):
        replaced(page, "y", "new")
