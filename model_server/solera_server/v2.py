"""The V2 protocol (Open Inference Protocol, REST): inference requests, responses and metadata."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from solera_server import binary_tensors
from solera_server.batch import Batch, InputError, Layout
from solera_server.binary_tensors import Appendix
from solera_server.codec import Call
from solera_server.encode import Kept, TensorTexts, datatype, json_values, label_tensor, split
from solera_server.json_input import expect_object, parse, refuse_unknown, shown
from solera_server.message import LENGTH_HEADER, Response
from solera_server.plain_bodies import PlainBodies
from solera_server.predictor import PREDICT
from solera_server.request_size import RequestSize
from solera_server.tensors import (
    ADVERTISED,
    Tensor,
    decode_tensors,
    read_binary_tensor,
    read_tensor,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from solera_core.schema import Schema
    from solera_server.limits import Limits
    from solera_server.predictor import Outputs

_LABELS: tuple[str, ...] = (PREDICT,)
EXTENSIONS = ("binary_tensor_data",)
"""What this server offers beyond the protocol, as its metadata lists it."""
_FIELDS = frozenset({"model_name", "id", "parameters", "inputs", "outputs"})
_INPUT_FIELDS = frozenset({"name", "shape", "datatype", "parameters", "data"})
_OUTPUT_FIELDS = frozenset({"name", "parameters"})
_BINARY_INPUT, _BINARY_OUTPUT, _BINARY_OUTPUTS = "binary_data_size", "binary_data", "binary_data_output"
# What would change the meaning of inputs or outputs, in extensions of Triton's that are not offered here.
_NOT_OFFERED = ("classification", "shared_memory_region")
_NONE_BINARY: frozenset[str] = frozenset()
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
        self._start = orjson.dumps({"model_name": name, "model_version": version})[:-1] + b","
        self._texts = TensorTexts()
        self._bodies = Kept(lambda label: self._body(label_tensor(PREDICT, label), None))
        """Of answers with a label alone."""
        self._json_depth = limits.json_depth
        self._size = RequestSize(schema, limits)
        self.plain = PlainBodies(self._layout, self._size.rows, limits.json_depth, name, outputs)

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> Call:
        plain = self.plain.read_v2(body) if LENGTH_HEADER not in headers else None
        if plain is None:
            return self.decode_carefully(body, headers)
        rows, numbers, texts, outputs, request_id = plain
        batch = Batch(rows, self.plain.matrix(rows, numbers), texts, partial(self._where, body))
        return self._call(batch, outputs or self._outputs, _NONE_BINARY, request_id)

    def wanted(self, asked: tuple[str, ...] | None) -> tuple[str, ...]:
        """Return the outputs that are wanted: all of them where none are named."""
        return asked or self._outputs

    def bodies(
        self,
        outputs: Outputs,
        wanted: tuple[str, ...],
        stops: Sequence[int] | None,
        ids: Sequence[str | None] | None,
    ) -> list[bytes]:
        """Return the bodies of the answers to requests that were predicted together (see PlainCodec)."""
        if stops is None and ids is None and wanted == _LABELS:
            kept = self._bodies.of(json_values(outputs[PREDICT]))
            if kept is not None:
                return kept
        if stops is None:
            columns = [self._texts.rows(name, outputs[name]) for name in wanted]
            tensors = [b",".join(texts) for texts in zip(*columns, strict=True)]
        else:
            tensors = [self._tensors(own, wanted) for own in split(outputs, stops)]
        if ids is None:
            start = self._start
            return [b'%b"outputs":[%b]}' % (start, texts) for texts in tensors]
        return [self._body(texts, request_id) for texts, request_id in zip(tensors, ids, strict=True)]

    def _tensors(self, outputs: Outputs, wanted: tuple[str, ...]) -> bytes:
        return b",".join([self._texts.text(name, outputs[name]) for name in wanted])

    def _body(self, tensors: bytes, request_id: str | None) -> bytes:
        own_id = b"" if request_id is None else b'"id":%b,' % orjson.dumps(request_id)
        return b'%b%b"outputs":[%b]}' % (self._start, own_id, tensors)

    def _where(self, body: bytes, row: int, feature: int) -> str:
        return self.decode_carefully(body, {}).batch.where(row, feature)

    def _call(
        self, batch: Batch, wanted: tuple[str, ...], binary: frozenset[str], request_id: str | None
    ) -> Call:
        def render(outputs: Outputs) -> Response:
            return self._render(outputs, wanted, binary, request_id)

        return Call(batch, wanted, render)

    def decode_carefully(self, body: bytes, headers: Mapping[bytes, bytes]) -> Call:
        """Decode without the quick way; the calls are equal. Raises InputError."""
        announced = headers.get(LENGTH_HEADER)
        appendix = None
        if announced is not None:
            body, appendix = binary_tensors.split_body(body, announced)
        document = expect_object(parse(body, self._json_depth), "body")
        refuse_unknown(document, _FIELDS, "body")
        # KServe's client repeats the name of the URL in the body.
        name = document.get("model_name")
        if name is not None and name != self._name:
            raise InputError(f"model_name: expected {shown(self._name)}, as in the URL, got {shown(name)}")
        request_id = document.get("id")
        if request_id is not None and not isinstance(request_id, str):
            raise InputError(f"id: expected a string, got {shown(request_id)}")
        parameters = _parameters(document, "parameters")
        items = document.get("inputs")
        if not isinstance(items, list) or not items:
            raise InputError(f"inputs: expected a list of at least one tensor, got {shown(items)}")
        tensors = [self._tensor(item, f"inputs[{index}]", appendix) for index, item in enumerate(items)]
        if appendix is not None:
            appendix.check_end()
        batch = decode_tensors(self._layout, tensors)
        all_binary = parameters is not None and _flag(parameters, _BINARY_OUTPUTS, "parameters")
        wanted, binary = self._wanted(document.get("outputs"), all_binary=all_binary)
        return self._call(batch, wanted, binary, request_id)

    def _tensor(self, item: Any, where: str, appendix: Appendix | None) -> Tensor:
        refuse_unknown(expect_object(item, where), _INPUT_FIELDS, where)
        parameters = _parameters(item, f"{where}.parameters")
        if parameters is None or _BINARY_INPUT not in parameters:
            return read_tensor(item, where, self._size)
        size, place = parameters[_BINARY_INPUT], f"{where}.parameters.{_BINARY_INPUT}"
        if type(size) is not int or size < 0:
            raise InputError(f"{place}: expected a number of bytes, got {shown(size)}")
        if appendix is None:
            raise InputError(
                f"{place}: the header Inference-Header-Content-Length is missing; "
                "it says how many bytes of the body are JSON"
            )
        return read_binary_tensor(item, where, appendix.take(size, place), self._size)

    def _wanted(self, items: Any, *, all_binary: bool) -> tuple[tuple[str, ...], frozenset[str]]:
        """Return the outputs that are asked for, and which of them as bytes."""
        if items is None or items == []:
            return self._outputs, frozenset(self._outputs if all_binary else ())
        if not isinstance(items, list):
            raise InputError(f"outputs: expected a list, got {shown(items)}")
        wanted: list[str] = []
        binary: set[str] = set()
        for index, item in enumerate(items):
            where = f"outputs[{index}]"
            refuse_unknown(expect_object(item, where), _OUTPUT_FIELDS, where)
            parameters = _parameters(item, f"{where}.parameters")
            name = item.get("name")
            if name not in self._outputs:
                raise InputError(
                    f"{where}.name: expected one of {', '.join(self._outputs)}, got {shown(name)}"
                )
            if name in wanted:
                raise InputError(f"{where}.name: {name} is asked for twice")
            wanted.append(name)
            if _flag(parameters or {}, _BINARY_OUTPUT, f"{where}.parameters", default=all_binary):
                binary.add(name)
        return tuple(wanted), frozenset(binary)

    def _render(
        self, outputs: Outputs, wanted: tuple[str, ...], binary: frozenset[str], request_id: str | None
    ) -> Response:
        if not binary:
            return Response(200, self._body(self._tensors(outputs, wanted), request_id))
        response: dict[str, Any] = {"model_name": self._name, "model_version": self._version}
        if request_id is not None:
            response["id"] = request_id
        appended: list[bytes] = []
        response["outputs"] = [
            _output(name, outputs[name], appended if name in binary else None) for name in wanted
        ]
        text = orjson.dumps(response)
        length = (LENGTH_HEADER, b"%d" % len(text))
        return Response(200, b"".join((text, *appended)), binary_tensors.MEDIA_TYPE, (length,))


def _output(name: str, array: NDArray[Any], appended: list[bytes] | None) -> dict[str, Any]:
    """Return an output, and put its data behind the others in ``appended`` where it is to come as bytes."""
    tensor: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype(array.dtype)}
    if appended is None:
        tensor["data"] = json_values(array)
    else:
        appended.append(binary_tensors.write(array))
        tensor["parameters"] = {_BINARY_INPUT: len(appended[-1])}
    return tensor


def _parameters(holder: dict[str, Any], where: str) -> dict[str, Any] | None:
    """
    Return the free parameters, checked for their form.

    The protocol lets a server pass over parameters that it does not know. Those that say that data stands
    elsewhere, or that want another meaning, are refused.
    """
    if holder.get("parameters") is None:
        return None
    parameters = expect_object(holder["parameters"], where)
    for key, value in parameters.items():
        if not isinstance(value, str | int | float | bool):
            raise InputError(
                f"{where}: {shown(key)} must be a string, a number or a boolean, got {shown(value)}"
            )
        if key in _NOT_OFFERED:
            raise InputError(f"{where}: {key} belongs to an extension that is not offered; see GET /v2")
    return parameters


def _flag(parameters: dict[str, Any], key: str, where: str, *, default: bool = False) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise InputError(f"{where}.{key}: expected true or false, got {shown(value)}")
    return value


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
