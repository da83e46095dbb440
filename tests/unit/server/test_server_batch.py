"""Batches: cut, put together again, and their places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_bodies import MIXED, NUMBERS, TEXTS, values

from solera_core.schema import STRING, Schema, decode_rows
from solera_server.batch import Batch, Layout, concatenate

SCHEMAS = {"mixed": MIXED, "numbers": NUMBERS, "texts": TEXTS}


def batch_of(schema: Schema, rows: int, name: str) -> Batch:
    columns = [
        np.array([f"{name}{row}" for row in range(rows)], dtype=object)
        if feature.type == STRING
        else np.arange(rows) + index + 0.5
        for index, feature in enumerate(schema.features)
    ]
    return Layout(schema.features).batch(columns, lambda row, feature: f"{name}[{row}].{feature}")


@pytest.mark.parametrize("name", SCHEMAS)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), data=st.data())
def test_a_batch_of_batches_has_their_rows_and_places_in_order(
    name: str, sizes: list[int], data: st.DataObject
) -> None:
    schema = SCHEMAS[name]
    parts = [batch_of(schema, size, f"request{number}") for number, size in enumerate(sizes)]
    whole = concatenate(parts)
    rows: list[list[Any]] = [list(row) for part in parts for row in zip(*values(schema, part), strict=True)]
    assert whole.rows == len(rows)
    assert [list(row) for row in zip(*values(schema, whole), strict=True)] == rows
    places = [part.where(row, 1) for part in parts for row in range(part.rows)]
    assert [whole.where(row, 1) for row in range(whole.rows)] == places

    start = data.draw(st.integers(0, whole.rows - 1))
    stop = data.draw(st.integers(start + 1, whole.rows))
    cut = whole.slice(start, stop)
    assert [list(row) for row in zip(*values(schema, cut), strict=True)] == rows[start:stop]
    assert cut.where(0, 1) == places[start]
    assert cut.numbers.flags.c_contiguous


def test_columns_come_back_as_they_were_given() -> None:
    row = {"age": None, "visits": 3, "city": "Porto", "member": True, "since": "2026-03-01T12:00:00Z"}
    columns = list(decode_rows(MIXED, [row, row]).values())
    layout = Layout(MIXED.features)
    batch = layout.batch(columns, lambda row, feature: f"{row}.{feature}")
    assert batch.numbers.shape == (2, 4)
    for found, given_ in zip(layout.columns(batch), columns, strict=True):
        np.testing.assert_array_equal(found, given_)
