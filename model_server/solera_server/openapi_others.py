"""What the OpenAPI document says of explanations and feedback, where a server answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from solera_server import openapi_schemas as schemas
from solera_server.openapi_schemas import JSON, Json, error_responses, objects, reference
from solera_server.request_size import RequestSize

if TYPE_CHECKING:
    from collections.abc import Collection

    from solera_core.schema import Schema
    from solera_server.limits import Limits

_CLASSES: Json = {"enum": ["predicted", "all"], "description": "of which classes to explain the output"}
_OUTPUTS = ("predict", "contributions", "base_value", "output", "features", "classes", "scale", "method")


def add_others(
    document: Json,
    name: str,
    schema: Schema,
    limits: Limits,
    others: Collection[str],
    *,
    explainable: bool,
) -> None:
    """Add the operations of those paths in ``others`` that a client may use, with their schemas."""
    paths, components = document["paths"], document["components"]["schemas"]
    if "/" in others:  # the page, for who asks for HTML
        paths["/"]["get"]["responses"]["200"]["content"]["text/html"] = {"schema": {"type": "string"}}
    if f"/v1/models/{name}:feedback" in others:
        paths[f"/v1/models/{name}:feedback"] = {"post": _feedback(schema)}
    if not explainable:
        return
    parameters = {"classes": _CLASSES}
    size = RequestSize(schema, limits)
    components["ExplainRequest"] = schemas.rows_request(schema.features, size, parameters)
    components["ExplainRequestV2"] = schemas.infer_request(name, schema, _OUTPUTS, parameters)
    components["ExplainResponse"] = objects(
        predictions={"type": "array", "items": schemas.prediction(schema)},
        explanations={"type": "array", "items": {"type": "object"}},
        scale={"type": "string"},
        method={"type": "string"},
    )
    for path in others:
        if path.endswith(":explain"):
            summary = "Contributions of the features, which add up to the output (V1)"
            paths[path] = {"post": _post(summary, "ExplainRequest", reference("ExplainResponse"))}
        elif path.endswith("/explain"):
            summary = "Contributions of the features, which add up to the output (V2)"
            paths[path] = {"post": _post(summary, "ExplainRequestV2", {"type": "object"})}


def _feedback(schema: Schema) -> Json:
    classes = schema.target.classes
    field: Json = {"label": {"enum": list(classes)}} if classes else {"value": {"type": "number"}}
    request = objects(receipt={"type": "string"}, row={"type": "integer", "minimum": 0}, **field)
    request["required"] = list(field)
    operation = _post("What turned out to be true of a row that was predicted", request, {"type": "object"})
    error = {"content": {JSON: {"schema": reference("Error")}}}
    operation["responses"] |= {
        "403": {"description": "The receipt is not of this model.", **error},
        "409": {"description": "The row has its label already.", **error},
        "410": {"description": "The receipt is too old.", **error},
    }
    return operation


def _post(summary: str, request: str | Json, answer: Json) -> dict[str, Any]:
    body = reference(request) if isinstance(request, str) else request
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {JSON: {"schema": body}}},
        "responses": {
            "200": {"description": "OK", "content": {JSON: {"schema": answer}}},
            **error_responses(),
        },
    }
