"""
Prometheus metrics of the server.

Requests are counted in plain integers on the event loop and turned into Prometheus' families when
somebody scrapes. Labels take few values: protocol, status code, model, version.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histogram, seconds."""


class Metrics(Collector):
    """
    Counts what the model port answers; gauges are read from callables when scraped.

    ``model`` and ``version`` label every family.
    """

    def __init__(self, model: str, version: str) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._info: dict[str, str] = {}
        self.rows = 0
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._labels = (model, version)
        self._requests: dict[tuple[str, int], int] = {}
        self._latencies: dict[str, _Histogram] = {}

    def identify(self, version: str, info: dict[str, str]) -> None:
        """Set the version, once it is known, and further labels of ``solera_server_model_info``."""
        self._labels = (self._labels[0], version)
        self._info = info

    def answered(self, protocol: str, status: int, seconds: float | None) -> None:
        key = (protocol, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        if seconds is not None:
            histogram = self._latencies.get(protocol)
            if histogram is None:
                histogram = self._latencies[protocol] = _Histogram()
            histogram.observe(seconds)

    def exposition(self) -> tuple[bytes, bytes]:
        """Return the metrics as text and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST.encode()

    def collect(self) -> Iterator[Metric]:
        model, version = self._labels
        requests = CounterMetricFamily(
            "solera_server_requests",
            "Responses of the model port, by protocol and status code.",
            labels=("model", "version", "protocol", "code"),
        )
        for (protocol, status), count in self._requests.items():
            requests.add_metric((model, version, protocol, str(status)), count)
        yield requests
        latency = HistogramMetricFamily(
            "solera_server_request_duration_seconds",
            "From a complete request to its response handed to the kernel.",
            labels=("model", "version", "protocol"),
        )
        for protocol, histogram in self._latencies.items():
            latency.add_metric((model, version, protocol), histogram.buckets(), histogram.sum)
        yield latency
        rows = CounterMetricFamily(
            "solera_server_rows", "Rows that were predicted.", labels=("model", "version")
        )
        rows.add_metric((model, version), self.rows)
        yield rows
        for name, (text, read) in self.gauges.items():
            gauge = GaugeMetricFamily(name, text, labels=("model", "version"))
            gauge.add_metric((model, version), read())
            yield gauge
        info = InfoMetricFamily("solera_server_model", "What is served.")
        info.add_metric((), {"model": model, "version": version, **self._info})
        yield info


class _Histogram:
    __slots__ = ("_counts", "sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(BUCKETS, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        total = 0
        result = []
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), self._counts, strict=True):
            total += count
            result.append((bound, float(total)))
        return result
