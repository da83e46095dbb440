"""JSON Schemas of what a model takes and answers, made from its own schema."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from solera_core.schema import BOOLEAN, DATETIME, FLOAT, INTEGER, MAX_EXACT_INTEGER, STRING
from solera_server.tensors import ADVERTISED, accepted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solera_core.schema import Feature, Schema
    from solera_server.request_size import RequestSize

Json = dict[str, Any]
JSON = "application/json"

_LARGEST = sys.float_info.max
VALUES: dict[str, Json] = {
    FLOAT: {
        "anyOf": [
            {"type": "number", "minimum": -_LARGEST, "maximum": _LARGEST},
            {"enum": ["Infinity", "-Infinity"], "description": "if the model takes it"},
        ]
    },
    INTEGER: {"type": "integer", "minimum": -MAX_EXACT_INTEGER, "maximum": MAX_EXACT_INTEGER},
    STRING: {"type": "string"},
    BOOLEAN: {"type": "boolean"},
    DATETIME: {
        "type": "string",
        "anyOf": [{"format": "date-time"}, {"format": "date"}],
        "description": "ISO 8601; UTC where it names no zone",
    },
}
"""What a value of a feature may be, but for a missing one."""

_EXAMPLES: dict[str, Any] = {
    FLOAT: 1.5,
    INTEGER: 2,
    STRING: "text",
    BOOLEAN: True,
    DATETIME: "2026-03-01T12:00:00Z",
}
NUMBER: Json = {
    "description": "null stands for what is no number",
    "anyOf": [{"type": "number"}, {"enum": ["Infinity", "-Infinity"]}, {"type": "null"}],
}
_REFUSALS = {
    "400": "Not HTTP, not JSON, not the protocol or not the schema; or a value that the model does not take.",
    "408": "The request did not arrive in time.",
    "413": "The body is too large, or asks for too many rows.",
    "415": "Another Content-Type, or a Content-Encoding.",
    "417": "An Expect that is not known.",
    "431": "The headers are too large.",
    "500": "The model failed; the log says why.",
    "503": "Too many requests wait, or the server is not ready.",
}
PARAMETERS: Json = {
    "type": ["object", "null"],
    "properties": {"classification": False, "shared_memory_region": False},
    "additionalProperties": {"type": ["string", "number", "boolean"]},
    "description": "Passed over unless known.",
}


def reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def value_schema(feature: Feature) -> Json:
    """Return the schema of a feature's value in V1: by reference to its type."""
    one = reference(feature.type)
    if feature.nullable:
        missing: Json = {"type": "null"}
        if feature.type == FLOAT:
            missing = {"enum": [None, "NaN"]}
        one = {"anyOf": [one, missing]}
    if feature.categories:
        one = {**one, "examples": list(feature.categories)}
    return one


def example_value(feature: Feature) -> Any:
    """Return a value that the feature takes."""
    return feature.categories[0] if feature.categories else _EXAMPLES[feature.type]


def example_row(features: Sequence[Feature]) -> Json:
    return {feature.name: example_value(feature) for feature in features}


def instances(features: Sequence[Feature], size: RequestSize) -> Json:
    """Return the schema of V1's rows: by position or by name, all of one kind."""
    width = len(features)
    by_name = {
        "type": "object",
        "properties": {feature.name: value_schema(feature) for feature in features},
        "required": [feature.name for feature in features if not feature.nullable],
        "additionalProperties": False,
    }
    by_position = {
        "type": "array",
        "prefixItems": [value_schema(feature) for feature in features],
        "items": False,
        "minItems": width,
        "maxItems": width,
    }
    kinds = [by_name, by_position]
    if width == 1:
        kinds.append(value_schema(features[0]))
    bounds = {"type": "array", "minItems": 1, "maxItems": size.rows}
    return {"anyOf": [{**bounds, "items": kind} for kind in kinds]}


def columns(features: Sequence[Feature], size: RequestSize) -> Json:
    """Return the schema of V1's columns: a list of values for each feature, all of one length."""
    bounds = {"type": "array", "minItems": 1, "maxItems": size.rows}
    return {
        "type": "object",
        "properties": {feature.name: {**bounds, "items": value_schema(feature)} for feature in features},
        "required": [feature.name for feature in features if not feature.nullable],
        "minProperties": 1,
        "additionalProperties": False,
    }


def rows_request(features: Sequence[Feature], size: RequestSize, parameters: Json) -> Json:
    """Return the schema of a request of V1, as rows or as columns, with these parameters."""
    known = {**objects(**parameters), "required": []}
    forms = [
        {**objects(**values, parameters=known), "required": list(values)}
        for values in ({"instances": instances(features, size)}, {"inputs": columns(features, size)})
    ]
    return {"anyOf": forms}


def predictions(schema: Schema, names: Sequence[str]) -> Json:
    """Return the schema of a response of V1."""
    found = {"predictions": {"type": "array", "items": prediction(schema)}}
    if "predict_proba" in names:
        by_class = {"type": "object", "additionalProperties": NUMBER}
        found["probabilities"] = {"type": "array", "items": by_class}
    return {**objects(**found), "required": ["predictions"]}


def inputs(features: Sequence[Feature]) -> Json:
    """Return the schema of V2's input tensors: one matrix, or one tensor for each feature."""
    forms: list[Json] = []
    common = matrix_datatypes(features)
    if common:
        matrix = _tensor({"type": "string"}, common, features)
        forms.append({"type": "array", "items": matrix, "minItems": 1, "maxItems": 1})
    width = len(features)
    each = [_tensor({"const": feature.name}, _in_json(feature), [feature]) for feature in features]
    forms.append({"type": "array", "items": {"anyOf": each}, "minItems": width, "maxItems": width})
    return {"anyOf": forms}


def matrix_datatypes(features: Sequence[Feature]) -> tuple[str, ...]:
    """Return the datatypes that all features take, in JSON; none where they differ."""
    first = _in_json(features[0])
    return first if all(_in_json(feature) == first for feature in features) else ()


def _in_json(feature: Feature) -> tuple[str, ...]:
    return tuple(datatype for datatype in accepted(feature) if datatype != "BF16")


def _tensor(name: Json, datatypes: Sequence[str], features: Sequence[Feature]) -> Json:
    kinds = {feature.type for feature in features}
    values = [reference(kind) for kind in sorted(kinds)]
    if any(feature.nullable for feature in features):
        values.append({"enum": [None, "NaN"]} if FLOAT in kinds else {"type": "null"})
    value: Json = {"anyOf": values}
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "additionalProperties": False,
        "properties": {
            "name": name,
            "shape": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0},
                "minItems": 1,
                "maxItems": 2,
            },
            "datatype": {"enum": list(datatypes)},
            "parameters": PARAMETERS,
            "data": {
                "type": "array",
                "description": "As many elements as the shape says, row by row; rows may be lists.",
                "items": {"anyOf": [value, {"type": "array", "items": value}]},
            },
        },
    }


def example_inputs(features: Sequence[Feature]) -> dict[str, Json]:
    """Return bodies of V2 that a model takes, by a name for each form."""
    found = {
        "columns": {
            "inputs": [
                {
                    "name": feature.name,
                    "shape": [1],
                    "datatype": ADVERTISED.get(feature.type, "BYTES"),
                    "data": [example_value(feature)],
                }
                for feature in features
            ]
        }
    }
    common = matrix_datatypes(features)
    if common:
        datatype = "FP64" if "FP64" in common else common[0]
        data = [example_value(feature) for feature in features]
        matrix = {"name": "x", "shape": [1, len(features)], "datatype": datatype, "data": data}
        found["matrix"] = {"inputs": [matrix]}
    return found


def prediction(schema: Schema) -> Json:
    """Return the schema of one prediction: a class, or a number."""
    if schema.target.classes is None:
        return NUMBER
    return {"enum": list(schema.target.classes)}


def outputs(schema: Schema, names: Sequence[str]) -> Json:
    """Return the schema of V2's output tensors."""
    tensors = []
    for name in names:
        values = prediction(schema) if name == "predict" else NUMBER
        tensors.append(
            {
                "type": "object",
                "required": ["name", "shape", "datatype"],
                "additionalProperties": False,
                "properties": {
                    "name": {"const": name},
                    "shape": {"type": "array", "items": {"type": "integer"}},
                    "datatype": {"enum": ["BOOL", "INT64", "UINT64", "FP64", "BYTES"]},
                    "parameters": {
                        "type": "object",
                        "properties": {"binary_data_size": {"type": "integer"}},
                    },
                    "data": {"type": "array", "items": values},
                },
            }
        )
    return {"type": "array", "items": {"anyOf": tensors}, "minItems": 1, "maxItems": len(names)}


def infer_request(name: str, schema: Schema, outputs: Sequence[str], parameters: Json | None = None) -> Json:
    """Return the schema of a request of V2. ``parameters`` are known beside those of binary tensors."""
    output = objects(name={"enum": list(outputs)}, parameters=_with(binary_data={"type": "boolean"}))
    output["required"] = ["name"]
    request = objects(
        model_name={"enum": [name, None]},
        id={"type": ["string", "null"]},
        parameters=_with(binary_data_output={"type": "boolean"}, **(parameters or {})),
        inputs=inputs(schema.features),
        outputs={"type": ["array", "null"], "items": output, "maxItems": len(outputs)},
    )
    request["required"] = ["inputs"]
    return request


def error_responses() -> Json:
    """Return the responses of an operation with a body that are errors."""
    content = {JSON: {"schema": reference("Error")}}
    return {code: {"description": text, "content": content} for code, text in _REFUSALS.items()}


def _with(**properties: Json) -> Json:
    return {**PARAMETERS, "properties": {**PARAMETERS["properties"], **properties}}


def objects(**properties: Any) -> Json:
    """Return the schema of an object that has exactly these properties."""
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }
