"""Canonical bytes of a fitted model: equal models give equal bytes.

skops names objects and members after memory addresses, writes the time into the archive, and arrays of
structures carry whatever lay in memory between their fields. Here objects are numbered in the order of
appearance, members named after them and sorted, times fixed, sets sorted, and gaps zeroed. And what
would need trust when it is loaded, and changes no answer, is left out.
"""

from __future__ import annotations

import functools
import io
import json
import zipfile
from typing import Any

import numpy as np

_TIME = (1980, 1, 1, 0, 0, 0)
_SCHEMA = "schema.json"
_SETS = ("set", "frozenset")


def model_bytes(model: Any) -> bytes:
    """Return the model as a skops file.

    Raises what skops raises for objects that it cannot save.
    """
    import skops.io

    forget_addresses(model)
    forget_checks(model)
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(model))) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        members = {name: archive.read(name) for name in archive.namelist() if name != _SCHEMA}
    names = _Numbering()
    schema = names.renumbered(schema)
    renamed = {names.members[old]: _without_gaps(data) for old, data in members.items()}
    renamed[_SCHEMA] = json.dumps(schema, separators=(",", ":"), ensure_ascii=False).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=zipfile.ZIP_STORED) as archive:
        for name in sorted(renamed):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = 3
            entry.external_attr = 0o600 << 16
            archive.writestr(entry, renamed[name])
    return buffer.getvalue()


def forget_addresses(value: Any) -> None:
    """Delete what fitted vectorisers remember by memory address."""
    for _, step in getattr(value, "steps", []):
        forget_addresses(step)
    for _, branch, _ in getattr(value, "transformers_", []):
        forget_addresses(branch)
    for _, branch, _ in getattr(value, "transformers", []):
        forget_addresses(branch)
    getattr(value, "__dict__", {}).pop("_stop_words_id", None)


def forget_checks(value: Any) -> None:
    """Let histogram boosting with categories pass its other features on without a function.

    It calls `check_array` through a `functools.partial`, which no list of types trusts: that could call
    anything. The call changes nothing in the matrix of floats that the preprocessing makes.
    """
    from sklearn.utils import check_array

    for _, step in getattr(value, "steps", []):
        forget_checks(step)
    inner = getattr(value, "_preprocessor", None)
    for branches in ("transformers", "transformers_"):
        for _, branch, _ in getattr(inner, branches, []):
            function = getattr(branch, "func", None)
            if isinstance(function, functools.partial) and function.func is check_array:
                branch.func = None


class _Numbering:
    """Numbers for objects and names for members, in the order in which the schema mentions them."""

    def __init__(self) -> None:
        self.members: dict[str, str] = {}
        self._objects: dict[Any, int] = {}

    def renumbered(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.renumbered(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = _sorted_set(node)
        result: dict[str, Any] = {}
        for key, item in node.items():
            if key == "__id__":
                result[key] = self._object(node, item)
            elif key == "file" and isinstance(item, str) and "__loader__" in node:
                result[key] = self._member(item)
            else:
                result[key] = self.renumbered(item)
        return result

    def _object(self, node: dict[str, Any], address: int) -> int:
        # Whether two equal plain values are one object is chance: they get one number by their content.
        plain = node.get("__loader__") == "JsonNode"
        token: Any = ("plain", json.dumps(node.get("content"))) if plain else address
        return self._objects.setdefault(token, len(self._objects) + 1)

    def _member(self, name: str) -> str:
        suffix = name.rpartition(".")[2]
        return self.members.setdefault(name, f"{len(self.members) + 1:08d}.{suffix}")


def _sorted_set(node: dict[str, Any]) -> dict[str, Any]:
    if node.get("__class__") in _SETS and isinstance(node.get("content"), list):
        ordered = sorted(node["content"], key=lambda item: json.dumps(_without_ids(item), sort_keys=True))
        return {**node, "content": ordered}
    return node


def _without_ids(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_ids(item) for key, item in node.items() if key != "__id__"}
    return [_without_ids(item) for item in node] if isinstance(node, list) else node


def _without_gaps(data: bytes) -> bytes:
    """Zero the bytes between the fields of an array of structures."""
    if not data.startswith(b"\x93NUMPY"):
        return data
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype.names is None:
        return data
    clean = np.zeros(array.shape, dtype=array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    buffer = io.BytesIO()
    np.save(buffer, clean, allow_pickle=False)
    return buffer.getvalue()
