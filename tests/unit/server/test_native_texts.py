"""The kernels of texts and categories: the extension, its twin and scikit-learn say the same."""

from __future__ import annotations

import math
import re
import resource
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from interpreter_lock import lets_others_run
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.utils import murmurhash3_32

from solera_server.compiled import kernels_numpy as twin
from solera_server.compiled.kernels_numpy_texts import murmur3

native = pytest.importorskip("solera_native", reason="the extension is not built")

ascii_texts = st.text(st.characters(max_codepoint=127), max_size=40) | st.from_regex(
    r"\A([A-Za-z_0-9]{0,4}[ ,.\x00-]){0,12}\Z"
)
terms = st.text(max_size=4).filter(lambda term: term.isprintable()) | st.sampled_from(
    ["ab", "a", "", "ß", "你好"]
)
INT, FLOAT = np.int64, np.float64
items = st.lists(ascii_texts | st.lists(terms, max_size=60), max_size=6)
ENGLISH = re.compile(r"(?u)\b\w\w+\b")


def counted(kernels: Any, found: list[Any], vocabulary: Any, width: int, *flags: bool) -> list[list[Any]]:
    most = sum(map(len, found))
    ends, indices, data = (
        np.empty(len(found) + 1, dtype=np.int64),
        np.empty(most, dtype=np.int64),
        np.empty(most),
    )
    used = kernels.count_terms(found, vocabulary, width, *flags, ends, indices, data)
    return [ends.tolist(), indices[:used].tolist(), data[:used].tolist()]


@given(items, st.booleans(), st.booleans(), st.integers(1, 40), st.data())
def test_terms_are_counted_alike(
    found: list[Any], signed: bool, lower: bool, width: int, data: st.DataObject
) -> None:
    known = [word for item in found for word in (item if isinstance(item, list) else ENGLISH.findall(item))]
    chosen = data.draw(st.lists(st.sampled_from(sorted(set(known) | {"ab"})), unique=True))
    vocabulary = {term: place for place, term in enumerate(reversed(chosen))}
    for terms_by, size in ((vocabulary, len(vocabulary)), (None, width)):
        arguments = (found, terms_by, size, signed, lower)
        assert counted(native, *arguments) == counted(twin, *arguments)


@given(st.lists(ascii_texts, min_size=1, max_size=6))
@example([""])
@example(["A" * 300 + " b" * 3 + "_9" * 200])
def test_hashes_are_scikit_learns(texts: list[str]) -> None:
    for signed in (False, True):
        theirs = HashingVectorizer(n_features=64, norm=None, alternate_sign=signed).transform(texts)
        ends, indices, data = counted(native, texts, None, 64, signed, True)
        ours = np.zeros((len(texts), 64))
        native.scatter(np.array(ends), np.array(indices, dtype=np.int64), np.array(data), ours, 0)
        assert np.array_equal(theirs.toarray(), ours)


@given(st.binary(max_size=40))
def test_murmur3_is_scikit_learns(data: bytes) -> None:
    assert murmur3(data) == murmurhash3_32(data)


@given(st.lists(ascii_texts, min_size=1, max_size=8), st.sampled_from([None, "l1", "l2"]))
def test_weights_are_scikit_learns_to_the_bit(texts: list[str], norm: Any) -> None:
    vectoriser = TfidfVectorizer(norm=norm).fit(["ab cd", "ab ef_0 gh", *texts])
    theirs = vectoriser.transform(texts)
    vocabulary = vectoriser.vocabulary_
    ends, indices, data = (
        np.array(part) for part in counted(native, texts, vocabulary, len(vocabulary), False, True)
    )
    indices = indices.astype(np.int64)
    number = {None: 0, "l1": 1, "l2": 2}[norm]
    found = []
    for kernels in (native, twin):
        weights, out = data.astype(np.float64), np.zeros((len(texts), len(vocabulary) + 2))
        kernels.weigh_terms(ends, indices, weights, vectoriser.idf_, number)
        kernels.scatter(ends, indices, weights, out, 1)
        found.append(out)
    assert found[0].tobytes() == found[1].tobytes()
    assert not found[0][:, [0, -1]].any()
    np.testing.assert_allclose(found[0][:, 1:-1], theirs.toarray(), rtol=4e-16, atol=0)


values = st.sampled_from(["a", "b", "", "é", math.nan, 1.0, -0.0, 0.0])
categories = st.dictionaries(st.sampled_from(["a", "b", "", "é", 1.0, 0.0]), st.integers(-1, 3))
places = st.integers(-1, 3) | st.none()


@given(st.lists(st.tuples(categories, places, places), min_size=1, max_size=3), st.integers(0, 4), st.data())
def test_categories_are_encoded_alike(tables: list[Any], rows: int, data: st.DataObject) -> None:
    columns = [data.draw(st.lists(values, min_size=rows, max_size=rows)) for _ in range(2)]
    sources = tuple(data.draw(st.integers(0, 1)) for _ in tables)
    numbers = [
        tuple(
            {k: float(v) for k, v in part.items()}
            if isinstance(part, dict)
            else None
            if part is None
            else float(part)
            for part in table
        )
        for table in tables
    ]
    for name, given_ in (("one_hot", tables), ("category_codes", numbers)):
        outcomes = []
        for kernels in (native, twin):
            out = np.zeros((rows, 5))
            taken = getattr(kernels, name)(columns, tuple(given_), sources, out, 1)
            outcomes.append((taken, out.tobytes() if taken else None))
        assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("name", ["one_hot", "category_codes"])
@pytest.mark.parametrize(("rows", "columns"), [(400_000, 1), (1_000, 400)])
def test_other_threads_run_while_many_categories_are_encoded(name: str, rows: int, columns: int) -> None:
    kind = float if name == "category_codes" else int
    table = ({f"k{number}": kind(number) for number in range(9)}, None, None)
    column, out = [f"k{row % 9}" for row in range(rows)], np.zeros((rows, max(9, columns)))
    encode = getattr(native, name)
    arguments = ([column], (table,) * columns, (0,) * columns, out, 0)
    assert lets_others_run(lambda: encode(*arguments))


@pytest.mark.parametrize("item", ["", "a b", ["ab"] * 3, "ab " * 30_000])
def test_other_threads_run_while_many_texts_are_counted(item: Any) -> None:
    texts = [item] * (1 if len(item) > 1000 else 100_000)
    ends, room = np.empty(len(texts) + 1, INT), sum(map(len, texts))
    arguments = (texts, {"ab": 0}, 1, False, True, ends, np.empty(room, INT), np.empty(room))
    assert lets_others_run(lambda: native.count_terms(*arguments))


def test_a_column_that_shrinks_meanwhile_is_an_error() -> None:
    class Sly(str):
        __slots__ = ()

        def __hash__(self) -> int:
            column.clear()
            return 1

    column = [Sly(f"k{number}") for number in range(9)]
    with pytest.raises(IndexError):
        native.one_hot([column], (({"a": 0}, 0, 0),), (0,), np.zeros((9, 1)), 0)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("count_terms", (["é"], {}, 1, False, True, np.zeros(2, INT), np.zeros(9, INT), np.zeros(9))),
        ("count_terms", ([1], {}, 1, False, True, np.zeros(2, INT), np.zeros(9, INT), np.zeros(9))),
        ("count_terms", ([["a", 1]], {}, 1, False, True, np.zeros(2, INT), np.zeros(9, INT), np.zeros(9))),
        (
            "count_terms",
            ([["\ud800"]], None, 1, False, True, np.zeros(2, INT), np.zeros(9, INT), np.zeros(9)),
        ),
        ("count_terms", (["ab"], {"ab": 1}, 1, False, True, np.zeros(2, INT), np.zeros(9, INT), np.zeros(9))),
        (
            "count_terms",
            (["ab"], {"ab": -1}, 1, False, True, np.zeros(2, INT), np.zeros(9, INT), np.zeros(9)),
        ),
        (
            "count_terms",
            (["ab"], {"ab": "x"}, 1, False, True, np.zeros(2, INT), np.zeros(9, INT), np.zeros(9)),
        ),
        ("count_terms", (["ab cd"], None, 9, False, True, np.zeros(2, INT), np.zeros(1, INT), np.zeros(1))),
        ("count_terms", (["ab"], None, 0, False, True, np.zeros(2, INT), np.zeros(9, INT), np.zeros(9))),
        (
            "count_terms",
            (["ab"], None, 1 << 40, False, True, np.zeros(2, INT), np.zeros(9, INT), np.zeros(9)),
        ),
        ("count_terms", (["ab"], None, 9, False, True, np.zeros(1, INT), np.zeros(9, INT), np.zeros(9))),
        ("count_terms", (["ab"], None, 9, False, True, np.zeros(2, INT), np.zeros(9, INT), np.zeros(8))),
        ("weigh_terms", (np.array([0, 1]), np.array([2]), np.zeros(1), np.zeros(2), 0)),
        ("weigh_terms", (np.array([0, 1]), np.array([-1]), np.zeros(1), None, 2)),
        ("weigh_terms", (np.array([0, 2, 1]), np.array([0]), np.zeros(1), None, 2)),
        ("weigh_terms", (np.array([0, 2]), np.array([0]), np.zeros(1), None, 2)),
        ("weigh_terms", (np.zeros(0, INT), np.zeros(0, INT), np.zeros(0), None, 2)),
        ("weigh_terms", (np.array([0, 1]), np.array([0]), np.zeros(1), None, 3)),
        ("scatter", (np.array([0, 1]), np.array([1]), np.zeros(1), np.zeros((1, 3)), 2)),
        ("scatter", (np.array([0, 1]), np.array([1]), np.zeros(1), np.zeros((2, 3)), 0)),
        ("scatter", (np.array([0, 1]), np.array([1]), np.zeros(1), np.zeros((1, 3)), -1)),
        ("one_hot", ([["a"]], (({"a": 2}, 0, 0),), (0,), np.zeros((1, 3)), 1)),
        ("one_hot", ([["a"]], (({"a": -2}, 0, 0),), (0,), np.zeros((1, 3)), 1)),
        ("one_hot", ([["a"]], (({"a": 0}, 0, 0),), (1,), np.zeros((1, 3)), 1)),
        ("one_hot", ([["a"]], (({"a": 0}, 0, 0),), (-1,), np.zeros((1, 3)), 1)),
        ("one_hot", ([["a", "b"]], (({"a": 0}, 0, 0),), (0,), np.zeros((1, 3)), 1)),
        ("one_hot", ([["a"]], (({"a": 0}, 0),), (0,), np.zeros((1, 3)), 1)),
        ("one_hot", ([[[]]], (({"a": 0}, 0, 0),), (0,), np.zeros((1, 3)), 1)),
        ("category_codes", ([["a"]], (({"a": 1}, 0.0, 0.0),), (0,), np.zeros((1, 3)), 1)),
        ("category_codes", ([["a"]], (({"a": 1.0}, 0.0, 0.0),), (0,), np.zeros((1, 3)), 3)),
    ],
)
def test_what_does_not_fit_is_refused(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, ValueError, IndexError)):
        getattr(native, name)(*arguments)


def test_nothing_is_kept() -> None:
    """A reference that is lost in a kernel costs memory with every call."""

    def calls(times: int) -> int:
        for number in range(times):
            words = f"word{number} other{number} known " * 20
            counted(native, [words, words.split()], {"known": 0}, 1, False, True)
            counted(native, [[f"ä{number}"] * 20], None, 8, True, True)
            table = ({f"k{number}": number / 7}, math.nan, None)
            out = np.zeros((1, 1))
            assert native.category_codes([[f"k{number}"]], (table,), (0,), out, 0)
            assert not native.one_hot([["other"]], (({f"k{number}": 0}, -1, None),), (0,), out, 0)
            with pytest.raises(ValueError, match="width"):
                counted(native, [words], {"known": 5}, 1, False, True)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = calls(2_000)
    assert calls(10_000) - before < 2_000, "kilobytes"
