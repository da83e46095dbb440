"""The management port: probes for the kubelet and metrics for Prometheus."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from solera_server.errands import Errands
from solera_server.message import Request, Response, error_response
from solera_server.router import Route, Router

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from solera_server.counter_report import CounterReport
    from solera_server.health import Verdict
    from solera_server.metrics import Metrics
    from solera_server.page.guard import Guard


class Probed(Protocol):
    """Answers the probes: for one process, or for all workers together."""

    def live(self) -> Verdict: ...

    def ready(self) -> Verdict: ...


def router(
    health: Probed,
    metrics: Metrics,
    counters: Callable[[], CounterReport | None] = lambda: None,
    page: Mapping[str, Mapping[bytes, Route]] | None = None,
    guard: Guard | None = None,
) -> Router:
    """
    Return the routes of the management port.

    ``counters`` gives None while no model is loaded; ``page`` are the routes of the model's page.
    With a ``guard`` counters are for those hosts only that it knows; probes and scrapes come as they like.
    """

    def livez(_request: Request) -> Response:
        return _probe(health.live())

    def readyz(_request: Request) -> Response:
        return _probe(health.ready())

    def scrape(_request: Request) -> Response:
        text, content_type = metrics.exposition()
        return Response(200, text, content_type)

    def count(request: Request) -> Response | None:
        report = counters()
        if report is None:
            return error_response(503, "the model is not loaded yet", (b"retry-after", b"1"))
        report.fold()
        return encoding.handler(report.handle)(request)

    # Many windows with many arms take long to encode; probes are answered meanwhile.
    encoding = Errands(asyncio.get_running_loop(), "counters")
    routes: dict[bytes, Callable[[Request], Response | None]] = {
        b"/livez": livez,
        b"/readyz": readyz,
        b"/metrics": scrape,
        b"/counters": count if guard is None else guard.reading(count),
    }
    every: dict[bytes, Mapping[bytes, Route]] = {
        path: {b"GET": Route(handler, "management")} for path, handler in routes.items()
    }
    every.update({path.encode(): methods for path, methods in (page or {}).items()})
    there = ", ".join(path for path in ("/", "/livez", "/readyz", "/metrics") if path.encode() in every)
    return Router(every, lambda path: f'there is nothing at "{path}"; there are {there} and /counters')


def _probe(verdict: Verdict) -> Response:
    return Response(
        200 if verdict.good else 503, verdict.reason.encode() + b"\n", b"text/plain; charset=utf-8"
    )
