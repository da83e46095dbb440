"""JSON from outside: strict, bounded in depth, and messages that do not repeat what was sent at length."""

from __future__ import annotations

import re
from typing import Any

import orjson

from solera_server.batch import InputError

_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_STRING = re.compile(rb'"[^"]*"')
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_NO_JSON_NUMBER = re.compile(rb"[\[,:]\s*-?(NaN|Infinity)\b")
_SHOWN = 40


def parse(body: bytes, max_depth: int) -> Any:
    """
    Parse a JSON text.

    Raises InputError when it is not JSON (NaN and Infinity are not), or nests deeper than ``max_depth``.
    """
    if not body:
        raise InputError("the body is empty; it must be a JSON object")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = ""
        if _NO_JSON_NUMBER.search(body):
            # Clients in Python write numpy's NaN so unless told otherwise.
            hint = '; JSON has no NaN and no Infinity: send null for a missing value, or "NaN", "Infinity"'
        raise InputError(f"the body is not valid JSON: {error}{hint}") from None
    if body.count(b"[") + body.count(b"{") > max_depth and _deeper_than(body, max_depth):
        raise InputError(f"the JSON nests deeper than {max_depth} levels")
    return value


def _deeper_than(valid: bytes, depth: int) -> bool:
    # Only brackets are kept; each round then removes the innermost pairs. All of it runs at the speed of
    # bytes.replace, so a hostile body costs no more than a large one.
    if b"\\" in valid:
        valid = _ESCAPE.sub(b"", valid)
    structure = valid.translate(None, _NOT_STRUCTURE)
    if b'"' in structure:
        structure = _STRING.sub(b"", structure)
    for _ in range(depth):
        if not structure:
            return False
        structure = structure.replace(b"[]", b"").replace(b"{}", b"")
    return bool(structure)


def shown(value: object) -> str:
    """A value as a message may repeat it: short, and containers by their kind only."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, str) and len(value) > _SHOWN:
        value = value[:_SHOWN] + "…"
    return orjson.dumps(value).decode()


def expect_object(value: object, where: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise InputError(f"{where}: expected an object, got {shown(value)}")


def refuse_unknown(value: dict[str, Any], known: frozenset[str], where: str) -> None:
    """Raise InputError for a key that would otherwise be ignored."""
    for key in value:
        if key not in known:
            raise InputError(f"{where}: unknown field {shown(key)}; known are {', '.join(sorted(known))}")
