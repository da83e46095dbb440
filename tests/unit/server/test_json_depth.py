"""How deep a JSON text nests, told without a walk through it."""

from __future__ import annotations

from contextlib import suppress
from time import process_time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solera_server.batch import InputError
from solera_server.json_input import parse

TEXTS = st.text(alphabet='[]{}"\\/nua,: é\n', max_size=12)
LEAVES = TEXTS | st.integers(-5, 5) | st.none()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=30,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(value=VALUES, limit=st.integers(0, 6), spaced=st.booleans())
def test_what_nests_deeper_is_refused_and_nothing_else(value: Any, limit: int, *, spaced: bool) -> None:
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 if spaced else 0)
    if depth_of(value) > limit:
        with pytest.raises(InputError, match=f"deeper than {limit} levels"):
            parse(body, limit)
    else:
        assert parse(body, limit) == value


SIZE = 1024 * 1024
HOSTILE = {
    "deep": b"[" * 1000 + b"1" + b"]" * 1000 + b" " * SIZE,
    "deep again and again": b"[" + (b"[" * 31 + b"]" * 31 + b",") * (SIZE // 63) + b"1]",
    "escapes": b'["' + b"\\\\" * (SIZE // 2) + b'"' + b",[]" * 40 + b"]",
    "strings": b"[" + b'"[",' * (SIZE // 4) + b"1]",
    "escaped quotes": b"[" + b'"\\"",' * (SIZE // 5) + b"[]" + b",[]" * 40 + b"]",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_the_depth_of_a_hostile_body_costs_no_more_than_reading_it(body: bytes) -> None:
    def seconds(max_depth: int) -> float:
        started = process_time()
        with suppress(InputError):
            parse(body, max_depth)
        return process_time() - started

    without = min(seconds(1 << 30) for _ in range(5))  # more than there are brackets: only read
    looked = min(seconds(32) for _ in range(5))
    assert looked < 2 * without + 0.03
