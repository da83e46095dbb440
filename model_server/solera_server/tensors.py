"""Input tensors of V2, as one [n, k] tensor or as one tensor for each feature, made into checked columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_core.nearest import hint
from solera_core.schema import BOOLEAN, FLOAT, INTEGER, Feature
from solera_server import binary_tensors
from solera_server.array_columns import array_column, float_matrix
from solera_server.batch import Batch, InputError
from solera_server.columns import make_column
from solera_server.json_input import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from solera_server.batch import Layout
    from solera_server.request_size import RequestSize

_INTEGERS = {
    f"{sign}INT{bits}": ((-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if sign == "" else (0, 2**bits - 1))
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}
_FLOATS: dict[str, Any] = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
_DATATYPES = ("BOOL", *_INTEGERS, *_FLOATS, "BYTES")
_NUMBERS = (*_INTEGERS, *_FLOATS, "BF16")
_NUMBER_NAMES = ("NaN", "Infinity", "-Infinity")

ADVERTISED = {FLOAT: "FP64", INTEGER: "INT64", BOOLEAN: "BOOL"}
"""The datatype that the metadata names for a feature's type; BYTES for the others."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """
    An input tensor whose data has been checked against datatype and shape.

    ``data`` is flat, row-major: JSON values or texts as a list, numbers that came as bytes as an array.
    """

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[Any] | NDArray[Any]
    where: str


def decode_tensors(layout: Layout, tensors: Sequence[Tensor]) -> Batch:
    """
    Decode the inputs of a request.

    Either one tensor of shape [n, k] with the features as its columns in the schema's order, or k tensors
    of shape [n] or [n, 1] named after the features. Raises InputError.
    """
    features = layout.features
    names = [feature.name for feature in features]
    if len(tensors) == 1 and tensors[0].name not in names:
        return _decode_matrix(layout, tensors[0])
    if (
        len(tensors) == 1
        and len(features) > 1
        and len(tensors[0].shape) == 2
        and tensors[0].shape[1] == len(features)
    ):
        return _decode_matrix(layout, tensors[0])
    by_name: dict[str, Tensor] = {}
    known = frozenset(names)
    for tensor in tensors:
        if tensor.name not in known:
            raise InputError(
                f"{tensor.where}: no feature has the name {shown(tensor.name)}."
                + hint(tensor.name[:100], names)
            )
        if tensor.name in by_name:
            raise InputError(f"{tensor.where}: a second tensor with the name {shown(tensor.name)}")
        by_name[tensor.name] = tensor
    rows = tensors[0].shape[0] if tensors[0].shape else 0
    columns = []
    for feature in features:
        column = by_name.get(feature.name)
        if column is None:
            raise InputError(
                f"inputs: the tensor for the feature {shown(feature.name)} ({feature.type}) is missing; "
                "send null where a value is missing"
            )
        if column.shape not in ((rows,), (rows, 1)) or rows < 1:
            size = rows or "n"
            raise InputError(
                f"{column.where}.shape: expected [{size}] or [{size}, 1], got {list(column.shape)}"
            )
        columns.append(_column(feature, column, column.data, partial(_flat_place, column.where)))
    where = [by_name[name].where for name in names]
    return layout.batch(columns, lambda row, column: _flat_place(where[column], row))


def _decode_matrix(layout: Layout, tensor: Tensor) -> Batch:
    features = layout.features
    width = len(features)
    shape = tensor.shape if len(tensor.shape) == 2 or width > 1 else (*tensor.shape, 1)
    if len(shape) != 2 or shape[1] != width or shape[0] < 1:
        raise InputError(
            f"{tensor.where}.shape: expected [n, {width}] with n of at least 1, got {list(tensor.shape)}; "
            "or send one tensor of shape [n] for each feature, named after it"
        )

    def place(column: int, row: int) -> str:
        return matrix_place(tensor.where, features[column], row, column)

    if isinstance(tensor.data, np.ndarray):
        numbers = float_matrix(features, tensor.data, shape)
        if numbers is not None:
            return Batch(shape[0], numbers, (), lambda row, column: place(column, row))
    columns = [
        _column(feature, tensor, tensor.data[column::width], partial(place, column))
        for column, feature in enumerate(features)
    ]
    return layout.batch(columns, lambda row, column: place(column, row))


def matrix_place(where: str, feature: Feature, row: int, column: int) -> str:
    """The place of a value in a tensor of shape [n, k], for messages."""
    return f"{where}.data[{row}][{column}] ({feature.name})"


def _flat_place(where: str, row: int) -> str:
    return f"{where}.data[{row}]"


def _column(feature: Feature, tensor: Tensor, values: list[Any] | NDArray[Any], where: Any) -> Any:
    allowed = accepted(feature)
    if tensor.datatype not in allowed:
        raise InputError(
            f"{tensor.where}.datatype: {tensor.datatype} does not fit the feature {shown(feature.name)} "
            f"of type {feature.type}; use {ADVERTISED.get(feature.type, 'BYTES')}"
            + ("" if tensor.name == feature.name else ", in a tensor of its own named after it")
        )
    if isinstance(values, np.ndarray):
        return array_column(feature, values, where)
    return make_column(feature, values, where)


def accepted(feature: Feature) -> tuple[str, ...]:
    """Return the datatypes in which a feature may come; BF16 only as bytes."""
    if feature.type in (FLOAT, INTEGER):
        return _NUMBERS
    return ("BOOL",) if feature.type == BOOLEAN else ("BYTES",)


def read_tensor(item: dict[str, Any], where: str, size: RequestSize) -> Tensor:
    """
    Check one element of ``inputs`` for itself: fields, datatype, shape, size, and data against all of them.

    Raises InputError.
    """
    for key in ("name", "shape", "datatype", "data"):
        if key not in item:
            raise InputError(f"{where}: the field {shown(key)} is missing")
    name, shape, datatype = item["name"], item["shape"], item["datatype"]
    where = check_head(name, shape, datatype, where, datatypes=_DATATYPES, size=size)
    data = _flatten(item["data"], shape, where)
    return Tensor(name, tuple(shape), datatype, _elements(datatype, data, where), where)


def read_binary_tensor(item: dict[str, Any], where: str, raw: memoryview, size: RequestSize) -> Tensor:
    """
    Check one element of ``inputs`` whose data is the bytes ``raw``.

    Raises InputError.
    """
    for key in ("name", "shape", "datatype"):
        if key not in item:
            raise InputError(f"{where}: the field {shown(key)} is missing")
    if "data" in item:
        raise InputError(f"{where}: has both data and binary_data_size; send one of them")
    name, shape, datatype = item["name"], item["shape"], item["datatype"]
    where = check_head(name, shape, datatype, where, datatypes=binary_tensors.DATATYPES, size=size)
    return Tensor(name, tuple(shape), datatype, binary_tensors.read(datatype, shape, raw, where), where)


def check_head(
    name: Any, shape: Any, datatype: Any, where: str, *, datatypes: tuple[str, ...], size: RequestSize
) -> str:
    """
    Check what is said of a tensor before its data is read, and return its place for messages.

    Raises InputError.
    """
    if not isinstance(name, str):
        raise InputError(f"{where}.name: expected a string, got {shown(name)}")
    where = f"{where}({name[:100]})"
    if not isinstance(datatype, str) or datatype not in datatypes:
        raise InputError(f"{where}.datatype: expected one of {', '.join(datatypes)}, got {shown(datatype)}")
    if not isinstance(shape, list) or not 1 <= len(shape) <= 2:
        raise InputError(
            f"{where}.shape: expected a list of one or two sizes such as [2, 4], got {shown(shape)}"
        )
    for index, size_given in enumerate(shape):
        if type(size_given) is not int or size_given < 0:
            raise InputError(
                f"{where}.shape[{index}]: expected a size, an integer of at least 0, got {shown(size_given)}"
            )
    size.check_rows(shape[0], f"{where}.shape")
    size.check_values(math.prod(shape), f"{where}.shape")
    return where


def _flatten(given: Any, shape: list[int], where: str) -> list[Any]:
    data: list[Any] = given
    if not isinstance(given, list):
        raise InputError(f"{where}.data: expected a list, got {shown(given)}")
    if len(shape) == 2 and data and isinstance(data[0], list):
        if len(data) != shape[0]:
            raise InputError(f"{where}.data: the shape {shape} means {shape[0]} rows, got {len(data)}")
        for row, values in enumerate(data):
            if not isinstance(values, list) or len(values) != shape[1]:
                raise InputError(
                    f"{where}.data[{row}]: expected a list of {shape[1]} values, got {shown(values)}"
                )
        data = [value for values in data for value in values]
    if len(data) != math.prod(shape):
        raise InputError(f"{where}.data: the shape {shape} means {math.prod(shape)} values, got {len(data)}")
    return data


def _elements(datatype: str, data: list[Any], where: str) -> list[Any]:
    """Check the elements against the datatype and return them as it carries them; null stays (missing)."""
    kinds = set(map(type, data)) - {type(None)}
    if datatype == "BOOL":
        _require(kinds <= {bool}, data, lambda value: type(value) is bool, datatype, where)
    elif datatype == "BYTES":
        _require(kinds <= {str}, data, lambda value: type(value) is str, datatype, where)
    elif datatype in _INTEGERS:
        low, high = _INTEGERS[datatype]
        clean = (
            kinds == {int}
            and type(None) not in set(map(type, data))
            and low <= min(data) <= max(data) <= high
        )
        _require(clean, data, lambda value: type(value) is int and low <= value <= high, datatype, where)
    else:
        _require(kinds <= {float, int}, data, _is_number, datatype, where)
        if datatype != "FP64":
            return _rounded(datatype, data, where)
    return data


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) or (type(value) is str and value in _NUMBER_NAMES)


def _require(clean: bool, data: list[Any], good: Any, datatype: str, where: str) -> None:
    if not clean:
        for index, value in enumerate(data):
            if value is not None and not good(value):
                raise InputError(f"{where}.data[{index}]: expected {datatype}, got {shown(value)}")


def _rounded(datatype: str, data: list[Any], where: str) -> list[Any]:
    """Round numbers to the datatype, as a client that holds them in it means them."""
    kind = _FLOATS[datatype]
    limit = float(np.finfo(kind).max)
    result = []
    for index, value in enumerate(data):
        if type(value) in (int, float):
            if abs(value) > limit:
                raise InputError(f"{where}.data[{index}]: {shown(value)} is too large for {datatype}")
            result.append(float(kind(value)))
        else:
            result.append(value)
    return result
