"""Counters of replicas, added up, are those of one server that saw everything."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solera_core.baseline import Baseline, Histogram
from solera_core.counters import CountersInvalid, OutcomeKey, merge, read_report, report_to_json
from solera_core.histogram import CategoricalBins, NumericBins
from solera_core.ledger import Ledger
from solera_core.schema import Feature, Schema, Target
from solera_core.units import GROUPS
from solera_server import counters as module
from solera_server.batch import Layout as BatchLayout
from solera_server.counter_memory import Boot, CounterMemory
from solera_server.counter_report import CounterReport
from solera_server.counters import DRAWN, UNIT, Counters, Noted, Subject, arm_key, counted

SECONDS = 60
START = 1_800_000_000 // SECONDS * SECONDS
SCHEMA = Schema(
    "Classification",
    Target("y", "String", ("no", "yes")),
    (Feature("x", "Float"), Feature("colour", "String")),
)
FOUND = Baseline(
    0,
    0,
    {
        "x": Histogram(NumericBins((0.0, 1.0)), (0, 0, 0, 0)),
        "colour": Histogram(CategoricalBins(("blue", "red")), (0, 0, 0, 0)),
    },
    {
        "predict": Histogram(CategoricalBins(("no", "yes")), (0, 0, 0, 0)),
        "score": Histogram(NumericBins((0.5,)), (0, 0, 0)),
    },
)
WHAT = counted(SCHEMA, FOUND, (0.1, 1.0))
BATCH = BatchLayout(SCHEMA.features)


class Clock:
    """A steady clock that a test sets; seconds since START."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def memory(clock, pod="pod", *, began=0.0, kept=12, processes=1, limit=8192):
    clock.time = began
    made = Boot(pod, f"{pod}-{began}", wall=START + began, steady=began, clock=clock)
    return CounterMemory(WHAT.layout, made, seconds=SECONDS, kept=kept, processes=processes, unit_limit=limit)


def batch(rows):
    columns = [
        np.array([x for x, _ in rows], dtype=np.float64),
        np.array([colour for _, colour in rows], dtype=object),
    ]
    return BATCH.batch(columns, lambda _row, _feature: "")


def noted(
    moment, *, rows=((0.5, "red"),), unit=None, arm=None, epoch=None, status=200, seconds=0.01, number=0
):
    outputs = {
        "predict": np.array(["yes" if x > 0 else "no" for x, _ in rows], dtype=object),
        "predict_proba": np.array([[0.3, 0.7] if x > 0 else [0.8, 0.2] for x, _ in rows]).reshape(-1, 2),
    }
    good = status == 200
    return Noted(
        Subject((arm, epoch, False), *((DRAWN, number) if unit is None else (UNIT, unit))),
        status,
        seconds,
        moment,
        batch(rows) if good else None,
        outputs if good else None,
    )


def report(memory, after=-1):
    return read_report(orjson.loads(CounterReport(memory, "m", "m-v1", "sha256:0").document(after)))


def same(left, right):
    """Say whether two windows hold the same counts; zeros may be written or left out."""

    def arrays(window):
        found = {("features",): window.features}
        for kind, table in (("arm", window.arms), ("outcome", window.outcomes)):
            found |= {(kind, key, name): array for key, row in table.items() for name, array in row.items()}
        return {key: array.tolist() for key, array in found.items() if array is not None and array.any()}

    assert arrays(left) == arrays(right)
    assert left.units == right.units
    return True


# -- the law ---------------------------------------------------------------------------------------------

cells = st.tuples(
    st.sampled_from([-1.0, 0.0, 0.5, 1.0, math.inf, math.nan]),
    st.sampled_from(["red", "blue", "grey", math.nan]),
)
answers = st.fixed_dictionaries(
    {
        "moment": st.floats(0, 5 * SECONDS - 0.001),
        "rows": st.lists(cells, min_size=1, max_size=3),
        "unit": st.none() | st.integers(0, 2**64 - 1),
        "arm": st.sampled_from([(None, None), (b"a", b"1"), (b"b", b"1"), (b"b", b"2")]),
        "status": st.sampled_from([200, 200, 200, 400, 503]),
        "seconds": st.sampled_from([0.05, 0.1, 0.5, 2.0]),
        "number": st.integers(0, 2**64 - 1),
    }
)
labels = st.fixed_dictionaries(
    {
        "moment": st.floats(0, 5 * SECONDS - 0.001),
        "key": st.sampled_from(
            [OutcomeKey("m-v1", "a", 1, 20_000, 0.0), OutcomeKey("m-v2", "b", 2, 20_001, 2.5)]
        ),
        "bucket": st.integers(0, 255),
        "correct": st.booleans(),
        "error": st.integers(-(2**20), 2**20),
    }
)
events = st.lists(st.tuples(st.integers(0, 3), answers | labels), max_size=40)


def tell(counters, event):
    if "key" in event:
        counters.outcome(
            event["key"],
            event["bucket"],
            correct=event["correct"],
            error=event["error"],
            square=event["error"] ** 2,
        )
        return
    arm, epoch = event["arm"]
    given = {key: value for key, value in event.items() if key != "arm"}
    if counters.note(noted(**given, arm=arm, epoch=epoch)):
        counters.fold()


def closed(memory, clock):
    clock.time = 6 * SECONDS
    return report(memory)


def expected(told, limit):
    """Return what one server counts that sees all of it."""
    clock = Clock()
    whole = memory(clock, limit=limit)
    counters = Counters(whole, WHAT)
    for event in sorted(told, key=lambda event: event["moment"]):
        clock.time = event["moment"]
        tell(counters, event)
        counters.fold()
    return {reported.window.start: reported.window for reported in closed(whole, clock).windows}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    events,
    st.none() | st.floats(SECONDS, 4 * SECONDS),
    st.lists(st.floats(0, 6 * SECONDS), max_size=6),
    st.randoms(),
    st.sampled_from([3, 8192]),
)
def test_counters_of_replicas_in_any_order_are_those_of_one_server(told, restart, scrapes, random, limit):
    """Three servers, one with two processes; the first may be killed and start again.

    They are asked at any times, some answers come twice, and all come in any order.
    """
    clock = Clock()
    servers = [
        (memory(clock, "one", limit=limit), 0),
        (memory(clock, "two", limit=limit), 0),
        (memory(clock, "three", processes=2, limit=limit), 0),
    ]
    servers.append((servers[2][0], 1))
    counting = [Counters(server, WHAT, process) for server, process in servers]
    ordered = sorted(told, key=lambda item: item[1]["moment"])
    asked = [report(server) for server, _ in servers[:3]]
    lost = []
    steps = sorted(
        [(event["moment"], 0, index) for index, (_, event) in enumerate(ordered)]
        + [(moment, 1, 0) for moment in scrapes]
        + ([(restart, 2, 0)] if restart is not None else [])
    )
    for moment, kind, index in steps:
        clock.time = moment
        if kind == 0:
            replica, event = ordered[index]
            tell(counting[replica], event)
            for counters in counting:
                counters.fold()
        elif kind == 1:
            asked += [report(server) for server, _ in servers[:3]]
        else:
            lost = [
                reported.window.start for reported in report(servers[0][0]).windows if not reported.closed
            ]
            asked.append(report(servers[0][0]))
            servers[0] = (memory(clock, "one", began=moment, limit=limit), 0)
            counting[0] = Counters(servers[0][0], WHAT)
    asked += [closed(server, clock) for server, _ in servers[:3]]
    asked *= 2
    random.shuffle(asked)
    ledger = Ledger(limit)
    for document in asked:
        ledger.absorb(document)
    gone = [
        event
        for replica, event in ordered
        if replica == 0 and restart is not None and event["moment"] <= restart
        and START + event["moment"] // SECONDS * SECONDS in lost
    ]  # fmt: skip
    kept = [event for _, event in ordered if not any(event is other for other in gone)]
    for start, window in expected(kept, limit).items():
        total = ledger.total(start)
        assert total.lost == ({"one-0.0"} if start in lost else frozenset())
        if start < START + 5 * SECONDS:
            assert not total.waiting
            assert same(total.window, window)


@settings(max_examples=30, deadline=None)
@given(events, st.randoms())
def test_the_merge_does_not_depend_on_grouping(told, random):
    parts = []
    for index, (_, event) in enumerate(told[:8]):
        clock = Clock()
        one = memory(clock, f"pod-{index}", limit=3)
        counters = Counters(one, WHAT)
        tell(counters, {**event, "moment": 1.0})
        counters.finish()
        parts.append(one.read(one.first))
    if len(parts) < 3:
        return
    whole = merge(parts, 3)
    cut = random.randrange(1, len(parts))
    random.shuffle(parts)
    assert same(merge([merge(parts[:cut], 3), merge(parts[cut:], 3)], 3), whole)


# -- parts -------------------------------------------------------------------------------------------------


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


def test_a_report_comes_back_from_its_document_and_others_are_refused():
    clock = Clock()
    made = memory(clock)
    counters = Counters(made, WHAT)
    counters.note(noted(1, unit=5, arm=b"a", epoch=b"1"))
    counters.finish()
    document = orjson.loads(CounterReport(made, "m", "m-v1", "sha256:0").document())
    assert orjson.loads(orjson.dumps(report_to_json(read_report(document)))) == document

    def refused(change):
        broken = orjson.loads(orjson.dumps(document))
        change(broken)
        with pytest.raises(CountersInvalid):
            read_report(broken)

    arm = document["windows"][0]["arms"][0]
    refused(lambda d: d.update(formatVersion=2))
    refused(lambda d: d.update(groups=16))
    refused(lambda d: d.pop("boot"))
    refused(lambda d: d["windows"][0]["features"].pop())
    refused(lambda d: d["windows"][0]["arms"].append(arm))
    refused(lambda d: d["windows"][0]["arms"][0]["requests"].__setitem__(0, -1))
    refused(lambda d: d["windows"][0]["arms"][0]["requests"].__setitem__(0, 1.5))
    refused(lambda d: d["windows"][0]["units"].update(halvings=62))
    refused(lambda d: d["windows"][0]["units"]["members"][0].update(hashes="@"))
    for other in (None, [], {}, "x", {"formatVersion": 1}):
        with pytest.raises(CountersInvalid):
            read_report(other)


def test_windows_of_other_times_or_bins_are_not_added_up():
    clock = Clock()
    made = memory(clock)
    first, second = made.read(made.first), made.read(made.first + 1)
    with pytest.raises(ValueError, match="different times"):
        merge([first, second])
    for left, right in itertools.permutations([np.ones(2, dtype=np.int64), np.ones(3, dtype=np.int64)]):
        with pytest.raises(ValueError, match="different bins"):
            merge([first.__class__(0, left), first.__class__(0, right)])


def parameters(target: str) -> Any:
    class Asked:
        pass

    asked = Asked()
    asked.head = Asked()
    asked.head.target = target.encode()
    return asked


def test_the_parameter_of_the_report_is_checked():
    clock = Clock()
    reporter = CounterReport(memory(clock), "m", "m-v1", "sha256:0")
    assert reporter.handle(parameters("/counters?after=3")).status == 200
    for query in ("after=x", "after=", "before=1", "after=1&more=2", "after=" + "9" * 20):
        assert reporter.handle(parameters(f"/counters?{query}")).status == 400
