"""
Reading a skops file without skops: into Nodes, numbers and arrays, and nothing that is foreign.

The file is a zip archive of `schema.json` (a tree that names types and holds small values) and of arrays in
numpy's format. Nothing is imported or instantiated by its name. What this reader does not know is left to
skops, which has a list of types to trust (NotCompilable); what is no skops file at all is ArtifactCorrupt.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from solera_core.failures import ArtifactCorrupt
from solera_core.model_bombs import array_header
from solera_core.model_file import check_archive, trusted_types
from solera_server.compiled.node import ARGUMENTS, STATE, Named, Node
from solera_server.compiled.refusals import NotCompilable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROTOCOL = 2
"""The form of `schema.json` that this reader knows; skops 0.10 to 0.16 write it."""

MAX_DEPTH = 100
MAX_CELLS = 10_000_000
"""Of all matrices of objects together: lists that are shared may stand for far more than they are."""
_PACKAGES = frozenset({"builtins", "numpy", "scipy", "sklearn", "collections"})
# Extension modules of scikit-learn that are saved under their bare names.
_MODULES = frozenset({"_loss", "_sgd_fast"})


def read(path: Path) -> Node:
    """
    Return the object that the file holds.

    Raises ArtifactCorrupt for what is no skops file within bounds, NotCompilable for parts that this reader
    does not know.
    """
    check_archive(path)
    try:
        with zipfile.ZipFile(path) as archive:
            schema = orjson.loads(archive.read("schema.json"))
            _check_protocol(path.name, schema)
            root = _Reader(archive).value(schema, 0)
    except (zipfile.BadZipFile, OSError, EOFError, orjson.JSONDecodeError) as error:
        raise ArtifactCorrupt(f"{path.name} cannot be read: {error}.") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, SyntaxError, TokenError) as error:
        # The tree has not the form that skops writes; skops may say more about it.
        raise NotCompilable(f"the model file is oddly made: {type(error).__name__}: {error}") from error
    if not isinstance(root, Node):
        raise NotCompilable("the model file holds no object")
    return root


def _check_protocol(name: str, schema: Any) -> None:
    protocol = schema.get("protocol") if isinstance(schema, dict) else None
    if isinstance(protocol, bool) or not isinstance(protocol, int) or protocol < 0:
        raise ArtifactCorrupt(f"{name} does not say which protocol of skops it has.")
    if protocol != PROTOCOL:
        raise NotCompilable(f"the model file has protocol {protocol} of skops, not {PROTOCOL}")


class _Reader:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._seen: dict[int, Any] = {}
        self._cells = 0
        self._functions = frozenset(trusted_types())
        self._loaders: dict[str, Callable[[dict[str, Any], int], Any]] = {
            "JsonNode": self._json,
            "NdArrayNode": self._array,
            "DTypeNode": self._dtype,
            "DictNode": self._dict,
            "DefaultDictNode": self._default_dict,
            "ListNode": self._list,
            "TupleNode": self._tuple,
            "SetNode": self._set,
            "SliceNode": self._slice,
            "TypeNode": self._named,
            "FunctionNode": self._function,
            "PartialNode": self._partial,
            "ObjectNode": self._object,
            "TreeNode": self._reduced,
            "LossNode": self._reduced,
            "ConstructorFromReduceNode": self._constructed,
            "RandomStateNode": self._opaque,
            "RandomGeneratorNode": self._opaque,
            "SparseMatrixNode": self._opaque,
        }

    def value(self, state: dict[str, Any], depth: int) -> Any:
        """Return what a part of the schema stands for."""
        number = state.get("__id__")
        if number in self._seen:
            return self._seen[number]
        if depth > MAX_DEPTH:
            raise NotCompilable(f"the model file is nested deeper than {MAX_DEPTH}")
        loader = self._loaders.get(state["__loader__"])
        if loader is None:
            raise NotCompilable(f"the model file has a {str(state['__loader__'])[:60]}")
        result = loader(state, depth + 1)
        if number is not None:
            self._seen[number] = result
        return result

    def _json(self, state: dict[str, Any], _depth: int) -> Any:
        try:
            return orjson.loads(state["content"])
        except orjson.JSONDecodeError:
            # NaN, infinities and integers beyond 64 bits.
            return json.loads(state["content"])

    def _array(self, state: dict[str, Any], depth: int) -> Any:
        if state["type"] == "json":
            return self._objects(state, depth)
        if state["type"] != "numpy":
            raise NotCompilable("the model file has an array in an unknown form")
        array = _parse_array(self._archive.read(state["file"]))
        if _dotted(state) == "numpy.ndarray":
            return array
        if array.ndim != 0 or array.dtype.names is not None:
            raise NotCompilable("the model file has a number that is no single number")
        return array.item()

    def _objects(self, state: dict[str, Any], depth: int) -> Any:
        shape = self.value(state["shape"], depth)
        items = [self.value(item, depth) for item in state["content"]]
        if shape == (len(items),):
            row = np.empty(len(items), dtype=object)
            for index, item in enumerate(items):
                row[index] = item
            return row
        self._cells += math.prod(shape)
        if self._cells > MAX_CELLS:
            raise NotCompilable(f"the model file has more than {MAX_CELLS} cells in matrices of objects")
        if len(items) != shape[0] or min(shape) < 1:
            raise NotCompilable("the model file has an array of objects with an odd shape")
        for length in shape[1:]:
            if not all(isinstance(item, list) and len(item) == length for item in items):
                raise NotCompilable("the model file has an array of objects with an odd shape")
            items = [cell for item in items for cell in item]
        result = np.empty(len(items), dtype=object)
        for index, item in enumerate(items):
            result[index] = item
        return result.reshape(shape)

    def _dtype(self, state: dict[str, Any], depth: int) -> Any:
        return self.value(state["content"], depth).dtype

    def _dict(self, state: dict[str, Any], depth: int) -> dict[Any, Any]:
        content = state["content"]
        kinds = self.value(state["key_types"], depth)
        result = {}
        for kind, (key, item) in zip(kinds, content.items(), strict=True):
            result[_key(kind, key)] = self.value(item, depth)
        return result

    def _default_dict(self, state: dict[str, Any], depth: int) -> dict[Any, Any]:
        main = self.value(state["content"]["main"], depth)
        if not isinstance(main, dict):
            raise NotCompilable("the model file has a defaultdict that holds no dict")
        return main

    def _list(self, state: dict[str, Any], depth: int) -> list[Any]:
        _expect(state, "builtins.list")
        return [self.value(item, depth) for item in state["content"]]

    def _tuple(self, state: dict[str, Any], depth: int) -> tuple[Any, ...]:
        # Named tuples (the sizes of a Bunch and the like) count as tuples.
        _known(_dotted(state))
        return tuple(self.value(item, depth) for item in state["content"])

    def _set(self, state: dict[str, Any], depth: int) -> frozenset[Any]:
        return frozenset(self.value(item, depth) for item in state["content"])

    def _slice(self, state: dict[str, Any], _depth: int) -> slice:
        content = state["content"]
        parts = [content[name] for name in ("start", "stop", "step")]
        if not all(part is None or isinstance(part, int | str) for part in parts):
            raise NotCompilable("the model file has an odd slice")
        return slice(*parts)

    def _named(self, state: dict[str, Any], _depth: int) -> Named:
        return Named(_known(_dotted(state)))

    def _function(self, state: dict[str, Any], _depth: int) -> Named:
        name = _dotted(state)
        if name not in self._functions:
            raise NotCompilable(f"the model file names the function {name[:120]}")
        return Named(name)

    def _partial(self, state: dict[str, Any], _depth: int) -> Node:
        """Name the function that is partially applied, and nothing of its arguments."""
        return Node("functools.partial", {"func": _known(_dotted(state["content"]["func"]))})

    def _object(self, state: dict[str, Any], depth: int) -> Node:
        name = _known(_dotted(state))
        content = state.get("content")
        return Node(name, {} if content is None else _attributes(self.value(content, depth)))

    def _reduced(self, state: dict[str, Any], depth: int) -> Node:
        name = _known(_dotted(state))
        arguments = self.value(state["__reduce__"]["args"], depth)
        return Node(name, {**_attributes(self.value(state["content"], depth)), ARGUMENTS: arguments})

    def _constructed(self, state: dict[str, Any], depth: int) -> Node:
        return Node(_known(_dotted(state)), {ARGUMENTS: self.value(state["content"], depth)})

    def _opaque(self, state: dict[str, Any], _depth: int) -> Node:
        """Name what no compiled model needs to look into."""
        return Node(_known(_dotted(state)), {})


def _dotted(state: dict[str, Any]) -> str:
    module, name = state["__module__"], state["__class__"]
    if not isinstance(module, str) or not isinstance(name, str):
        raise NotCompilable("the model file has a type without a name")
    return f"{module}.{name}"


def _known(name: str) -> str:
    """Leave types of other packages to skops and its list, even where nothing would look at them."""
    package = name.partition(".")[0]
    if package not in _PACKAGES and package not in _MODULES:
        raise NotCompilable(f"the model file has the type {name[:120]}")
    return name


def _expect(state: dict[str, Any], name: str) -> None:
    if _dotted(state) != name:
        raise NotCompilable(f"the model file has the type {_dotted(state)[:120]}")


def _attributes(content: Any) -> dict[str, Any]:
    if content is None:
        return {}
    if isinstance(content, dict):
        return content
    return {STATE: content}


def _key(kind: Any, key: str) -> Any:
    match kind:
        case Named("builtins.str" | "numpy.str_"):
            return key
        case Named("builtins.int" | "numpy.int64"):
            return int(key)
        case Named("builtins.float" | "numpy.float64"):
            return float(key)
    raise NotCompilable("the model file has a dict with odd keys")


def _parse_array(data: bytes) -> Any:
    """Return the array of a `.npy` member, over the bytes themselves; read-only."""
    stream = io.BytesIO(data)
    shape, fortran, dtype = array_header(stream, lambda what: NotCompilable(f"the model file has {what}"))
    if dtype.hasobject:
        raise NotCompilable("the model file has an array of pickled objects")
    count = math.prod(shape)
    start = stream.tell()
    if dtype.itemsize == 0 and count > 0:
        raise NotCompilable("the model file has an array of nothing")
    if any(length < 0 for length in shape) or count * dtype.itemsize != len(data) - start:
        raise NotCompilable("the model file has an array whose size is not that of its header")
    if count == 0:
        return np.empty(shape, dtype=dtype)
    flat = np.frombuffer(data, dtype=dtype, count=count, offset=start)
    return flat.reshape(shape, order="F" if fortran else "C")
