from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solera_core.salt import split_salt
from solera_core.split import canonical_text, column_keys, held_out, row_keys

SALT = split_salt("iris", 7)
cells = st.none() | st.integers() | st.floats() | st.booleans() | st.text(max_size=8)
rows = st.lists(st.tuples(cells, cells), min_size=1, max_size=30)


def sides(table, salt=SALT, percent=20):
    columns = [(f"c{index}", list(column)) for index, column in enumerate(zip(*table, strict=True))]
    return held_out(row_keys(columns), salt, percent).tolist()


@given(rows, rows)
def test_a_row_never_changes_sides_when_rows_are_added(old, new):
    assert sides(old + new)[: len(old)] == sides(old)


@given(rows, st.randoms())
def test_the_order_of_rows_does_not_matter(table, random):
    order = list(range(len(table)))
    random.shuffle(order)
    before = sides(table)
    assert sides([table[index] for index in order]) == [before[index] for index in order]


@given(rows)
def test_the_order_of_columns_does_not_matter(table):
    left, right = (list(column) for column in zip(*table, strict=True))
    assert row_keys([("a", left), ("b", right)]) == row_keys([("b", right), ("a", left)])


@given(rows, st.integers(1, 98))
def test_a_larger_share_keeps_the_rows_that_are_held_out(table, percent):
    smaller, larger = sides(table, percent=percent), sides(table, percent=percent + 1)
    assert all(after for before, after in zip(smaller, larger, strict=True) if before)


@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_a_whole_number_is_one_key_whatever_its_type(number):
    texts = {
        canonical_text(v) for v in (number, float(number), np.float64(number), str(number), np.int64(number))
    }
    assert len(texts) == 1, "a missing value turns a column of integers into floats"


@given(st.floats(allow_nan=False))
def test_a_number_and_its_text_are_one_key(number):
    if np.isfinite(number):
        assert canonical_text(number) == canonical_text(repr(number))


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_rows_of_different_texts_have_different_keys(one, other):
    key, another = (row_keys([("a", [row[0]]), ("b", [row[1]])]) for row in (one, other))
    same = [canonical_text(v) for v in one] == [canonical_text(v) for v in other]
    assert (key == another) == same


def test_missing_is_one_key():
    assert len({canonical_text(value) for value in (None, float("nan"), np.nan, "")}) == 1


def test_true_and_one_are_different_values_in_a_column():
    assert column_keys([True, 1, 1.0, "True", "1"]) == ["true", "1", "1", "true", "1"]


def test_sides_are_the_ones_of_the_first_release():
    """Another hash would put rows that models were trained on among the held-out ones."""
    assert SALT == "a85a9e234c78fbdfd43045c45509aeb270e7803646366d3fe7229301c7a0738d"
    keys = [str(number) for number in range(40)]
    assert np.flatnonzero(held_out(keys, SALT, 20)).tolist() == [1, 2, 14, 16, 30, 31, 32, 33]


@pytest.mark.parametrize("percent", [5, 20, 50])
def test_the_share_is_what_was_asked_for(percent):
    share = held_out([str(number) for number in range(100_000)], SALT, percent).mean() * 100
    deviation = (percent * (100 - percent) / 100_000) ** 0.5
    assert abs(share - percent) < 4 * deviation


def test_salts_are_independent():
    keys = [str(number) for number in range(50_000)]
    one, other = held_out(keys, SALT, 50), held_out(keys, split_salt("iris", 8), 50)
    assert abs((one & other).mean() - 0.25) < 0.01


@pytest.mark.parametrize(("salt", "percent"), [("zz", 20), ("ab", 20), (SALT, 0), (SALT, 100)])
def test_wrong_arguments_are_refused(salt, percent):
    with pytest.raises(ValueError):
        held_out(["a"], salt, percent)


def test_whole_floats_and_integers_are_one_key_at_any_size():
    for number in (2**53, 2**60, -(2**70), 10**22):
        assert canonical_text(number) == canonical_text(float(number)) == str(number)


def test_one_instant_is_one_key():
    later = timezone(timedelta(hours=2))
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    assert canonical_text(noon) == canonical_text(noon.astimezone(later)) == "2024-01-01T12:00:00"
    assert canonical_text(noon.replace(tzinfo=None)) == "2024-01-01T12:00:00"
    midnight = {canonical_text(v) for v in (date(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01")}
    assert midnight == {"2024-01-01"}
    assert canonical_text(datetime(1, 1, 1, tzinfo=later)).startswith("0001-01-01")
