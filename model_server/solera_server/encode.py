"""Arrays of a predictor as JSON values and as V2 datatypes."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray


def json_values(array: NDArray[Any]) -> list[Any]:
    """
    The elements of an array, flat, in row-major order.

    NaN becomes null and infinities the strings "Infinity" and "-Infinity", as in the artifact's examples:
    JSON has no numbers for them.
    """
    values: list[Any] = array.ravel().tolist()
    if array.dtype.kind == "f" and not all(map(math.isfinite, values)):
        return [_number(value) for value in values]
    return values


def class_name(label: Any) -> str:
    """Return a class as a key of JSON: a string as it is, another value as JSON writes it."""
    return label if isinstance(label, str) else orjson.dumps(label).decode()


def single_label(array: NDArray[Any]) -> str | None:
    """The one value of an array of shape (1,), if that is a text."""
    if array.shape != (1,):
        return None
    value = array.item()
    return value if type(value) is str else None


def split(outputs: Mapping[str, NDArray[Any]], stops: Iterable[int]) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the outputs of one request after another; ``stops`` has the end of each one's rows."""
    start = 0
    for stop in stops:
        yield {name: array[start:stop] for name, array in outputs.items()}
        start = stop


class Kept(dict[str, bytes]):
    """What is made of labels, kept; there are few of them, and never more than so many are kept."""

    MOST = 256

    def __init__(self, make: Callable[[str], bytes]) -> None:
        self._make = make

    def __missing__(self, label: str) -> bytes:
        if len(self) >= self.MOST:
            self.clear()
        made = self[label] = self._make(label)
        return made

    def of(self, values: list[Any]) -> list[bytes] | None:
        """Return what is made of each, or None where one is no text."""
        return [self[value] for value in values] if set(map(type, values)) == {str} else None


class TensorTexts:
    """Writes output tensors of V2 as JSON; remembers what stands before the data, which seldom differs."""

    _KEPT = 256

    def __init__(self) -> None:
        self._heads: dict[tuple[str, str, tuple[int, ...]], bytes] = {}

    def text(self, name: str, array: NDArray[Any]) -> bytes:
        label = single_label(array)
        if label is not None:
            return label_tensor(name, label)
        key = (name, array.dtype.kind, array.shape)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= self._KEPT:
                self._heads.clear()
            tensor = {"name": name, "shape": array.shape, "datatype": datatype(array.dtype), "data": None}
            head = self._heads[key] = orjson.dumps(tensor).removesuffix(b"null}")
        return b"%b%b}" % (head, orjson.dumps(json_values(array)))

    def rows(self, name: str, array: NDArray[Any]) -> list[bytes]:
        """Return what ``text`` returns for each row by itself."""
        values, width = json_values(array), array.size // len(array)
        if array.ndim == 1 and set(map(type, values)) == {str}:
            return [label_tensor(name, value) for value in values]
        first = self.text(name, array[:1])
        # What stands before the data is the same for all rows.
        head = first[: len(first) - len(orjson.dumps(values[:width])) - 1]
        return [
            b"%b%b}" % (head, orjson.dumps(values[start : start + width]))
            for start in range(0, len(values), width)
        ]


@lru_cache(256)
def label_tensor(name: str, label: str) -> bytes:
    """Return the tensor of V2 with a text alone."""
    return orjson.dumps({"name": name, "shape": (1,), "datatype": "BYTES", "data": (label,)})


def _number(value: float) -> float | str | None:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return None
    return "Infinity" if value > 0 else "-Infinity"


def datatype(dtype: np.dtype[Any]) -> str:
    """The V2 datatype in which an output of this dtype is sent."""
    return {"b": "BOOL", "i": "INT64", "u": "UINT64", "f": "FP64"}.get(dtype.kind, "BYTES")
