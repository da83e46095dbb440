"""What one server counts of each request, and in which window."""

from __future__ import annotations

import math

import numpy as np
import orjson
import pytest
from counted_requests import SCHEMA, SECONDS, START, WHAT, Clock, memory, noted, report

from solera_core.baseline import Baseline, Histogram
from solera_core.counters import OutcomeKey, read_report
from solera_core.histogram import NumericBins
from solera_core.ledger import Ledger
from solera_core.schema import Feature, Schema, Target
from solera_core.units import GROUPS
from solera_server import counters as module
from solera_server.counter_report import CounterReport
from solera_server.counters import Counters, counted
from solera_server.subjects import arm_key


def one_window(*items, limit=8192):
    clock = Clock()
    made = memory(clock, limit=limit)
    counters = Counters(made, WHAT)
    for item in items:
        counters.note(item)
    counters.finish()
    return made.read(made.first)


def test_a_request_is_counted_in_its_bins_group_and_bucket():
    unit = (7 << 8) | 42
    window = one_window(
        noted(3, rows=[(0.5, "red"), (math.nan, "grey")], unit=unit, arm=b"a", epoch=b"5", seconds=0.5)
    )
    bins = sum(size for _, size in WHAT.layout.features)
    features = window.features.reshape(GROUPS, bins)
    assert features.sum() == 4
    # x: (-inf, 0), [0, 1), [1, inf], missing; colour: blue, red, others, missing.
    assert features[7].tolist() == [0, 1, 0, 1, 0, 1, 1, 0]
    arm = window.arms["a", 5]
    assert arm["requests"][42] == 1
    assert arm["rows"][42] == 2
    assert arm["slow"].reshape(2, 256)[:, 42].tolist() == [1, 0]
    # predict: no, yes, others, missing; score: below, above, missing. NaN > 0 is false.
    assert arm["predictions"].reshape(GROUPS, 7)[7].tolist() == [1, 1, 0, 0, 1, 1, 0]
    assert window.units.members == {("a", 5): {unit}}


def test_requests_without_a_unit_are_grouped_by_time_and_are_in_no_sample():
    window = one_window(noted(0.5, number=5), noted(SECONDS - 0.5, number=6))
    features = window.features.reshape(GROUPS, -1)
    assert np.flatnonzero(features.sum(axis=1)).tolist() == [0, GROUPS - 1]
    assert window.units.members == {}
    assert window.arms["none", 0]["requests"][[5, 6]].tolist() == [1, 1]


def test_refused_and_failed_requests_count_as_requests_and_errors_only():
    window = one_window(noted(1, status=400, number=1), noted(2, status=503, number=1), noted(3, number=1))
    arm = window.arms["none", 0]
    assert arm["requests"][1] == 3
    assert arm["clientErrors"][1] == 1
    assert arm["serverErrors"][1] == 1
    assert arm["rows"][1] == 1
    assert window.features.sum() == 2


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ((b"blue", b"3", False), ("blue", 3)),
        ((None, None, False), ("none", 0)),
        ((b"blue", None, False), ("none", 0)),
        ((b"blue", b"-1", False), ("none", 0)),
        ((b"Bl\xc3ue", b"1", False), ("none", 0)),
        ((b"a" * 41, b"1", False), ("none", 0)),
        ((b"blue", b"3", True), ("shadow", 3)),
        ((None, None, True), ("shadow", 0)),
    ],
)
def test_arms_are_taken_as_the_route_writes_them(headers, key):
    assert arm_key(headers) == key


def test_arms_beyond_the_places_are_counted_together():
    window = one_window(*(noted(1, arm=b"a", epoch=str(epoch).encode()) for epoch in range(40)))
    assert len(window.arms) == 16
    assert window.arms["~more", 0]["requests"].sum() == 40 - 15


def test_rows_of_a_large_request_are_folded_in_pieces(monkeypatch):
    monkeypatch.setattr(module, "MAX_CELLS", 40)
    clock = Clock()
    made = memory(clock)
    counters = Counters(made, WHAT)
    rows = [(float(index % 3) - 0.5, "red") for index in range(95)]
    assert counters.note(noted(1, rows=rows, unit=9))
    turns = 1
    while counters.fold():
        turns += 1
    assert turns == 10, "ten rows at a time"
    window = made.read(made.first)
    assert window.features.sum() == 2 * 95
    assert window.arms["none", 0]["predictions"].sum() == 2 * 95


def test_what_is_folded_late_counts_in_the_open_window_and_closed_ones_never_change():
    clock = Clock()
    made = memory(clock)
    counters = Counters(made, WHAT)
    reporter = CounterReport(made, "m", "m-v1", "sha256:0")
    counters.note(noted(SECONDS - 1))
    clock.time = SECONDS + 2.5
    before = read_report(orjson.loads(reporter.document())).windows
    assert [(window.sequence, window.closed) for window in before] == [(0, True), (1, False)]
    counters.finish()
    after = read_report(orjson.loads(reporter.document())).windows
    assert not after[0].window.arms
    assert after[1].window.arms["none", 0]["requests"].sum() == 1


def test_only_the_last_closed_windows_are_kept_and_a_reader_may_leave_out_what_it_has():
    clock = Clock()
    made = memory(clock, kept=3)
    counters = Counters(made, WHAT)
    for index in range(10):
        clock.time = index * SECONDS + 30
        counters.note(noted(clock.time, unit=index))
        counters.fold()
    found = report(made).windows
    assert [window.sequence for window in found] == [6, 7, 8, 9]
    assert [window.closed for window in found] == [True, True, True, False]
    for window in found:
        assert window.window.units.members == {("none", 0): {window.sequence}}
    assert [window.sequence for window in report(made, after=7).windows] == [8, 9]


def test_a_process_that_takes_over_goes_on_where_the_one_before_it_stopped():
    clock = Clock()
    made = memory(clock, limit=4)
    for _ in range(2):
        counters = Counters(made, WHAT)
        for unit in range(3):
            counters.note(noted(1, unit=unit, arm=b"a", epoch=b"1"))
        counters.outcome(OutcomeKey("m-v1", "a", 1, 1, 0.0), 3, correct=True)
        counters.finish()
    window = made.read(made.first)
    assert window.arms["a", 1]["requests"].sum() == 6
    assert window.units.members == {("a", 1): {0, 1, 2}}
    assert window.outcomes[OutcomeKey("m-v1", "a", 1, 1, 0.0)]["labels"][3] == 2


def test_the_sample_of_units_is_exact_below_its_threshold():
    generator = np.random.default_rng(5)
    units = [int(unit) for unit in generator.integers(0, 2**64, size=2000, dtype=np.uint64)]
    window = one_window(
        *(noted(1, unit=unit, arm=b"a" if unit % 2 else b"b", epoch=b"1") for unit in units), limit=100
    )
    bound = window.units.threshold
    for parity, arm in ((1, "a"), (0, "b")):
        assert window.units.members[arm, 1] == {u for u in units if u < bound and u % 2 == parity}
    seen = sum(map(len, window.units.members.values()))
    assert seen <= 100 < sum(unit < 2 * bound for unit in units)


def test_the_first_window_is_partial():
    clock = Clock()
    made = memory(clock, began=10.0)
    clock.time = 3 * SECONDS
    assert [window.partial for window in report(made).windows] == [True, False, False, False]


def test_a_missed_window_is_named_as_lost():
    clock = Clock()
    made = memory(clock, kept=2)
    ledger = Ledger()
    for index in (0, 8):
        clock.time = index * SECONDS + 30
        ledger.absorb(report(made))
    assert ledger.total(START + 3 * SECONDS).lost == {"pod-0.0"}
    assert ledger.total(START + 7 * SECONDS).boots == {"pod-0.0"}
    assert ledger.total(START + 8 * SECONDS).waiting == {"pod-0.0"}
    ledger.pod_gone("pod", START + 8 * SECONDS + 40)
    assert ledger.total(START + 8 * SECONDS).lost == {"pod-0.0"}


def test_without_a_baseline_labels_alone_are_counted():
    what = counted(SCHEMA, None, ())
    assert what.layout.features == ()
    assert what.layout.predictions == (("predict", 4),)
    assert what.left_out == 2


def test_features_are_counted_as_far_as_the_bins_go():
    features = tuple(Feature(f"x{index}", "Float") for index in range(500))
    edges = Histogram(NumericBins(tuple(map(float, range(20)))), (0,) * 22)
    baseline = Baseline(0, 0, {feature.name: edges for feature in features}, {})
    what = counted(Schema("Regression", Target("y", "Float"), features), baseline, ())
    assert len(what.layout.features) == module.MAX_BINS // 22
    assert what.left_out == 500 - len(what.layout.features)
    assert what.outputs == ()
