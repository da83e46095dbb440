"""The handlers of the model port: health, metadata and predictions of both protocols."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from solera_server import __version__, v2
from solera_server.batch import Layout
from solera_server.explain import service as explain
from solera_server.message import Request, Response, error_response, json_response
from solera_server.plain_turn import PlainTurn
from solera_server.predicting import Prediction
from solera_server.predictor import described
from solera_server.request_size import short_work
from solera_server.router import Route, Router
from solera_server.v1 import V1Codec

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from solera_server.busy_poll import BusyPoll
    from solera_server.codec import Codec
    from solera_server.health import Health, Verdict
    from solera_server.limits import Limits
    from solera_server.load import LoadedModel
    from solera_server.metrics import Metrics
    from solera_server.predicting import Recorder
    from solera_server.scheduler import Scheduler

_V1, _V2 = "v1", "v2"


@dataclass(frozen=True, slots=True)
class Serving:
    """One model under one name and version, and what it takes to answer for it."""

    name: str
    version: str
    loaded: LoadedModel
    scheduler: Scheduler
    health: Health
    metrics: Metrics
    limits: Limits
    recorder: Recorder | None = None
    extra_routes: Mapping[str, Mapping[bytes, Route]] = field(default_factory=dict)
    """By path; what other parts of the server answer on the model port."""

    codecs: tuple[V1Codec, v2.V2Codec] = field(init=False)
    short_v1: V1Codec = field(init=False)
    """Of V1 alone a few bytes may mean many values: those that an object or the columns leave out."""

    def __post_init__(self) -> None:
        schema, outputs = self.loaded.schema, self.loaded.predictor.outputs
        of_v1 = V1Codec(schema, self.limits, outputs)
        of_v2 = v2.V2Codec(self.name, self.version, schema, outputs, self.limits)
        object.__setattr__(self, "codecs", (of_v1, of_v2))
        object.__setattr__(self, "short_v1", V1Codec(schema, short_work(self.limits), outputs))
        self.scheduler.serve(self.loaded.predictor, Layout(schema.features))

    def router(self) -> Router:
        """Return the routes of the model port."""
        schema, outputs = self.loaded.schema, self.loaded.predictor.outputs
        platform = f"sklearn_{self.loaded.sklearn_version}"
        metadata = {
            **v2.model_metadata(self.name, self.version, schema, outputs, platform),
            "parameters": {**described(self.loaded.predictor), **explain.parameters(self.loaded)},
        }
        of_v1, of_v2 = self.codecs
        predict_v1, predict_v2 = self.predicting(of_v1, self.short_v1), self.predicting(of_v2)
        server = {"name": "solera", "version": __version__, "extensions": list(v2.EXTENSIONS)}
        v1_model, v2_model = f"/v1/models/{self.name}", f"/v2/models/{self.name}"
        versioned = f"{v2_model}/versions/{self.version}"
        routes: dict[str, dict[bytes, Route]] = {
            "/": _get(_V1, self._alive),
            "/v1/models": _get(_V1, _constant({"models": [self.name]})),
            v1_model: _get(_V1, self._model_ready),
            f"{v1_model}:predict": {b"POST": Route(predict_v1, _V1, reads_json=True, predicts=True)},
            "/v2": _get(_V2, _constant(server)),
            "/v2/": _get(_V2, _constant(server)),
            "/v2/health/live": _get(_V2, self._server_live),
            "/v2/health/ready": _get(_V2, self._server_ready),
        }
        for prefix in (v2_model, versioned):
            routes[prefix] = _get(_V2, _constant(metadata))
            routes[f"{prefix}/ready"] = _get(_V2, self._model_ready)
            predicting = Route(predict_v2, _V2, reads_json=True, reads_binary=True, predicts=True)
            routes[f"{prefix}/infer"] = {b"POST": predicting}
        every: dict[str, Mapping[bytes, Route]] = {**routes, **self.extra_routes}
        return Router({path.encode(): methods for path, methods in every.items()}, self._missing)

    def plain_turn(
        self, loop: asyncio.AbstractEventLoop, busy_poll: BusyPoll | None = None
    ) -> PlainTurn | None:
        """Return what takes plain requests; None where it cannot, or where counting is not all."""
        codecs = self.short_v1, self.codecs[1]
        plain = all(codec.plain.reader is not None for codec in codecs)
        if not plain or (self.recorder is not None and not self.recorder.plain):
            return None
        return PlainTurn(
            loop,
            self.scheduler,
            codecs,
            self.metrics,
            self.recorder,
            limits=self.limits,
            busy_poll=busy_poll,
        )

    def predicting(self, codec: Codec, short: Codec | None = None) -> Callable[[Request], Response | None]:
        """Return a handler that predicts what the codec makes of a request; ``short`` as for Prediction."""
        submit, metrics, recorder = self.scheduler.submit, self.metrics, self.recorder

        def handle(request: Request) -> Response | None:
            seconds = submit(Prediction(request, codec, metrics, recorder, short))
            return None if seconds is None else _too_many(seconds)

        return handle

    def _alive(self, _request: Request) -> Response:
        return liveness(self.health)

    def _server_live(self, _request: Request) -> Response:
        verdict = self.health.live()
        return _verdict(verdict, {"live": verdict.good})

    def _server_ready(self, _request: Request) -> Response:
        # The protocol's text has "live" in the answer to ready as well; clients read "ready".
        verdict = self.health.ready()
        return _verdict(verdict, {"live": self.health.live().good, "ready": verdict.good})

    def _model_ready(self, _request: Request) -> Response:
        verdict = self.health.ready()
        return _verdict(verdict, {"name": self.name, "ready": verdict.good})

    def _missing(self, path: str) -> str:
        _, _, after = path.partition("/models/")
        name = after.partition("/")[0].partition(":")[0]
        if name and name != self.name:
            return f'there is no model "{name}" here; this server has "{self.name}"'
        _, _, version = path.partition("/versions/")
        version = version.partition("/")[0]
        if version and version != self.version:
            return f'there is no version "{version}" here; this server has "{self.version}"'
        if path == f"/v1/models/{self.name}:feedback":
            return (
                "feedback is off on this server; it is on where solera-server is started with --receipt-keys"
            )
        return f'there is nothing at "{path}"; see /v1/models and /v2'


@lru_cache(maxsize=100)
def _too_many(seconds: int) -> Response:
    return error_response(503, "too many requests wait; try again", (b"retry-after", b"%d" % seconds))


def liveness(health: Health) -> Response:
    """Return what `GET /` says in V1, as KServe's client asks it."""
    verdict = health.live()
    return _verdict(verdict, {"status": "alive" if verdict.good else "not alive"})


def _get(protocol: str, handler: Callable[[Request], Response]) -> dict[bytes, Route]:
    return {b"GET": Route(handler, protocol)}


def _constant(value: Any) -> Callable[[Request], Response]:
    response = json_response(value)
    return lambda _request: response


def _verdict(verdict: Verdict, body: dict[str, Any]) -> Response:
    return json_response(
        body if verdict.good else {**body, "error": verdict.reason}, 200 if verdict.good else 503
    )
