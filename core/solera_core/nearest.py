"""Suggestions for a name that was not found."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


def _fold(name: str) -> str:
    return name.casefold().replace("-", "_").replace(" ", "_")
