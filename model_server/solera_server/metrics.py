"""
Prometheus metrics of the server.

Requests are counted in plain integers on the event loop and added to shared memory a few times a second
and before each scrape, so that one ``/metrics`` speaks for all worker processes. Labels take few values:
protocol, status code, model, version.
"""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solera_server.exposition import CONTENT_TYPE, Family, render
from solera_server.process_metrics import process_families
from solera_server.shared import Field, SharedCounters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histogram, seconds."""

PROTOCOLS = ("v1", "v2", "grpc", "explain", "feedback", "page", "other")
"""Values of the label ``protocol``; what is none of them counts as the last."""

COUNTERS = {
    "rows": ("solera_server_rows_total", "Rows that were predicted."),
    "busy_polls": (
        "solera_server_busy_polls_total",
        "Times that the server began to look for requests without sleeping; see --busy-poll.",
    ),
    "access_lines_dropped": (
        "solera_server_access_log_dropped_total",
        "Lines of the access log that were not written: nobody took them in time.",
    ),
    "spans_exported": ("solera_server_spans_exported_total", "Spans that the collector of traces took."),
    "spans_dropped": (
        "solera_server_spans_dropped_total",
        "Spans that were not sent: too many waited, or the collector did not take them.",
    ),
    "handshakes_failed": (
        "solera_server_tls_handshake_failures_total",
        "TLS handshakes that came to nothing.",
    ),
}
"""Further counters, by the attribute of Metrics that is added to."""

GAUGES = {
    "solera_server_in_flight_requests": "Predictions that wait or run.",
    "solera_server_queued_requests": "Predictions that wait for the worker.",
    "solera_server_connections": "Open connections of the model port.",
}
"""Gauges that are added up over the worker processes; ``Metrics.watch`` says how one is read."""

_BOUNDS = np.array(BUCKETS)
_TOGETHER = 256
"""Latencies that are put into the histogram at once."""
_CODES = 600
_GENERATIONS = 3
FIELDS = (
    Field("requests", (len(PROTOCOLS), _CODES)),
    Field("latency", (len(PROTOCOLS), len(BUCKETS) + 1)),
    Field("latency_sum", (len(PROTOCOLS),), np.float64),
    Field("counters", (len(COUNTERS),)),
    Field("gauges", (len(GAUGES),), np.float64),
    Field("gc", (3, _GENERATIONS)),
)
_GC = (
    ("collected", "python_gc_objects_collected_total", "Objects collected."),
    ("uncollectable", "python_gc_objects_uncollectable_total", "Objects found that cannot be collected."),
    ("collections", "python_gc_collections_total", "Collections."),
)


class Metrics:
    """
    Counts what one process of the model port answers, and exposes what all of them counted.

    ``model`` and ``version`` label every family. ``shared`` has FIELDS, and ``slot`` is this process's
    own; None in a process that only exposes. Without ``shared`` there is this process alone.
    """

    def __init__(
        self, model: str, version: str, shared: SharedCounters | None = None, slot: int | None = 0
    ) -> None:
        self.rows = 0
        self.handshakes_failed = 0
        self.busy_polls = 0
        self.access_lines_dropped = 0
        self.spans_exported = 0
        self.spans_dropped = 0
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        """Gauges that the exposing process reads for itself when it is scraped: text and value."""
        self.sources: list[Callable[[], Iterable[Family]]] = []
        """Whatever else is to be exposed."""
        self.pids: Callable[[], list[int]] = lambda: [os.getpid()]
        self._info: dict[str, str] = {}
        self._labels = {"model": model, "version": version}
        self._shared = shared or SharedCounters(FIELDS, 1)
        self._slot = None if slot is None else self._shared.slot(slot)
        self._watched: dict[str, Callable[[], float]] = {}
        self._requests: dict[tuple[str, int], int] = {}
        self._seconds: dict[str, list[float]] = {}
        """By protocol, what answers took that have not been put into the histogram."""
        self._latencies: dict[str, _Histogram] = {}
        self._flushed: dict[str, int] = {}
        # What a forked process collected before it was one is its parent's.
        self._collections = np.zeros((3, _GENERATIONS), np.int64) if shared is None else _collections()

    def identify(self, version: str, info: dict[str, str]) -> None:
        """Set the version, once it is known, and further labels of ``solera_server_model_info``."""
        self._labels = {**self._labels, "version": version}
        self._info = info

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """Read the gauge ``name`` (of GAUGES) of this process by ``read``."""
        if name not in GAUGES:
            raise KeyError(name)
        self._watched[name] = read

    def answered(self, protocol: str, status: int, seconds: float | None) -> None:
        requests, key = self._requests, (protocol, status)
        requests[key] = requests.get(key, 0) + 1
        if seconds is not None:
            waiting = self._seconds.get(protocol)
            if waiting is None:
                waiting = self._seconds[protocol] = []
            waiting.append(seconds)
            if len(waiting) >= _TOGETHER:
                self._sort(protocol, waiting)

    def answered_together(self, protocol: str, status: int, seconds: Sequence[float]) -> None:
        """Count answers of one kind."""
        requests, key = self._requests, (protocol, status)
        requests[key] = requests.get(key, 0) + len(seconds)
        waiting = self._seconds.setdefault(protocol, [])
        waiting += seconds
        if len(waiting) >= _TOGETHER:
            self._sort(protocol, waiting)

    def _sort(self, protocol: str, waiting: list[float]) -> None:
        """Put latencies into their histogram; many at once cost a fraction of each by itself."""
        histogram = self._latencies.get(protocol)
        if histogram is None:
            histogram = self._latencies[protocol] = _Histogram()
        seconds = np.array(waiting)
        histogram.counts += np.bincount(np.searchsorted(_BOUNDS, seconds), minlength=len(BUCKETS) + 1)
        histogram.sum += float(seconds.sum())
        waiting.clear()

    def flush(self) -> None:
        """Add what was counted since the last time to shared memory, and write the gauges there."""
        slot = self._slot
        if slot is None:
            return
        requests, self._requests = self._requests, {}
        for (protocol, status), count in requests.items():
            slot["requests"][_index(protocol), status if 0 <= status < _CODES else 0] += count
        for protocol, waiting in self._seconds.items():
            self._sort(protocol, waiting)
        latencies, self._latencies = self._latencies, {}
        for protocol, histogram in latencies.items():
            index = _index(protocol)
            slot["latency"][index] += histogram.counts
            slot["latency_sum"][index] += histogram.sum
        for index, name in enumerate(COUNTERS):
            count = getattr(self, name)
            slot["counters"][index] += count - self._flushed.get(name, 0)
            self._flushed[name] = count
        for index, name in enumerate(GAUGES):
            read = self._watched.get(name)
            slot["gauges"][index] = 0.0 if read is None else read()
        collections = _collections()
        slot["gc"] += collections - self._collections
        self._collections = collections

    def exposition(self) -> tuple[bytes, bytes]:
        """Return the metrics as text and its content type."""
        self.flush()
        return render(self._families()), CONTENT_TYPE

    def totals(self) -> dict[str, Any]:
        """Return what all processes counted of predictions, as JSON: see BUCKETS for ``latency``."""
        self.flush()
        predicting = [PROTOCOLS.index(protocol) for protocol in ("v1", "v2", "grpc")]
        requests, latency = self._shared.total("requests")[predicting], self._shared.total("latency")
        return {
            "requests": int(requests.sum()),
            "errors": int(requests[:, 500:].sum()),
            "buckets": list(BUCKETS),
            "latency": latency[predicting].sum(axis=0).tolist(),
        }

    def _families(self) -> Iterator[Family]:
        labels, shared = self._labels, self._shared
        yield from self._request_families()
        counters, gauges = shared.total("counters"), shared.total("gauges")
        for (name, text), value in zip(COUNTERS.values(), counters, strict=True):
            yield Family(name, "counter", text).add(value, labels)
        for (name, text), value in zip(GAUGES.items(), gauges, strict=True):
            yield Family(name, "gauge", text).add(value, labels)
        for name, (text, read) in self.gauges.items():
            yield Family(name, "gauge", text).add(read(), labels)
        info = Family("solera_server_model_info", "gauge", "What is served.")
        yield info.add(1.0, {**labels, **self._info})
        for source in self.sources:
            yield from source()
        yield from process_families(self.pids())
        for (_, name, text), values in zip(_GC, shared.total("gc"), strict=True):
            family = Family(name, "counter", text)
            for generation, value in enumerate(values):
                family.add(value, {"generation": str(generation)})
            yield family

    def _request_families(self) -> Iterator[Family]:
        requests = Family(
            "solera_server_requests_total",
            "counter",
            "Responses of the model port, by protocol and status code.",
        )
        counts = self._shared.total("requests")
        for protocol, code in zip(*np.nonzero(counts), strict=True):
            labels = {**self._labels, "protocol": PROTOCOLS[protocol], "code": str(code)}
            requests.add(counts[protocol, code], labels)
        yield requests
        latency = Family(
            "solera_server_request_duration_seconds",
            "histogram",
            "From a complete request to its response handed to the kernel.",
        )
        buckets, sums = self._shared.total("latency"), self._shared.total("latency_sum")
        for index in np.flatnonzero(buckets.sum(axis=1)):
            labels = {**self._labels, "protocol": PROTOCOLS[index]}
            latency.add_histogram(BUCKETS, buckets[index].tolist(), sums[index], labels)
        yield latency


def clear_gauges(shared: SharedCounters, slot: int) -> None:
    """Take back what a process that has ended said of itself."""
    shared.slot(slot)["gauges"][:] = 0.0


class _Histogram:
    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = np.zeros(len(BUCKETS) + 1, np.int64)
        self.sum = 0.0


def _index(protocol: str) -> int:
    return PROTOCOLS.index(protocol) if protocol in PROTOCOLS else len(PROTOCOLS) - 1


def _collections() -> NDArray[np.int64]:
    return np.array([[one[kind] for one in gc.get_stats()] for kind, _, _ in _GC], np.int64)
