"""The V2 protocol (Open Inference Protocol, REST): inference requests, responses and metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from solera_server.batch import InputError, Layout
from solera_server.codec import Call
from solera_server.encode import datatype, json_values
from solera_server.json_input import expect_object, parse, refuse_unknown, shown
from solera_server.message import NO_BINARY_INPUT, Response
from solera_server.request_size import RequestSize
from solera_server.tensors import ADVERTISED, decode_tensors, read_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solera_core.schema import Schema
    from solera_server.limits import Limits
    from solera_server.predictor import Outputs

_FIELDS = frozenset({"model_name", "id", "parameters", "inputs", "outputs"})
_INPUT_FIELDS = frozenset({"name", "shape", "datatype", "parameters", "data"})
_OUTPUT_FIELDS = frozenset({"name", "parameters"})
_BINARY_INPUT = "binary_data_size"
_TARGET_DATATYPES = {"Float": "FP64", "Integer": "INT64", "Boolean": "BOOL"}


class V2Codec:
    """``outputs`` are the names that the predictor offers; a request that names none gets them all."""

    def __init__(
        self, name: str, version: str, schema: Schema, outputs: tuple[str, ...], limits: Limits
    ) -> None:
        self._name = name
        self._version = version
        self._layout = Layout(schema.features)
        self._outputs = outputs
        self._json_depth = limits.json_depth
        self._size = RequestSize(schema, limits)

    def decode(self, body: bytes, _headers: Mapping[bytes, bytes]) -> Call:
        document = expect_object(parse(body, self._json_depth), "body")
        refuse_unknown(document, _FIELDS, "body")
        # KServe's client repeats the name of the URL in the body.
        name = document.get("model_name")
        if name is not None and name != self._name:
            raise InputError(f"model_name: expected {shown(self._name)}, as in the URL, got {shown(name)}")
        request_id = document.get("id")
        if request_id is not None and not isinstance(request_id, str):
            raise InputError(f"id: expected a string, got {shown(request_id)}")
        _check_parameters(document, "parameters")
        items = document.get("inputs")
        if not isinstance(items, list) or not items:
            raise InputError(f"inputs: expected a list of at least one tensor, got {shown(items)}")
        tensors = []
        for index, item in enumerate(items):
            where = f"inputs[{index}]"
            refuse_unknown(expect_object(item, where), _INPUT_FIELDS, where)
            _check_parameters(item, f"{where}.parameters")
            tensors.append(read_tensor(item, where, self._size))
        wanted = self._wanted(document.get("outputs"))
        return Call(
            decode_tensors(self._layout, tensors),
            wanted,
            lambda outputs: self._render(outputs, wanted, request_id),
        )

    def _wanted(self, items: Any) -> tuple[str, ...]:
        if items is None:
            return self._outputs
        if not isinstance(items, list):
            raise InputError(f"outputs: expected a list, got {shown(items)}")
        wanted: list[str] = []
        for index, item in enumerate(items):
            where = f"outputs[{index}]"
            refuse_unknown(expect_object(item, where), _OUTPUT_FIELDS, where)
            _check_parameters(item, f"{where}.parameters")
            name = item.get("name")
            if name not in self._outputs:
                raise InputError(
                    f"{where}.name: expected one of {', '.join(self._outputs)}, got {shown(name)}"
                )
            if name in wanted:
                raise InputError(f"{where}.name: {name} is asked for twice")
            wanted.append(name)
        return tuple(wanted) or self._outputs

    def _render(self, outputs: Outputs, wanted: tuple[str, ...], request_id: str | None) -> Response:
        response: dict[str, Any] = {"model_name": self._name, "model_version": self._version}
        if request_id is not None:
            response["id"] = request_id
        response["outputs"] = [
            {
                "name": name,
                "shape": list(outputs[name].shape),
                "datatype": datatype(outputs[name].dtype),
                "data": json_values(outputs[name]),
            }
            for name in wanted
        ]
        return Response(200, orjson.dumps(response))


def _check_parameters(holder: dict[str, Any], where: str) -> None:
    """
    Check the protocol's free parameters for their form.

    The protocol lets a server pass over parameters that it does not know. So it does with a wish for binary
    outputs, which Triton's client has unless told otherwise: that client reads JSON as well. An input whose
    data is said to stand elsewhere is refused.
    """
    parameters = holder.get("parameters")
    if parameters is None:
        return
    for key, value in expect_object(parameters, where).items():
        if not isinstance(value, str | int | float | bool):
            raise InputError(
                f"{where}: {shown(key)} must be a string, a number or a boolean, got {shown(value)}"
            )
        if key == _BINARY_INPUT:
            raise InputError(f"{where}: {key} means {NO_BINARY_INPUT}")


def model_metadata(
    name: str, version: str, schema: Schema, outputs: tuple[str, ...], platform: str
) -> dict[str, Any]:
    """
    Return the model metadata object.

    Inputs are given as one tensor for each feature. The classes, in the order of predict_proba's columns,
    stand as JSON text in that tensor's parameters.
    """
    target = schema.target
    tensors: list[dict[str, Any]] = []
    for output in outputs:
        if output == "predict":
            kind = _TARGET_DATATYPES.get(target.type, "BYTES")
            tensors.append({"name": output, "datatype": kind, "shape": [-1]})
        else:
            classes = list(target.classes or ())
            tensor = {"name": output, "datatype": "FP64", "shape": [-1, len(classes)]}
            tensors.append({**tensor, "parameters": {"classes": orjson.dumps(classes).decode()}})
    return {
        "name": name,
        "versions": [version],
        "platform": platform,
        "inputs": [
            {"name": feature.name, "datatype": ADVERTISED.get(feature.type, "BYTES"), "shape": [-1]}
            for feature in schema.features
        ],
        "outputs": tensors,
    }
