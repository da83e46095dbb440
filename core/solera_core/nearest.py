"""Suggestions for a name that was not found."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_SLIP = 2


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, or None when none is alike.

    Case and the difference between `_`, `-` and a space do not count.
    """
    folded: dict[str, str] = {}
    for candidate in known:
        folded.setdefault(_fold(candidate), candidate)
    matches = difflib.get_close_matches(_fold(name), list(folded), n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


def listed(names: Iterable[str], limit: int = 20) -> str:
    """Return the names as one line for a message, at most `limit` of them."""
    items = list(names)
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean "x"?`, or an empty string when nothing is alike."""
    match = nearest(name, known)
    return f' Did you mean "{match}"?' if match else ""


def mistyped(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean "x"?` for a known name that differs in a letter or two, or an empty string.

    For names that strangers send: it looks at each known name once, where `did_you_mean` may take
    milliseconds for every few dozens of them.
    """
    folded = _fold(name)
    for candidate in known:
        if abs(len(candidate) - len(folded)) <= _SLIP and _slip(folded, _fold(candidate)):
            return f' Did you mean "{candidate}"?'
    return ""


def hint(name: str, known: Sequence[str]) -> str:
    """Return what to say of a name that strangers send: which one was meant, or else which there are."""
    return mistyped(name, known) or f" There are {listed(known)}."


def _slip(name: str, known: str) -> bool:
    """Whether the names are alike but for a stretch of two letters, and that is the smaller part of them."""
    longer = max(len(name), len(known))
    start = _alike(name, known)
    end = _alike(name[start:][::-1], known[start:][::-1])
    return longer - start - end <= min(_SLIP, longer // 2)


def _alike(one: str, other: str) -> int:
    """How many letters the texts have in common at their beginning."""
    for index, (here, there) in enumerate(zip(one, other, strict=False)):
        if here != there:
            return index
    return min(len(one), len(other))


def _fold(name: str) -> str:
    return name.casefold().replace("-", "_").replace(" ", "_")
