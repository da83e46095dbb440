"""
V2 bodies that were read before and differ in their numbers only.

A client sends one form of request again and again: `{"inputs":[{…,"data":[…]}],…}`, where nothing but the
list behind "data" changes. JSON has no context: where the text before and after that list has once been read
with a value in this very place, another value in the same place leaves the meaning of the rest as it was.
So the list alone is parsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from solera_server.batch import Where
    from solera_server.message import Response
    from solera_server.predictor import Outputs

_KEPT = 64
_FRAME_BYTES = 1024
_DATA = b'"data"'
_PROBE = "?"
"""Stands where the list was, to see that this place and no other is the tensor's data."""


@dataclass(frozen=True, slots=True)
class KnownBody:
    """What a body means, but for the numbers of its only tensor, of shape (rows, features)."""

    rows: int
    single: bool
    where: Where
    outputs: tuple[str, ...]
    render: Callable[[Outputs], Response]


class KnownBodies:
    """Bounded in number and size: one too many makes all be forgotten, and then costs its reading."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], KnownBody] = {}

    def match(self, body: bytes) -> tuple[KnownBody, Any] | None:
        """Return what a known body means and the value of its data, or None where it must be read whole."""
        if not self._known:
            return None
        start, stop = _place(body)
        known = self._known.get((body[:start], body[stop:]))
        if known is None:
            return None
        try:
            return known, orjson.loads(body[start:stop])
        except orjson.JSONDecodeError:
            return None

    def learn(self, body: bytes, known: KnownBody) -> None:
        """Remember what ``body`` means, which was read whole; where its data can be told apart."""
        start, stop = _place(body)
        if not 0 < start < stop or len(body) - (stop - start) > _FRAME_BYTES:
            return
        before, after = body[:start], body[stop:]
        try:
            document = orjson.loads(b'%b"%b"%b' % (before, _PROBE.encode(), after))
        except orjson.JSONDecodeError:
            return
        if document["inputs"][0].get("data") != _PROBE:
            return
        if len(self._known) >= _KEPT:
            self._known.clear()
        self._known[before, after] = known


def _place(body: bytes) -> tuple[int, int]:
    """Return where the list behind the first "data" begins and ends, if it is one; (0, 0) otherwise."""
    start = body.find(b"[", body.find(_DATA) + len(_DATA))
    nested = body[start + 1 : start + 2] == b"["
    stop = body.find(b"]]", start) + 2 if nested else body.find(b"]", start) + 1
    return (start, stop) if 0 < start < stop else (0, 0)
