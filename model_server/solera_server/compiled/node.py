"""The plain form of a fitted object: its type by name, its attributes, and checked access to them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled.refusals import NotCompilable

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

ARGUMENTS = "__args__"
STATE = "__state__"
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Named:
    """A function or a type that the file names. Only ever a name here."""

    name: str


@dataclass(frozen=True, slots=True)
class Node:
    """
    An object that the file describes; never an instance of anything foreign.

    ``type`` is the dotted name, as in "sklearn.tree._tree.Tree". ``state`` holds the attributes; under
    ARGUMENTS the constructor's arguments where the object was saved with them (trees, losses), under STATE
    a state that is no dict (k-d trees). Values are numbers, strings, None, lists, tuples, dicts, sets,
    slices, numpy arrays and dtypes, Named and Node. The accessors raise NotCompilable for what is
    absent or not of the kind, shape or range that is asked for.
    """

    type: str
    state: dict[str, Any]

    @property
    def name(self) -> str:
        """The class's own name."""
        return self.type.rpartition(".")[2]

    def fail(self, what: str) -> NotCompilable:
        """Return the error that says what is odd about this object."""
        return NotCompilable(f"{self.name}: {what}")

    def get(self, key: str, default: Any = _MISSING) -> Any:
        value = self.state.get(key, default)
        if value is _MISSING:
            raise self.fail(f"{key} is absent")
        return value

    def has(self, key: str) -> bool:
        """Whether the attribute is there and is not None."""
        return self.state.get(key) is not None

    def flag(self, key: str) -> bool:
        value = self.get(key)
        if not isinstance(value, bool):
            raise self.fail(f"{key} is no boolean")
        return value

    def integer(self, key: str, low: int = 0, high: int = 2**31 - 1) -> int:
        """Return an integer from ``low`` to ``high``, both included."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.fail(f"{key} is no integer from {low} to {high}")
        return value

    def number(self, key: str) -> float:
        """Return a finite number; arrays of one element count as their element."""
        value = self.get(key)
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(-1)[0].item()
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.fail(f"{key} is no finite number")
        return float(value)

    def text(self, key: str, choices: Collection[str] | None = None) -> str:
        value = self.get(key)
        if not isinstance(value, str) or (choices is not None and value not in choices):
            raise self.fail(f"{key} is {_shown(value)}")
        return value

    def node(self, key: str, *types: str) -> Node:
        """Return an attribute that is an object, of one of ``types`` (class names or dotted) when given."""
        value = self.get(key)
        if not isinstance(value, Node) or (types and value.name not in types and value.type not in types):
            raise self.fail(f"{key} is {_shown(value)}")
        return value

    def listed(self, key: str, length: int | None = None) -> list[Any]:
        """Return a list or tuple as a list, of ``length`` when given."""
        value = self.get(key)
        if not isinstance(value, list | tuple) or (length is not None and len(value) != length):
            raise self.fail(f"{key} is no list" + ("" if length is None else f" of {length}"))
        return list(value)

    def array(
        self, key: str, shape: tuple[int | None, ...], kind: str = "f", *, finite: bool = True
    ) -> NDArray[Any]:
        """
        Return a read-only, C-contiguous array: see ``checked``.

        ``shape`` has None where any length will do; ``kind`` is "f" for float64, "i" for integers (any
        width becomes int64), "b" for booleans, "O" for objects.
        """
        return checked(self.get(key), f"{self.name}: {key}", shape, kind, finite=finite)

    def array_like(self, key: str) -> NDArray[Any]:
        """Return a row of class values: numbers, booleans or strings."""
        value = self.get(key)
        if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in "biufUO":
            raise self.fail(f"{key} is no row of values")
        if value.dtype.kind == "O" and not all(
            isinstance(item, str | int | float) for item in value.tolist()
        ):
            raise self.fail(f"{key} holds something that is no value")
        return np.array(value)


def checked(
    value: Any, where: str, shape: tuple[int | None, ...], kind: str = "f", *, finite: bool = True
) -> NDArray[Any]:
    """Return ``value`` as an array of the kind and shape. Raises NotCompilable."""
    if not isinstance(value, np.ndarray):
        raise NotCompilable(f"{where} is no array")
    if value.ndim != len(shape) or any(
        want is not None and have != want for have, want in zip(value.shape, shape, strict=True)
    ):
        raise NotCompilable(f"{where} has the shape {value.shape}")
    if kind == "f" and value.dtype == np.float64:
        result = np.array(value, dtype=np.float64, order="C")
        if finite and not np.isfinite(result).all():
            raise NotCompilable(f"{where} holds values that are not finite")
    elif kind == "i" and value.dtype.kind in "iu":
        if value.dtype == np.uint64 and value.size and int(value.max()) > np.iinfo(np.int64).max:
            raise NotCompilable(f"{where} holds integers beyond 63 bits")
        result = np.array(value, dtype=np.int64, order="C")
    elif kind == "b" and value.dtype == np.bool_:
        result = np.array(value, dtype=np.bool_, order="C")
    elif kind == "O" and value.dtype == object:
        result = np.array(value, order="C")
    else:
        raise NotCompilable(f"{where} has the type {value.dtype}")
    result.setflags(write=False)
    return result


def checked_indices(value: NDArray[Any], where: str, low: int, high: int) -> NDArray[np.int64]:
    """Return integers that all lie in low <= value < high. Raises NotCompilable."""
    result = checked(value, where, (None,) * value.ndim, "i")
    if result.size and not (low <= int(result.min()) and int(result.max()) < high):
        raise NotCompilable(f"{where} holds indices out of range")
    return result


def _shown(value: Any) -> str:
    if isinstance(value, Node | Named):
        return value.type if isinstance(value, Node) else value.name
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)[:60]
    return f"of type {type(value).__name__}"
