"""Counters of several processes: real forks that count, die, and go on in their slots; what /metrics says of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from solera_server.exposition import Family, render
from solera_server.metrics import BUCKETS, FIELDS, GAUGES, Metrics
from solera_server.shared import Field, SharedCounters

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client.metrics_core import Metric


def in_child(work: Callable[[], None]) -> int:
    """Fork, do the work, and return the child's exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families: list[Metric] = list(text_string_to_metric_families(metrics.exposition()[0].decode()))
    return {
        (sample.name, frozenset(sample.labels.items()) - {("model", "m"), ("version", "v")}): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, frozenset(labels.items())]


def test_what_children_count_is_added_up() -> None:
    counters = SharedCounters([Field("hits"), Field("grid", (2, 3)), Field("sum", (1,), np.float64)], 3)

    def count(slot: int) -> None:
        mine = counters.slot(slot)
        mine["hits"] += slot + 1
        mine["grid"][1, 2] += 10
        mine["sum"] += 0.5

    for slot in range(3):
        assert in_child(lambda slot=slot: count(slot)) == 0
    assert in_child(lambda: count(1)) == 0, "another process in the slot of one that ended"
    assert counters.total("hits").tolist() == [1 + 2 + 2 + 3]
    assert counters.each("hits").tolist() == [[1], [4], [3]]
    assert counters.total("grid").tolist() == [[0, 0, 0], [0, 0, 40]]
    assert counters.total("sum").tolist() == [2.0]


def test_a_field_is_8_bytes_wide_and_named_once() -> None:
    with pytest.raises(ValueError, match="8 bytes"):
        SharedCounters([Field("small", (1,), np.int32)], 1)
    with pytest.raises(ValueError, match="one name"):
        SharedCounters([Field("a"), Field("a")], 1)


def test_slots_and_arrays_share_no_cache_line() -> None:
    counters = SharedCounters([Field("a", (3,)), Field("b", (9,))], 4)
    starts = sorted(counters.each(name)[slot].ctypes.data for name in "ab" for slot in range(4))
    assert all(start % 64 == 0 for start in starts)
    assert len(set(starts)) == 8


def test_metrics_of_all_processes_are_one() -> None:
    shared = SharedCounters(FIELDS, 2)
    exposing = Metrics("m", "v", shared, slot=None)

    def work(slot: int) -> None:
        metrics = Metrics("m", "v", shared, slot)
        metrics.watch("solera_server_connections", lambda: 3 + slot)
        for _ in range(100 * (slot + 1)):
            metrics.answered("v2", 200, 0.001)
        metrics.answered("v1", 503, None)
        metrics.answered("no such protocol", 404, None)
        metrics.rows += 7
        metrics.flush()
        metrics.rows += 1
        metrics.flush()

    for slot in (0, 1, 1):
        assert in_child(lambda slot=slot: work(slot)) == 0
    requests = "solera_server_requests_total"
    assert value(exposing, requests, protocol="v2", code="200") == 100 + 200 + 200
    assert value(exposing, requests, protocol="v1", code="503") == 3
    assert value(exposing, requests, protocol="other", code="404") == 3
    assert value(exposing, "solera_server_rows_total") == 24
    assert value(exposing, "solera_server_connections") == 3 + 4, "of a gauge, the last value of each slot"
    latency = "solera_server_request_duration_seconds"
    assert value(exposing, f"{latency}_bucket", protocol="v2", le="0.001") == 500
    assert value(exposing, f"{latency}_bucket", protocol="v2", le="0.0005") == 0
    assert value(exposing, f"{latency}_count", protocol="v2") == 500
    assert value(exposing, f"{latency}_sum", protocol="v2") == pytest.approx(0.5)


def test_buckets_hold_their_upper_bounds() -> None:
    metrics = Metrics("m", "v")
    for bound in BUCKETS:
        metrics.answered("v1", 200, bound)
    metrics.answered("v1", 200, 1e9)
    name = "solera_server_request_duration_seconds_bucket"
    for index, bound in enumerate(BUCKETS):
        assert value(metrics, name, protocol="v1", le=str(bound)) == index + 1
    assert value(metrics, name, protocol="v1", le="+Inf") == len(BUCKETS) + 1


def test_the_process_is_measured_as_it_is() -> None:
    metrics = Metrics("m", "v")
    times = os.times()
    cpu = value(metrics, "process_cpu_seconds_total")
    assert abs(cpu - sum(times[:4])) < 0.2
    resident = value(metrics, "process_resident_memory_bytes")
    assert 10e6 < resident < 10e9
    assert value(metrics, "process_open_fds") >= 3
    assert value(metrics, "python_gc_collections_total", generation="0") > 0


def test_only_gauges_that_are_declared_can_be_watched() -> None:
    metrics = Metrics("m", "v")
    with pytest.raises(KeyError):
        metrics.watch("solera_server_no_such", lambda: 1.0)
    assert all(text.endswith(".") for text in GAUGES.values())


def test_labels_are_escaped_and_numbers_written_as_prometheus_reads_them() -> None:
    family = Family("a", "gauge", "Two\nlines, \\.")
    for label, number in (('"q"', 1), ("back\\slash", float("inf")), ("new\nline", -float("inf"))):
        family.add(number, {"x": label})
    (parsed,) = text_string_to_metric_families(render([family]).decode())
    assert parsed.documentation == "Two\nlines, \\."
    assert [(sample.labels["x"], sample.value) for sample in parsed.samples] == [
        ('"q"', 1.0),
        ("back\\slash", float("inf")),
        ("new\nline", -float("inf")),
    ]
