"""
The Open Inference Protocol over gRPC, with health and reflection, on the event loop of the HTTP server.

An inference goes the way of a request by HTTP: its bytes are a body, its metadata are headers, and the same
scheduler decodes and predicts it. Only this module imports gRPC, and only when it is asked for: it costs
memory and time to start.
"""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would write to stderr what is no line of our log

import orjson

from solera_core.failures import Failure, Reason
from solera_server import __version__, v2
from solera_server.access_log import trace_fields
from solera_server.batch import InputError
from solera_server.grpc_arrivals import Arrivals
from solera_server.grpc_codec import GrpcCodec, check_model, parse
from solera_server.grpc_core import Core
from solera_server.grpc_health import SERVICE as HEALTH_SERVICE
from solera_server.grpc_health import health_methods
from solera_server.grpc_reflection_service import SERVICE as REFLECTION_SERVICE
from solera_server.grpc_reflection_service import reflection_methods
from solera_server.grpc_status import retry_metadata, status_code
from solera_server.message import REQUEST_ID, Head, Request, Response, error_response, internal_error
from solera_server.open_inference import open_inference_pb2 as pb
from solera_server.router import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc
    from google.protobuf.message import Message

    from solera_server.access_log import Noting
    from solera_server.grpc_core import Call
    from solera_server.http_server import Observer
    from solera_server.limits import Limits
    from solera_server.message import Respond
    from solera_server.serving import Serving

    Method = Callable[[Call], None]

log = logging.getLogger(__name__)

PROTOCOL = "grpc"
SERVICE = "inference.GRPCInferenceService"
_STREAMS_OF_A_CONNECTION = 100
_UNREAD_STREAM_BYTES = 16 * 1024
_KEEPALIVE_SECONDS = 30
_PING_SECONDS = 10
_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.02
_QUIET_LOOKS = 3
_KEPT_HEADS = 64


class GrpcServer:
    """``listen`` begins, ``finish`` ends. Use on one event loop only."""

    def __init__(
        self,
        serving: Serving,
        limits: Limits,
        observer: Observer | None = None,
        access: Noting | None = None,
    ) -> None:
        self._access = access
        self._serving = serving
        self._observer = observer
        self._limits = limits
        self._arrivals = Arrivals(limits)
        self._active = 0
        self._heads: dict[tuple[str, tuple[object, ...]], Head] = {}
        schema, outputs = serving.loaded.schema, serving.loaded.predictor.outputs
        codec = GrpcCodec(serving.name, serving.version, schema, outputs, limits)
        self._infer_route = Route(serving.predicting(codec), PROTOCOL)
        self._metadata = _metadata(serving)
        calls: dict[str, Callable[[bytes], Message]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
        }
        services: dict[str, dict[str, Method]] = {
            SERVICE: {name: self._answering(name, call) for name, call in calls.items()},
            HEALTH_SERVICE: health_methods(serving.health, ("", SERVICE), self._arrivals),
            REFLECTION_SERVICE: reflection_methods(
                (SERVICE, HEALTH_SERVICE, REFLECTION_SERVICE), limits.receive_seconds
            ),
        }
        services[SERVICE]["ModelInfer"] = lambda call: self._arrivals.message(
            call, partial(self._infer, call)
        )
        self._core = Core(
            {
                f"/{service}/{name}".encode(): method
                for service, methods in services.items()
                for name, method in methods.items()
            },
            _options(limits),
            max(limits.connections, 2 * limits.in_flight),
        )

    async def listen(
        self, host: str | None, port: int, credentials: grpc.ServerCredentials | None = None
    ) -> int:
        """
        Begin to answer and return the port (of interest when ``port`` is 0).

        Without ``credentials`` it is plain HTTP/2. Raises Failure (AddressUnavailable).
        """
        address = f"{_bracketed(host)}:{port}"
        found = self._core.add_port(address, credentials)
        if found == 0:
            raise Failure(
                Reason.ADDRESS_UNAVAILABLE, f"cannot listen on {address}; see --grpc-port and --host."
            )
        self._core.start()
        return found

    async def finish(self, seconds: float) -> None:
        """Take no further request, and cut those that are not answered within ``seconds``."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        # gRPC would cancel what has arrived and waits for its turn: so first comes all of that, or, while
        # clients go on sending, some of it.
        quiet, patience = 0, loop.time() + min(seconds / 2, _PATIENCE_SECONDS)
        while quiet < _QUIET_LOOKS and loop.time() < patience:
            quiet = 0 if self._active else quiet + 1
            await asyncio.sleep(_LOOK_SECONDS)
        await self._core.stop(end - loop.time())

    # -- calls ---------------------------------------------------------------------------------------

    def _infer(self, call: Call, body: bytes) -> None:
        def respond(request: Request, response: Response) -> None:
            if not request.abandoned:
                call.gone = None
                self._active -= 1
                self._answer_inference(call, request, response)

        def gone() -> None:
            self._active -= 1
            request.abandon()

        request = self._request(call, body, "ModelInfer", respond)
        call.gone = gone
        self._active += 1
        try:
            response = self._infer_route.handler(request)
        except Exception:
            log.exception("handler failed", extra={"path": "ModelInfer", **trace_fields(request)})
            response = internal_error()
        if response is not None:
            respond(request, response)

    def _answer_inference(self, call: Call, request: Request, response: Response) -> None:
        # Before it is noted: what is not sent must not count as answered.
        response = self._arrivals.refusal(len(response.body)) or response
        response = self._note(request, response, call)
        if self._serving.recorder is not None:
            try:
                self._serving.recorder.answered(request, PROTOCOL, response.status, perf_counter())
            except Exception:
                log.exception("an answer was not counted")
        self._reply(request, response, call)

    def _answering(self, name: str, method: Callable[[bytes], Message]) -> Method:
        def handle(call: Call, body: bytes) -> None:
            request = self._request(call, body, name, lambda _request, _response: None)
            try:
                response = Response(200, method(body).SerializeToString())
            except InputError as error:
                response = error_response(error.status, error.message)
            self._reply(request, self._note(request, response, call), call)

        return lambda call: self._arrivals.message(call, partial(handle, call))

    def _note(self, request: Request, response: Response, call: Call) -> Response:
        if self._access is None or not (self._access.on or response.status >= 500):
            return response
        try:
            return self._access.note(request, response, perf_counter(), call.peer())
        except Exception:  # an answer does not depend on its line in the log
            log.exception("an answer was not logged")
            return response

    def _request(self, call: Call, body: bytes, method: str, respond: Respond) -> Request:
        """Return what has come as a request by HTTP."""
        key = method, tuple(call.metadata)
        head = self._heads.get(key)
        if head is None:
            head = self._head(method, call)
            # Others are different in each call.
            if head.request_id is None and b"traceparent" not in head.headers:
                if len(self._heads) >= _KEPT_HEADS:
                    self._heads.clear()
                self._heads[key] = head
        return Request(head, body, perf_counter(), respond)

    def _head(self, method: str, call: Call) -> Head:
        head = Head()
        head.method = b"POST"
        head.target = f"/{SERVICE}/{method}".encode()
        head.route = self._infer_route
        for name, value in call.metadata:
            head.headers[name.encode()] = value if isinstance(value, bytes) else value.encode()
        given = head.headers.get(b"x-request-id")
        head.request_id = given if given is not None and REQUEST_ID.fullmatch(given) else None
        return head

    def _reply(self, request: Request, response: Response, call: Call) -> None:
        if self._observer is not None:
            try:
                self._observer.answered(PROTOCOL, response.status, perf_counter() - request.received)
            except Exception:
                log.exception("an answer was not counted")
        self._arrivals.answered(call, len(response.body))
        trailing = tuple((name.decode(), value.decode("latin-1")) for name, value in response.headers)
        if request.head.request_id is not None:
            trailing = (*trailing, ("x-request-id", request.head.request_id.decode()))
        if response.status == 200:
            call.answer(response.body, trailing)
            return
        message = str(orjson.loads(response.body)["error"])
        code = status_code(response.status)
        call.fail(code, message, (*trailing, *retry_metadata(response, code, message)))

    def _server_live(self, body: bytes) -> Message:
        parse(pb.ServerLiveRequest, body)
        return pb.ServerLiveResponse(live=self._serving.health.live().good)

    def _server_ready(self, body: bytes) -> Message:
        parse(pb.ServerReadyRequest, body)
        return pb.ServerReadyResponse(ready=self._serving.health.ready().good)

    def _model_ready(self, body: bytes) -> Message:
        self._check_model(parse(pb.ModelReadyRequest, body))
        return pb.ModelReadyResponse(ready=self._serving.health.ready().good)

    def _server_metadata(self, body: bytes) -> Message:
        parse(pb.ServerMetadataRequest, body)
        # Binary tensors are a matter of HTTP; here they are part of the protocol.
        return pb.ServerMetadataResponse(name="solera", version=__version__)

    def _model_metadata(self, body: bytes) -> Message:
        self._check_model(parse(pb.ModelMetadataRequest, body))
        return self._metadata

    def _check_model(self, request: pb.ModelReadyRequest | pb.ModelMetadataRequest) -> None:
        check_model(self._serving.name, self._serving.version, request.name, request.version)


def _metadata(serving: Serving) -> pb.ModelMetadataResponse:
    loaded = serving.loaded
    document = v2.model_metadata(
        serving.name,
        serving.version,
        loaded.schema,
        loaded.predictor.outputs,
        f"sklearn_{loaded.sklearn_version}",
    )

    def tensors(key: str) -> list[pb.ModelMetadataResponse.TensorMetadata]:
        return [
            pb.ModelMetadataResponse.TensorMetadata(
                name=one["name"], datatype=one["datatype"], shape=one["shape"]
            )
            for one in document[key]
        ]

    return pb.ModelMetadataResponse(
        name=document["name"],
        versions=document["versions"],
        platform=document["platform"],
        inputs=tensors("inputs"),
        outputs=tensors("outputs"),
    )


def _bracketed(host: str | None) -> str:
    if host is None:
        return "[::]"
    return f"[{host}]" if ":" in host else host


def _options(limits: Limits) -> list[tuple[str, int]]:
    def milliseconds(seconds: float) -> int:
        return max(1, int(seconds * 1000))

    return [
        ("grpc.max_receive_message_length", limits.body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", limits.header_bytes),
        ("grpc.absolute_max_metadata_size", limits.header_bytes),
        ("grpc.max_concurrent_streams", _STREAMS_OF_A_CONNECTION),
        ("grpc.max_allowed_incoming_connections", limits.connections),
        # What comes unasked for stays small; while a message is read gRPC makes room for it.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _UNREAD_STREAM_BYTES),
        # Compressed messages are refused, as compressed bodies are: a small one may become a large one.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.server_handshake_timeout_ms", milliseconds(limits.receive_seconds)),
        ("grpc.max_connection_idle_ms", milliseconds(limits.idle_seconds)),
        ("grpc.max_connection_age_ms", milliseconds(limits.connection_age_seconds)),
        ("grpc.max_connection_age_grace_ms", milliseconds(limits.write_seconds)),
        ("grpc.keepalive_time_ms", milliseconds(_KEEPALIVE_SECONDS)),
        ("grpc.keepalive_timeout_ms", milliseconds(_PING_SECONDS)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", milliseconds(_PING_SECONDS)),
        # Workers share the port; that nobody else has it was seen before they began.
        ("grpc.so_reuseport", 1),
    ]
