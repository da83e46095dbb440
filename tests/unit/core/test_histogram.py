import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solera_core.failures import ArtifactCorrupt
from solera_core.histogram import (
    MAX_VALUES,
    CategoricalBins,
    NumericBins,
    categorical_bins,
    count,
    numeric_bins,
    read_bins,
)

numbers = st.floats() | st.integers(-5, 5).map(float) | st.sampled_from([0.0, -0.0, math.inf, -math.inf])
columns = st.lists(numbers, max_size=80).map(lambda values: np.array(values, dtype=np.float64))
edges = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20).map(
    lambda values: tuple(float(edge) for edge in np.unique(np.array(values) + 0.0))
)
words = st.text(max_size=3)
cells = words | st.none() | st.just(math.nan)


@given(edges, columns)
def test_every_number_falls_into_the_one_bin_whose_interval_holds_it(bounds, values):
    bins = NumericBins(bounds)
    limits = [-math.inf, *bounds, math.inf]
    for value, code in zip(values.tolist(), bins.codes(values).tolist(), strict=True):
        assert code == bins.code(value)
        if math.isnan(value):
            assert code == bins.size - 1
            continue
        holding = [
            index
            for index, (low, high) in enumerate(itertools.pairwise(limits))
            # The outer intervals are closed: infinities are in them.
            if low <= value and (value < high or index == len(bounds))
        ]
        assert holding[-1:] == [code]
        assert len(holding) == 1 or (value == -math.inf)


@given(st.lists(words, unique=True, max_size=8), st.lists(cells, max_size=40))
def test_every_text_falls_into_one_bin_and_columns_agree_with_single_values(known, values):
    bins = CategoricalBins(tuple(known))
    column = np.empty(len(values), dtype=object)
    column[:] = values
    codes = bins.codes(column).tolist()
    assert codes == [bins.code(value) for value in values]
    assert bins.codes(values).tolist() == codes
    for value, code in zip(values, codes, strict=True):
        if not isinstance(value, str):
            assert code == bins.size - 1
        elif value in known:
            assert known[code] == value
        else:
            assert code == bins.size - 2


@given(columns, columns)
def test_counts_add_up_and_lose_no_row(left, right):
    bins = numeric_bins(left)
    both = count(bins, np.concatenate([left, right]))
    assert (both == count(bins, left) + count(bins, right)).all()
    assert both.sum() == len(left) + len(right)


@given(columns)
def test_few_values_have_a_bin_each_and_edges_are_values(values):
    bins = numeric_bins(values)
    finite = np.unique(values[np.isfinite(values)] + 0.0)
    assert set(bins.edges) <= set(finite.tolist())
    if len(finite) <= MAX_VALUES:
        assert sorted({bins.code(value) for value in finite.tolist()}) == list(range(len(finite)))
    assert bins == numeric_bins(values), "the same input gives the same bins"


def test_many_values_are_cut_into_tenths_and_ties_stay_together():
    values = np.random.default_rng(0).normal(size=10_000)
    assert count(numeric_bins(values), values)[:-1].tolist() == [1000] * 10
    tied = np.concatenate([np.zeros(9_000), values[:1_000]])
    bins = numeric_bins(tied)
    assert bins.code(0.0) == bins.code(-0.0)
    assert count(bins, tied)[bins.code(0.0)] >= 9_000


def test_frequent_texts_are_listed_and_ties_go_by_the_text():
    values = [f"w{index:02d}" for index in range(30) for _ in range(1 if index else 5)]
    bins = categorical_bins([*values, math.nan, None])
    assert bins.categories == ("w00", *(f"w{index:02d}" for index in range(1, MAX_VALUES)))


def test_texts_of_single_rows_are_not_listed():
    assert categorical_bins([f"person-{index}" for index in range(500)]).categories == ()
    mixed = ["common"] * 400 + [f"person-{index}" for index in range(100)]
    assert categorical_bins(mixed).categories == ("common",)


def test_classes_of_every_type_are_counted():
    assert count(CategoricalBins((False, True)), np.array([True, True, False])).tolist() == [1, 2, 0, 0]
    assert count(CategoricalBins((3, 5)), np.array([5, 3, 5, 4])).tolist() == [1, 2, 1, 0]
    assert count(CategoricalBins(("a", "b")), np.array(["b", "a", "c"])).tolist() == [1, 1, 1, 0]


@given(edges | st.lists(words, unique=True, max_size=5).map(tuple))
def test_bins_come_back_from_their_document(values):
    texts = bool(values) and isinstance(values[0], str)
    bins = CategoricalBins(values) if texts else NumericBins(values)
    assert read_bins(bins.to_json(), "x") == bins


@pytest.mark.parametrize(
    "document",
    [
        {"edges": [1.0, 1.0]},
        {"edges": [2.0, 1.0]},
        {"edges": [float("nan")]},
        {"edges": [float("inf")]},
        {"edges": ["1"]},
        {"edges": [True]},
        {"edges": [float(edge) for edge in range(1000)]},
        {"categories": ["a", "a"]},
        {"categories": [1.5]},
        {"categories": {}},
        {"edges": [], "categories": []},
        {},
        None,
    ],
)
def test_other_bins_are_refused(document):
    with pytest.raises(ArtifactCorrupt, match="features\\[3\\]"):
        read_bins(document, "features[3]")
