"""
The page on a port, with what it asks for.

On the model port the form posts to the model's own routes, and counts as any other client does. On the
management port, beside which `kubectl port-forward` may show nothing, the same paths are answered by an
errand of that process: not counted, not recorded, without a receipt, one at a time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeAlias

from solera_server import v2
from solera_server.batch import InputError
from solera_server.errands import Errands
from solera_server.explain import service as explain
from solera_server.message import Request, Response, error_response, json_response
from solera_server.page.guard import Guard
from solera_server.page.rendering import page
from solera_server.router import Route
from solera_server.serving import liveness

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from solera_server.health import Health
    from solera_server.limits import Limits
    from solera_server.load import LoadedModel
    from solera_server.management import Probed
    from solera_server.metrics import Metrics


Routes: TypeAlias = dict[str, dict[bytes, Route]]

log = logging.getLogger(__name__)

PROTOCOL = "page"
LIVE = "/page/live"
_HERE = (
    "Predictions of this form are made in the management process; they are not counted, logged or monitored."
)
_THERE = "Predictions of this form count as any other client's do."


def live(metrics: Metrics, health: Probed) -> dict[str, Any]:
    """Return what the page looks at again and again."""
    return {**metrics.totals(), "ready": health.ready().good}


def wants_html(request: Request) -> bool:
    """Whether a browser asks: clients of the protocol do not name HTML."""
    return b"text/html" in request.headers.get(b"accept", b"")


def model_port_routes(
    name: str,
    version: str,
    loaded: LoadedModel,
    look: Callable[[], Mapping[str, Any]],
    health: Health,
) -> Routes:
    """Return the routes of the page on the model port; what is no browser gets V1's liveness at /."""
    shown = page(loaded, name, version, where=_THERE)

    def root(request: Request) -> Response:
        return shown if wants_html(request) else liveness(health)

    return {
        "/": {b"GET": Route(root, PROTOCOL)},
        LIVE: {b"GET": Route(lambda _request: json_response(look()), PROTOCOL)},
    }


class ManagementPage:
    """The page on the management port, which is there before the model: ``open`` when it is loaded."""

    def __init__(
        self,
        name: str,
        limits: Limits,
        look: Callable[[], Mapping[str, Any]],
        loop: asyncio.AbstractEventLoop,
        guard: Guard,
    ) -> None:
        self._name = name
        self._guard = guard
        self._limits = limits
        self._look = look
        self._loop = loop
        self._shown: Response | None = None
        self._routes: dict[str, Callable[[Request], Response | None]] = {}

    def open(self, loaded: LoadedModel, version: str) -> None:
        """Show a model."""
        schema, predictor = loaded.schema, loaded.predictor
        codec = v2.V2Codec(self._name, version, schema, predictor.outputs, self._limits)

        def predict(request: Request) -> Response:
            try:
                call = codec.decode(request.body, request.headers)
                return call.render(predictor.predict(call.batch, call.outputs))
            except InputError as error:
                return error_response(error.status, error.message)
            except Exception:
                log.exception("prediction failed", extra={"body_bytes": len(request.body)})
                return error_response(500, "the prediction failed; the server's log says why")

        self._routes = {self._infer: Errands(self._loop, "page").handler(predict)}
        explaining = explain.routes(self._name, version, loaded, self._limits, self._loop)
        self._routes[self._explain] = explaining[self._explain][b"POST"].handler
        self._shown = page(loaded, self._name, version, where=_HERE)

    def routes(self) -> Routes:
        """Return the routes of the page; before ``open`` they answer 503."""
        reading, posting = self._guard.reading, self._guard.posting
        every: Routes = {
            "/": {b"GET": Route(reading(self._root), PROTOCOL)},
            LIVE: {b"GET": Route(reading(lambda _request: json_response(self._look())), PROTOCOL)},
        }
        for path in (self._infer, self._explain):
            every[path] = {b"POST": Route(posting(self._at(path)), PROTOCOL, reads_json=True)}
        return every

    @property
    def _infer(self) -> str:
        return f"/v2/models/{self._name}/infer"

    @property
    def _explain(self) -> str:
        return f"/v1/models/{self._name}:explain"

    def _root(self, _request: Request) -> Response:
        return self._shown or _not_loaded()

    def _at(self, path: str) -> Callable[[Request], Response | None]:
        def handle(request: Request) -> Response | None:
            found = self._routes.get(path)
            return _not_loaded() if found is None else found(request)

        return handle


def _not_loaded() -> Response:
    return error_response(503, "the model is not loaded yet", (b"retry-after", b"1"))
