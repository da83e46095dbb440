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
from time import perf_counter
from typing import TYPE_CHECKING, Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would write to stderr what is no line of our log

import grpc
import orjson

from solera_core.failures import Failure, Reason
from solera_server import __version__, v2
from solera_server.access_log import trace_fields
from solera_server.batch import InputError
from solera_server.grpc_arrivals import Arrivals
from solera_server.grpc_codec import GrpcCodec, check_model, parse
from solera_server.grpc_health import SERVICE as HEALTH_SERVICE
from solera_server.grpc_health import health_handler
from solera_server.grpc_reflection_service import SERVICE as REFLECTION_SERVICE
from solera_server.grpc_reflection_service import reflection_handler
from solera_server.grpc_status import retry_metadata, status_code
from solera_server.message import REQUEST_ID, Head, Request, Response, error_response, internal_error
from solera_server.open_inference import open_inference_pb2 as pb
from solera_server.router import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

    from solera_server.access_log import Noting
    from solera_server.http_server import Observer
    from solera_server.limits import Limits
    from solera_server.serving import Serving

    _Handle = Callable[[bytes, grpc.aio.ServicerContext[Any, Any]], Awaitable[bytes]]

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
        schema, outputs = serving.loaded.schema, serving.loaded.predictor.outputs
        codec = GrpcCodec(serving.name, serving.version, schema, outputs, limits)
        self._infer_route = Route(serving.predicting(codec), PROTOCOL)
        self._metadata = _metadata(serving)
        self._server = grpc.aio.server(
            options=_options(limits), maximum_concurrent_rpcs=max(limits.connections, 2 * limits.in_flight)
        )
        calls: dict[str, Callable[[bytes], Message]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
        }
        handlers = {name: self._receiving(self._answering(name, call)) for name, call in calls.items()}
        handlers["ModelInfer"] = self._receiving(self._infer)
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, handlers),
                health_handler(serving.health, ("", SERVICE), self._arrivals),
                reflection_handler((SERVICE, HEALTH_SERVICE, REFLECTION_SERVICE), limits.receive_seconds),
            )
        )

    async def listen(
        self, host: str | None, port: int, credentials: grpc.ServerCredentials | None = None
    ) -> int:
        """
        Begin to answer and return the port (of interest when ``port`` is 0).

        Without ``credentials`` it is plain HTTP/2. Raises Failure (AddressUnavailable).
        """
        address = f"{_bracketed(host)}:{port}"
        try:
            if credentials is None:
                found = self._server.add_insecure_port(address)
            else:
                found = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise Failure(
                Reason.ADDRESS_UNAVAILABLE, f"cannot listen on {address}; see --grpc-port and --host."
            ) from error
        await self._server.start()
        return int(found)

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
        await self._server.stop(end - loop.time())

    # -- calls ---------------------------------------------------------------------------------------

    def _receiving(self, handle: _Handle) -> grpc.RpcMethodHandler:
        """
        Return a handler that waits for a call's message for as long as HTTP waits for a request.

        To gRPC it is one of many messages: for a single one it would wait as long as the client likes, and
        the call would take the place of another.
        """
        arrivals = self._arrivals

        async def receive(_messages: object, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            async with arrivals.message(context) as body:
                answer = await handle(body, context)
            return arrivals.answer(context, answer)

        return grpc.stream_unary_rpc_method_handler(receive)

    async def _infer(self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        request, answered = self._request(body, context, "ModelInfer")
        self._active += 1
        try:
            response = self._infer_route.handler(request)
            if response is None:
                response = await answered
        except asyncio.CancelledError:
            # The client has gone, or its deadline has passed.
            request.abandon()
            raise
        except Exception:
            log.exception("handler failed", extra={"path": "ModelInfer", **trace_fields(request)})
            response = internal_error()
        finally:
            self._active -= 1
        # Before it is noted: what is not sent must not count as answered.
        response = self._arrivals.refusal(len(response.body)) or response
        response = self._note(request, response, context)
        if self._serving.recorder is not None:
            self._serving.recorder.answered(request, PROTOCOL, response.status, perf_counter())
        return await self._reply(request, response, context)

    def _answering(self, name: str, call: Callable[[bytes], Message]) -> _Handle:
        async def handle(body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            request, _ = self._request(body, context, name)
            try:
                response = Response(200, call(body).SerializeToString())
            except InputError as error:
                response = error_response(error.status, error.message)
            response = self._note(request, response, context)
            return await self._reply(request, response, context)

        return handle

    def _note(
        self, request: Request, response: Response, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Response:
        if self._access is None or not (self._access.on or response.status >= 500):
            return response
        return self._access.note(request, response, perf_counter(), context.peer())

    def _request(
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any], method: str
    ) -> tuple[Request, asyncio.Future[Response]]:
        """Return what has come as a request by HTTP, and what will be its response."""
        answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        head = Head()
        head.method = b"POST"
        head.target = f"/{SERVICE}/{method}".encode()
        head.route = self._infer_route
        for key, value in context.invocation_metadata() or ():
            head.headers[key.encode()] = value if isinstance(value, bytes) else value.encode()
        given = head.headers.get(b"x-request-id")
        head.request_id = given if given is not None and REQUEST_ID.fullmatch(given) else None

        def respond(_request: Request, response: Response) -> None:
            if not answered.done():
                answered.set_result(response)

        return Request(head, body, perf_counter(), respond), answered

    async def _reply(
        self, request: Request, response: Response, context: grpc.aio.ServicerContext[Any, Any]
    ) -> bytes:
        if self._observer is not None:
            self._observer.answered(PROTOCOL, response.status, perf_counter() - request.received)
        trailing = [(name.decode(), value.decode("latin-1")) for name, value in response.headers]
        if request.head.request_id is not None:
            trailing.append(("x-request-id", request.head.request_id.decode()))
        if response.status == 200:
            if trailing:
                context.set_trailing_metadata(tuple(trailing))
            return response.body
        message = str(orjson.loads(response.body)["error"])
        code = status_code(response.status)
        await context.abort(code, message, (*trailing, *retry_metadata(response, code, message)))
        raise AssertionError("abort raises")

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
