"""JSON from outside: strict, bounded in depth, and messages that do not repeat what was sent at length."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import orjson

from solera_server.batch import InputError

_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_AS_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_BLOCK = 64 * 1024
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
    """Say whether a valid JSON text nests deeper; in time that grows with its length, whatever is in it."""
    # What is kept is one byte for each bracket and, while strings may hold brackets too, quote.
    if b"\\" in valid:
        # The pairs of a run of backslashes go first, from its left: then one before a quote escapes it.
        valid = valid.replace(b"\\\\", b"").replace(b'\\"', b"")
    structure = valid.translate(_AS_STEPS, _NOT_STRUCTURE)
    if b'"' in structure:
        # Without escapes, what stands between an odd quote and the next is a string.
        structure = b"".join(structure.split(b'"')[::2])
    if not structure:
        return False
    steps = np.frombuffer(structure, np.int8)
    level = 0
    # A block after the other: sums of all steps at once would take eight times the body's memory.
    for start in range(0, len(steps), _BLOCK):
        levels = np.cumsum(steps[start : start + _BLOCK], dtype=np.int32)
        if level + int(levels.max()) > depth:
            return True
        level += int(levels[-1])
    return False


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
