"""The messages of the Open Inference Protocol over gRPC: bytes in, a call; outputs, bytes out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import orjson
from google.protobuf.message import DecodeError, Message

from solera_server import binary_tensors
from solera_server.batch import InputError, Layout
from solera_server.codec import Call
from solera_server.encode import datatype
from solera_server.grpc_plain import PlainRequests
from solera_server.json_input import shown
from solera_server.message import Response
from solera_server.open_inference import open_inference_pb2 as pb
from solera_server.protobuf_bytes import field
from solera_server.request_size import RequestSize
from solera_server.tensors import Tensor, check_head, decode_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from solera_core.schema import Schema
    from solera_server.limits import Limits
    from solera_server.predictor import Outputs

    _Shapes = tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]

MEDIA_TYPE = b"application/grpc"
_KEPT_HEADS = 256
# Of ModelInferResponse.
_ID, _RAW = 3, 6
_M = TypeVar("_M", bound=Message)
# What would change the meaning of inputs or outputs, in extensions that are not offered here.
_NOT_OFFERED = ("classification", "shared_memory_region")
# Where the elements of a datatype stand, and what numpy makes of them.
_CONTENTS: dict[str, tuple[str, Any]] = {
    "BOOL": ("bool_contents", np.bool_),
    **{f"INT{bits}": ("int_contents", np.int32) for bits in (8, 16, 32)},
    "INT64": ("int64_contents", np.int64),
    **{f"UINT{bits}": ("uint_contents", np.uint32) for bits in (8, 16, 32)},
    "UINT64": ("uint64_contents", np.uint64),
    "FP32": ("fp32_contents", np.float32),
    "FP64": ("fp64_contents", np.float64),
    "BYTES": ("bytes_contents", None),
}
_NARROW = {
    f"{sign}INT{bits}": np.iinfo(f"{sign.lower()}int{bits}") for sign in ("", "U") for bits in (8, 16, 32)
}


class GrpcCodec:
    """``ModelInfer``. Outputs come as bytes when the inputs did, and otherwise as typed contents."""

    def __init__(
        self, name: str, version: str, schema: Schema, outputs: tuple[str, ...], limits: Limits
    ) -> None:
        self._name = name
        self._version = version
        self._layout = Layout(schema.features)
        self._outputs = outputs
        self._size = RequestSize(schema, limits)
        self._plain = PlainRequests(self._layout)
        self._model = pb.ModelInferResponse(model_name=name, model_version=version).SerializeToString()
        self._heads: dict[_Shapes, bytes] = {}
        self._classes = (
            None if schema.target.classes is None else orjson.dumps(schema.target.classes).decode()
        )

    def decode(self, body: bytes, _headers: Mapping[bytes, bytes]) -> Call:
        plain = self._plain.read(body)
        if plain is None:
            return self._decode_carefully(body)
        batch, wanted = plain
        return Call(batch, wanted, lambda outputs: self._render_raw(outputs, wanted, ""))

    def _decode_carefully(self, body: bytes) -> Call:
        request = parse(pb.ModelInferRequest, body)
        check_model(self._name, self._version, request.model_name, request.model_version)
        check_parameters(request.parameters, "parameters")
        if not request.inputs:
            raise InputError("inputs: expected at least one tensor, got none")
        raw = request.raw_input_contents
        if raw and len(raw) != len(request.inputs):
            raise InputError(
                f"raw_input_contents: expected one for each of the {len(request.inputs)} inputs, got "
                f"{len(raw)}"
            )
        tensors = [
            self._tensor(item, raw[index] if raw else None, f"inputs[{index}]")
            for index, item in enumerate(request.inputs)
        ]
        wanted = self._wanted(request.outputs)
        batch = decode_tensors(self._layout, tensors)
        request_id = request.id
        if not raw:
            return Call(batch, wanted, lambda outputs: self._render(outputs, wanted, request_id))
        self._plain.remember(body, request, wanted, tensors[0].where)
        return Call(batch, wanted, lambda outputs: self._render_raw(outputs, wanted, request_id))

    def _tensor(self, item: pb.ModelInferRequest.InferInputTensor, raw: bytes | None, where: str) -> Tensor:
        name, shape, kind = item.name, list(item.shape), item.datatype
        where = check_head(name, shape, kind, where, datatypes=binary_tensors.DATATYPES, size=self._size)
        check_parameters(item.parameters, f"{where}.parameters")
        if raw is None:
            return Tensor(name, tuple(shape), kind, _contents(item.contents, kind, shape, where), where)
        if item.HasField("contents"):
            raise InputError(f"{where}: has both contents and raw_input_contents; send one of them")
        return Tensor(name, tuple(shape), kind, binary_tensors.read(kind, shape, raw, where), where)

    def _wanted(self, items: Iterable[pb.ModelInferRequest.InferRequestedOutputTensor]) -> tuple[str, ...]:
        wanted: list[str] = []
        for index, item in enumerate(items):
            where = f"outputs[{index}]"
            if item.name not in self._outputs:
                raise InputError(
                    f"{where}.name: expected one of {', '.join(self._outputs)}, got {shown(item.name)}"
                )
            if item.name in wanted:
                raise InputError(f"{where}.name: {item.name} is asked for twice")
            check_parameters(item.parameters, f"{where}.parameters")
            wanted.append(item.name)
        return tuple(wanted) or self._outputs

    def _render(self, outputs: Outputs, wanted: tuple[str, ...], request_id: str) -> Response:
        response = pb.ModelInferResponse(model_name=self._name, model_version=self._version, id=request_id)
        for name in wanted:
            array = outputs[name]
            tensor = self._add_output(response, name, array.dtype, array.shape)
            _write_contents(tensor.contents, tensor.datatype, array)
        return Response(200, response.SerializeToString(), MEDIA_TYPE)

    def _render_raw(self, outputs: Outputs, wanted: tuple[str, ...], request_id: str) -> Response:
        """Put an answer together of what is the same in many and the bytes of the outputs."""
        parts = [self._model]
        if request_id:
            parts.append(field(_ID, request_id.encode()))
        arrays = [outputs[name] for name in wanted]
        key = tuple([(name, array.dtype, array.shape) for name, array in zip(wanted, arrays, strict=True)])
        parts.append(self._output_heads(key))
        parts.extend([field(_RAW, binary_tensors.write(array)) for array in arrays])
        return Response(200, b"".join(parts), MEDIA_TYPE)

    def _output_heads(self, key: _Shapes) -> bytes:
        """Return what says of outputs what they are: name, datatype and shape of each."""
        kept = self._heads.get(key)
        if kept is None:
            if len(self._heads) >= _KEPT_HEADS:
                self._heads.clear()
            response = pb.ModelInferResponse()
            for name, dtype, shape in key:
                self._add_output(response, name, dtype, shape)
            kept = self._heads[key] = response.SerializeToString()
        return kept

    def _add_output(
        self, response: pb.ModelInferResponse, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> pb.ModelInferResponse.InferOutputTensor:
        tensor: pb.ModelInferResponse.InferOutputTensor = response.outputs.add(
            name=name, datatype=datatype(dtype), shape=shape
        )
        if len(shape) == 2 and self._classes is not None:
            # The metadata message has no place for them.
            tensor.parameters["classes"].string_param = self._classes
        return tensor


def parse(kind: type[_M], body: bytes) -> _M:
    """Read a message; raises InputError."""
    try:
        message: _M = kind.FromString(body)
    except DecodeError:
        raise InputError(f"the message is not a valid {kind.DESCRIPTOR.full_name}") from None
    return message


def check_model(name: str, version: str, asked: str, asked_version: str) -> None:
    """Raise InputError (404) when another model or version is asked for than there is."""
    if asked != name:
        raise InputError(f'there is no model "{asked[:100]}" here; this server has "{name}"', 404)
    if asked_version not in ("", version):
        raise InputError(
            f'there is no version "{asked_version[:100]}" here; this server has "{version}"', 404
        )


def check_parameters(parameters: Iterable[str], where: str) -> None:
    """Pass over parameters as the protocol allows, but for those that ask for what is not offered."""
    for key in _NOT_OFFERED:
        if key in parameters:
            raise InputError(
                f"{where}: {key} belongs to an extension that is not offered; see ServerMetadata"
            )


def _contents(
    contents: pb.InferTensorContents, kind: str, shape: list[int], where: str
) -> NDArray[Any] | list[str]:
    """Return the elements of a typed tensor, flat."""
    if kind not in _CONTENTS:
        raise InputError(f"{where}.contents: has no place for {kind}; send raw_input_contents")
    field, dtype = _CONTENTS[kind]
    for descriptor, _ in contents.ListFields():
        if descriptor.name != field:
            raise InputError(f"{where}.contents: {kind} stands in {field}, got {descriptor.name}")
    elements = getattr(contents, field)
    count = math.prod(shape)
    if len(elements) != count:
        raise InputError(
            f"{where}.contents.{field}: the shape {shape} means {count} values, got {len(elements)}"
        )
    if dtype is None:
        return [binary_tensors.text(element, where, index) for index, element in enumerate(elements)]
    values: NDArray[Any] = np.fromiter(elements, dtype, count)
    if kind in _NARROW:
        bounds = _NARROW[kind]
        wrong = np.flatnonzero((values < bounds.min) | (values > bounds.max))
        if len(wrong):
            index = int(wrong[0])
            raise InputError(f"{where}.data[{index}]: expected {kind}, got {values[index]}")
    return values


def _write_contents(contents: pb.InferTensorContents, kind: str, array: NDArray[Any]) -> None:
    values: list[Any] = array.ravel().tolist()
    if kind == "BYTES":
        contents.bytes_contents.extend([str(value).encode() for value in values])
    else:
        getattr(contents, _CONTENTS[kind][0]).extend(values)
