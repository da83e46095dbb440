"""Counters of replicas, added up, are those of one server that saw everything."""

from __future__ import annotations

import math

from counted_requests import SECONDS, START, WHAT, Clock, memory, noted, report, same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solera_core.counters import OutcomeKey, merge
from solera_core.ledger import Ledger
from solera_server.counters import Counters

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
