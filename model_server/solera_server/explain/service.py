"""
The explanations of the model port: routes and bounds.

They are computed as errands, in another thread than the predictions: one costs many times a prediction.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from solera_server.batch import InputError
from solera_server.errands import Errands
from solera_server.explain.codecs import ExplainV1, ExplainV2
from solera_server.explain.explainer import DoesNotAddUp
from solera_server.explain.method import NotExplainable
from solera_server.message import Request, Response, error_response
from solera_server.router import Route

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from solera_server.explain.codecs import Question
    from solera_server.explain.explainer import Explainer
    from solera_server.limits import Limits
    from solera_server.load import LoadedModel

log = logging.getLogger(__name__)

PROTOCOL = "explain"
MAX_SECONDS = 1.0
"""How long a request of more than one row may take, by the estimate for this model."""


def routes(
    name: str, version: str, loaded: LoadedModel, limits: Limits, loop: asyncio.AbstractEventLoop
) -> dict[str, dict[bytes, Route]]:
    """Return what the model port answers at the paths of explanations."""
    paths_v2 = [f"/v2/models/{name}/explain", f"/v2/models/{name}/versions/{version}/explain"]
    explainer = loaded.explainer
    if explainer is None:
        refusal = error_response(501, f"this model cannot be explained: {loaded.not_explained}")
        route = Route(lambda _request: refusal, PROTOCOL, reads_json=True)
        return {path: {b"POST": route} for path in (f"/v1/models/{name}:explain", *paths_v2)}
    service = _Service(explainer, limits, loop)
    v1 = service.handler(ExplainV1(loaded.schema, explainer, limits).decode)
    v2 = service.handler(ExplainV2(name, version, loaded.schema, explainer, limits).decode)
    found = {f"/v1/models/{name}:explain": {b"POST": Route(v1, PROTOCOL, reads_json=True)}}
    for path in paths_v2:
        found[path] = {b"POST": Route(v2, PROTOCOL, reads_json=True, reads_binary=True)}
    return found


def parameters(loaded: LoadedModel) -> dict[str, str | bool]:
    """Return what the model's metadata says of explanations."""
    explainer = loaded.explainer
    if explainer is None:
        return {"explain": False, "explain_reason": loaded.not_explained}
    return {"explain": explainer.method, "explain_scale": explainer.scale}


if TYPE_CHECKING:
    Decode = Callable[[bytes, Mapping[bytes, bytes]], Question]


class _Service:
    def __init__(self, explainer: Explainer, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self._explainer = explainer
        self._limits = limits
        self._errands = Errands(loop, "explain")

    def handler(self, decode: Decode) -> Callable[[Request], Response | None]:
        return self._errands.handler(lambda request: self._answer(request, decode))

    def _answer(self, request: Request, decode: Decode) -> Response:
        """Decode, explain, encode; never raises."""
        try:
            question = decode(request.body, request.headers)
            self._check_size(question)
            return question.render(self._explainer.explain(question.batch))
        except InputError as error:
            return error_response(error.status, error.message)
        except NotExplainable as error:
            return error_response(501, f"this model cannot be explained: {error}")
        except DoesNotAddUp:
            log.exception("an explanation does not add up to the prediction and was not sent")
            return error_response(500, "the explanation failed its check; the server's log says why")
        except Exception:
            log.exception("explaining failed", extra={"body_bytes": len(request.body)})
            return error_response(500, "the explanation failed; the server's log says why")

    def _check_size(self, question: Question) -> None:
        """Raise InputError (413) where answer or time would be too large; one row is always taken."""
        rows, explainer = question.batch.rows, self._explainer
        fit = int(MAX_SECONDS / max(explainer.seconds(1), 1e-9))
        values = explainer.values(every=question.every)
        fit = max(1, min(fit, self._limits.cells // values))
        if rows > fit:
            raise InputError(
                f"{rows} rows are too many for one explanation of this model; send at most {fit} a request",
                413,
            )
