"""The operator's own metrics, in a registry of their own so that tests can have many."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_RECONCILE_BUCKETS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)


class Metrics:
    """Every metric of the engine. Label values are bounded: kinds, verbs, codes and results, never names."""

    def __init__(self, *, process: bool = False) -> None:
        """`process` adds memory, CPU, file descriptors and garbage collection of this process."""
        self.registry = CollectorRegistry(auto_describe=True)
        if process:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
            GCCollector(registry=self.registry)
        self._queues()
        self._requests()

    def _queues(self) -> None:
        """Make what is told of queues and of the reconciles that they lead to."""
        self.queue_depth = Gauge(
            "solera_queue_depth", "Keys that wait for a worker.", ["queue"], registry=self.registry
        )
        self.queue_delayed = Gauge(
            "solera_queue_delayed", "Keys that wait for their time.", ["queue"], registry=self.registry
        )
        self.queue_age = Gauge(
            "solera_queue_oldest_seconds",
            "How long the oldest due key has waited for a worker.",
            ["queue"],
            registry=self.registry,
        )
        self.queue_retries = Counter(
            "solera_queue_retries_total", "Keys put back after a failure.", ["queue"], registry=self.registry
        )
        self.reconcile_seconds = Histogram(
            "solera_reconcile_seconds",
            "Duration of a reconcile by controller and result.",
            ["kind", "result"],
            buckets=_RECONCILE_BUCKETS,
            registry=self.registry,
        )

    def _requests(self) -> None:
        """Make what is told of the Kubernetes API: requests, caches, watches, writes."""
        self.api_requests = Counter(
            "solera_api_requests_total",
            "Requests to the Kubernetes API by verb, resource and HTTP code (0: no answer).",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self.leader = Gauge("solera_leader", "1 while this process leads.", registry=self.registry)
        self.cache_objects = Gauge(
            "solera_cache_objects", "Objects in a cache.", ["resource"], registry=self.registry
        )
        self.cache_synced = Gauge(
            "solera_cache_synced",
            "1 once a cache has its first full list.",
            ["resource"],
            registry=self.registry,
        )
        self.watch_restarts = Counter(
            "solera_watch_restarts_total",
            "Watches begun again by reason (expired, error, ended).",
            ["resource", "reason"],
            registry=self.registry,
        )
        self.applies = Counter(
            "solera_applies_total",
            "Server-side applies by kind and result (written, skipped, conflict).",
            ["kind", "result"],
            registry=self.registry,
        )
        self.events = Counter(
            "solera_events_total",
            "Kubernetes Events by result (posted, duplicate, limited, failed).",
            ["result"],
            registry=self.registry,
        )

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def watch_queue(
        self, name: str, *, depth: Callable[[], float], delayed: Callable[[], float], age: Callable[[], float]
    ) -> None:
        """Read a queue's gauges when they are scraped."""
        self.queue_depth.labels(name).set_function(depth)
        self.queue_delayed.labels(name).set_function(delayed)
        self.queue_age.labels(name).set_function(age)

    def watch_cache(
        self, resource: str, *, objects: Callable[[], float], synced: Callable[[], float]
    ) -> None:
        """Read a cache's gauges when they are scraped."""
        self.cache_objects.labels(resource).set_function(objects)
        self.cache_synced.labels(resource).set_function(synced)
