"""A collector of traces on loopback: takes OTLP over HTTP and keeps the spans, or misbehaves."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message
from raw_http import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self


class Span:
    """A span as it came, with the attributes of its resource."""

    def __init__(self, message: Message, resource: Any) -> None:
        self.name = message.name
        self.trace_id = message.trace_id.hex()
        self.span_id = message.span_id.hex()
        self.parent_id = message.parent_span_id.hex()
        self.trace_state = message.trace_state
        self.server = message.kind == Message.SPAN_KIND_SERVER
        self.failed = message.status.code == 2
        self.seconds = (message.end_time_unix_nano - message.start_time_unix_nano) / 1e9
        self.started = message.start_time_unix_nano / 1e9
        self.attributes = values(message.attributes)
        self.resource = values(resource.attributes)


def values(attributes: Any) -> dict[str, Any]:
    return {one.key: value_of(one.value) for one in attributes}


def value_of(value: Any) -> Any:
    if value.WhichOneof("value") == "array_value":
        return [value_of(one) for one in value.array_value.values]
    return getattr(value, value.WhichOneof("value"))


class Collector:
    """``status`` is what it answers; it answers nothing while ``hold`` is set."""

    def __init__(self, status: int = 200, *, hold: bool = False) -> None:
        self.spans: list[Span] = []
        self.requests = 0
        self.headers: dict[str, str] = {}
        self.free = threading.Event()
        if not hold:
            self.free.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests += 1
                collector.headers = dict(self.headers)
                collector.free.wait(60)
                if status == 200:
                    assert self.path == "/v1/traces"
                    collector.take(body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Stay silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environ(self, **more: str) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50", **more}

    def take(self, body: bytes) -> None:
        for one in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in one.scope_spans:
                self.spans.extend(Span(span, one.resource) for span in scope.spans)

    async def wait_for(self, count: int) -> list[Span]:
        await until(lambda: len(self.spans) >= count)
        assert len(self.spans) == count, [(span.name, span.attributes) for span in self.spans]
        return self.spans

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        await until(condition)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.free.set()
        self._server.shutdown()
        self._server.server_close()
