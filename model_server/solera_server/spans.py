"""
Spans of OpenTelemetry, made of answered requests and sent over OTLP by HTTP.

Names and attributes are those of the semantic conventions for HTTP and RPC; what they do not have begins with
``solera.``. No attribute has a value of a feature, nor the text of an error, which may quote one.
"""

from __future__ import annotations

import logging
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from solera_server import __version__
from solera_server.logs import Seldom
from solera_server.tracing import Export

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan

    from solera_server.tracing import Finished, Served

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_LINES_SECONDS = 30.0
_GRPC_ERRORS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")


class OtlpExport(Export):
    """Reads endpoint, headers, timeout, certificates and resource from the environment, as the SDK does."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._ids = _Ids()
        self._spans = _Collected()
        # What everybody else calls it goes before what we do.
        named = OTELResourceDetector().detect().attributes
        own = {SERVICE_NAME: "solera-server", SERVICE_VERSION: __version__}
        resource = Resource.create({key: value for key, value in own.items() if key not in named})
        provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        provider.add_span_processor(self._spans)
        self._tracer = provider.get_tracer("solera_server", __version__)
        logging.getLogger(trace_exporter.__name__).addFilter(_FewLines())
        self._exporter = trace_exporter.OTLPSpanExporter()

    def send(self, batch: Sequence[Finished]) -> bool:
        offset = time_ns() - perf_counter_ns()
        for one in batch:
            self._make(one, offset)
        spans, self._spans.ended = self._spans.ended, []
        return self._exporter.export(spans) is SpanExportResult.SUCCESS

    def stop(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the package says no types of it

    def _make(self, one: Finished, offset: int) -> None:
        served = self._served
        attributes: dict[str, str | int | tuple[str, ...]] = {
            "solera.model.name": served.model,
            "solera.model.version": served.version,
        }
        if one.rows is not None:
            attributes["solera.rows"] = one.rows
            attributes["solera.predictor"] = served.predictor
        if one.request_id:
            attributes["http.request.header.x-request-id"] = (one.request_id,)
        describe = _rpc if one.protocol == "grpc" else _http
        name, error = describe(one, served, attributes)
        if error:
            attributes["error.type"] = error
        self._ids.trace_id, self._ids.span_id = one.trace_id, one.span_id
        span = self._tracer.start_span(
            name,
            context=_parent(one),
            kind=trace.SpanKind.SERVER,
            attributes=attributes,
            start_time=offset + int(one.begun * 1e9),
        )
        if error:
            span.set_status(trace.StatusCode.ERROR)
        span.end(offset + int(one.ended * 1e9))


def _http(
    one: Finished, served: Served, attributes: dict[str, str | int | tuple[str, ...]]
) -> tuple[str, str | None]:
    """Add attributes, and return the span's name and what kind of error it was."""
    method = one.method if one.method in _METHODS else "_OTHER"
    attributes["http.request.method"] = method
    attributes["url.scheme"] = served.scheme
    attributes["url.path"] = one.path
    attributes["http.response.status_code"] = one.status
    address, port = split_host(one.host)
    if address:
        attributes["server.address"] = address
        attributes["server.port"] = port or (443 if served.scheme == "https" else 80)
    name = "HTTP" if method == "_OTHER" else method
    if one.routed:
        route = attributes["http.route"] = served.template(one.path)
        name = f"{name} {route}"
    return name, str(one.status) if one.status >= 500 else None


def _rpc(
    one: Finished, served: Served, attributes: dict[str, str | int | tuple[str, ...]]
) -> tuple[str, str | None]:
    from solera_server.grpc_status import status_code

    method = one.path.removeprefix("/")
    status = "OK" if one.status == 200 else status_code(one.status).name
    attributes["rpc.system.name"] = "grpc"
    attributes["rpc.method"] = method
    attributes["rpc.response.status_code"] = status
    attributes["server.address"] = served.address
    if served.grpc_port:
        attributes["server.port"] = served.grpc_port
    return method, status if status in _GRPC_ERRORS else None


def split_host(host: str) -> tuple[str, int | None]:
    """Return name and port of a Host header; the port is None where there is none that is a number."""
    address, colon, port = host.rpartition(":")
    if not colon or "]" in port:
        address, port = host, ""
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else None
    return address.strip("[]"), number


def _parent(one: Finished) -> Context:
    if one.parent_id is None:
        return trace.set_span_in_context(trace.INVALID_SPAN)
    context = trace.SpanContext(
        one.trace_id,
        one.parent_id,
        is_remote=True,
        trace_flags=trace.TraceFlags(one.parent_sampled),
        trace_state=trace.TraceState.from_header([one.trace_state]) if one.trace_state else None,
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(context))


class _Ids(IdGenerator):
    """The ids of the request at hand, which the event loop has made."""

    trace_id = span_id = 1

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id

    def is_trace_id_random(self) -> bool:
        return True


class _Collected(SpanProcessor):
    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


class _FewLines(logging.Filter):
    """Lets a line through now and then: a collector that is away is no news each time."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = Seldom(_LINES_SECONDS)

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - the library's signature
        return self._lines.due()
