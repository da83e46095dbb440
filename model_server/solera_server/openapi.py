"""
An OpenAPI document of this server and this model, made from the model's schema: ``GET /openapi.json``.

It is made when it is first asked for. What JSON Schema cannot say (that a tensor has as many elements as its
shape means, that its values are of its datatype) stands in words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from solera_server import __version__
from solera_server import openapi_schemas as schemas
from solera_server.message import Response
from solera_server.openapi_others import add_others
from solera_server.openapi_schemas import JSON, Json, error_responses, objects, reference
from solera_server.request_size import RequestSize
from solera_server.router import Route

if TYPE_CHECKING:
    from collections.abc import Collection

    from solera_core.schema import Schema
    from solera_server.limits import Limits
    from solera_server.load import LoadedModel
    from solera_server.message import Request

PATH = "/openapi.json"
_BINARY = "application/octet-stream"
_DESCRIPTION = """\
A scikit-learn model, served by Solera over the V1 protocol and the Open Inference Protocol (V2).

Any other path gets a 404, another method a 405 with `Allow`. `X-Request-Id` is given back. The limits in \
`x-limits` hold together: bytes, seconds and counts as the options of solera-server name them.\
"""


def routes(
    name: str, version: str, loaded: LoadedModel, limits: Limits, others: Collection[str] = ()
) -> dict[str, dict[bytes, Route]]:
    """Return the route of the document. ``others`` are paths that other parts of the server answer."""
    made: list[Response] = []

    def get(_request: Request) -> Response:
        if not made:
            content = document(name, version, loaded.schema, loaded.predictor.outputs, limits)
            explainable = loaded.explainer is not None
            add_others(content, name, loaded.schema, limits, others, explainable=explainable)
            made.append(Response(200, orjson.dumps(content)))
        return made[0]

    return {PATH: {b"GET": Route(get, "other")}}


def document(
    name: str, version: str, schema: Schema, outputs: tuple[str, ...], limits: Limits
) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of one model. ``outputs`` are the names that its predictor offers."""
    size = RequestSize(schema, limits)
    v2_model = f"/v2/models/{name}"
    paths: Json = {
        "/": _get("Liveness, as KServe's client asks for it", reference("Alive"), unready="Alive"),
        "/v1/models": _get("The models of this server", objects(models={"const": [name]})),
        f"/v1/models/{name}": _get("Readiness (V1)", reference("ModelReady"), unready="ModelReady"),
        f"/v1/models/{name}:predict": {"post": _predict_v1(schema, size)},
        "/v2": _get(
            "The server",
            objects(
                name={"const": "solera"},
                version={"type": "string"},
                extensions={"type": "array", "items": {"type": "string"}},
            ),
        ),
        "/v2/health/live": _get("Liveness", reference("Live"), unready="Live"),
        "/v2/health/ready": _get("Readiness", reference("Ready"), unready="Ready"),
    }
    for prefix in (v2_model, f"{v2_model}/versions/{version}"):
        paths[prefix] = _get("Inputs and outputs of the model", reference("ModelMetadata"))
        paths[f"{prefix}/ready"] = _get("Readiness (V2)", reference("ModelReady"), unready="ModelReady")
        paths[f"{prefix}/infer"] = {"post": _infer_v2(schema, outputs)}
    paths[PATH] = _get("This document", {"type": "object", "required": ["openapi", "paths"]})
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{name} {version}", "version": __version__, "description": _DESCRIPTION},
        "x-limits": {
            "max-body-bytes": limits.body_bytes,
            "max-header-bytes": limits.header_bytes,
            "max-json-depth": limits.json_depth,
            "max-rows": size.rows,
            "receive-timeout": limits.receive_seconds,
        },
        "paths": paths,
        "components": {"schemas": _components(name, version, schema, outputs, size)},
    }


def _get(summary: str, answer: Json, *, unready: str | None = None) -> Json:
    found = {"200": {"description": "OK", "content": {JSON: {"schema": answer}}}}
    if unready is not None:
        schema = {"allOf": [reference(unready), reference("Error")]}
        found["503"] = {"description": "It is not.", "content": {JSON: {"schema": schema}}}
    return {"get": {"summary": summary, "responses": found}}


def _predict_v1(schema: Schema, size: RequestSize) -> Json:
    row = schemas.example_row(schema.features)
    examples = {
        "by name": {"value": {"instances": [row]}},
        "by position": {"value": {"instances": [list(row.values())]}},
        "columns": {"value": {"inputs": {name: [value, value] for name, value in row.items()}}},
    }
    body = {"schema": reference("PredictRequest"), "examples": examples}
    ok = {
        "description": "One prediction for each row.",
        "content": {JSON: {"schema": reference("Predictions")}},
    }
    return {
        "summary": f"Predict (V1); at most {size.rows} rows",
        "requestBody": {"required": True, "content": {JSON: body}},
        "responses": {"200": ok, **error_responses()},
    }


def _infer_v2(schema: Schema, outputs: tuple[str, ...]) -> Json:
    examples = {form: {"value": body} for form, body in schemas.example_inputs(schema.features).items()}
    first = next(iter(examples.values()))["value"]
    examples["one output"] = {"value": {"id": "7", **first, "outputs": [{"name": outputs[-1]}]}}
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "How many bytes of the body are JSON; the binary tensors of the inputs follow.",
        "schema": {"type": "integer", "minimum": 0},
    }
    binary: Json = {
        "schema": {"type": "string", "format": "binary"},
    }
    returned = {"description": length["description"], "schema": length["schema"]}
    ok: Json = {
        "description": "The outputs that were asked for; as bytes where that was asked for.",
        "headers": {"Inference-Header-Content-Length": returned},
        "content": {JSON: {"schema": reference("InferResponse")}, _BINARY: binary},
    }
    return {
        "summary": "Predict (V2)",
        "description": "With the extension binary_tensor_data: an input without data, whose parameter "
        "binary_data_size says how many of the bytes behind the JSON are its own.",
        "parameters": [length],
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": reference("InferRequest"), "examples": examples}, _BINARY: binary},
        },
        "responses": {"200": ok, **error_responses()},
    }


def _components(name: str, version: str, schema: Schema, outputs: tuple[str, ...], size: RequestSize) -> Json:
    boolean, text = {"type": "boolean"}, {"type": "string"}
    used = {feature.type for feature in schema.features}
    tensor = objects(
        name=text,
        datatype=text,
        shape={"type": "array", "items": {"type": "integer"}},
        parameters={"type": "object"},
    )
    tensor["required"] = ["name", "datatype", "shape"]
    return {
        **{kind: value for kind, value in schemas.VALUES.items() if kind in used},
        "Error": {"type": "object", "required": ["error"], "properties": {"error": text}},
        "Alive": {"type": "object", "required": ["status"], "properties": {"status": text}},
        "Live": {"type": "object", "required": ["live"], "properties": {"live": boolean}},
        "Ready": {
            "type": "object",
            "required": ["live", "ready"],
            "properties": {"live": boolean, "ready": boolean},
        },
        "ModelReady": {
            "type": "object",
            "required": ["name", "ready"],
            "properties": {"name": {"const": name}, "ready": boolean},
        },
        "ModelMetadata": objects(
            name={"const": name},
            versions={"const": [version]},
            platform=text,
            inputs={"type": "array", "items": tensor},
            outputs={"type": "array", "items": tensor},
            parameters={"type": "object"},
        )
        | {"required": ["name", "versions", "platform", "inputs", "outputs"]},
        "PredictRequest": schemas.rows_request(
            schema.features,
            size,
            {"probabilities": {"type": "boolean"} if "predict_proba" in outputs else {"const": False}},
        ),
        "Predictions": schemas.predictions(schema, outputs),
        "InferRequest": schemas.infer_request(name, schema, outputs),
        "InferResponse": _infer_response(name, version, schema, outputs),
    }


def _infer_response(name: str, version: str, schema: Schema, outputs: tuple[str, ...]) -> Json:
    response = objects(
        model_name={"const": name},
        model_version={"const": version},
        id={"type": "string"},
        parameters={"type": "object"},
        outputs=schemas.outputs(schema, outputs),
    )
    response["required"] = ["model_name", "model_version", "outputs"]
    return response
