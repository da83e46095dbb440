"""Texts to numbers: CountVectorizer, TfidfVectorizer, HashingVectorizer, as sparse blocks."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from solera_server.compiled.blocks import SPARSE, TEXTS, Matrix, Sparse
from solera_server.compiled.encoders import expect_float64
from solera_server.compiled.registry import Shape, Step, Transformer, transformer
from solera_server.compiled.tokens import analyser

if TYPE_CHECKING:
    from collections.abc import Callable

    from solera_server.compiled.node import Node

MAX_HASHED = 2**26
_MASK = 0xFFFFFFFF
_REMEMBERED_TERMS = 50_000
# Longer terms are hashed anew each time: clients choose them, and what is remembered must stay small.
_REMEMBERED_LENGTH = 100


class Terms(Step):
    """How often each term of a vocabulary stands in a text; then weighted and normalised."""

    kind = SPARSE

    def __init__(
        self,
        width: int,
        count: Callable[[str], dict[int, float]],
        weigh: Callable[[Sparse], Matrix] | None,
    ) -> None:
        super().__init__(width, [0] * width)
        self._count = count
        self._weigh = weigh

    def __call__(self, block: list[str], calm: bool) -> Sparse:  # noqa: ARG002
        ends = [0]
        indices: list[int] = []
        values: list[float] = []
        for text in block:
            counts = self._count(text)
            for index in sorted(counts):
                indices.append(index)
                values.append(counts[index])
            ends.append(len(indices))
        found = Sparse(
            self.width,
            np.array(ends),
            np.array(indices, dtype=np.int64),
            np.array(values, dtype=np.float64),
        )
        if self._weigh is not None:
            found.data = self._weigh(found)
        return found


def normalised(block: Sparse, norm: str) -> Matrix:
    """Return the values over the norm of their row ("l1" or "l2"), summed in their order."""
    data = block.data
    if block.rows == 1:
        total = 0.0
        for value in data.tolist():
            total += value * value if norm == "l2" else abs(value)
        if total == 0.0:
            return data
        return data / (math.sqrt(total) if norm == "l2" else total)
    if not len(data):
        return data
    rows = block.row_numbers()
    sums = np.bincount(rows, data * data if norm == "l2" else np.absolute(data), block.rows)
    if norm == "l2":
        sums = np.sqrt(sums)
    sums[sums == 0] = 1.0
    return data / sums[rows]


def _weighting(
    *, binary: bool, sublinear: bool, idf: Matrix | None, norm: str | None
) -> Callable[[Sparse], Matrix] | None:
    if not binary and not sublinear and idf is None and norm is None:
        return None

    def weigh(block: Sparse) -> Matrix:
        if binary:
            block.data = np.ones(len(block.data))
        if sublinear:
            block.data = np.log(block.data) + 1.0
        if idf is not None:
            block.data = block.data * idf[block.indices]
        return block.data if norm is None else normalised(block, norm)

    return weigh


def _vocabulary(node: Node) -> dict[str, int]:
    vocabulary = node.get("vocabulary_")
    if not isinstance(vocabulary, dict) or not all(isinstance(term, str) for term in vocabulary):
        raise node.fail("vocabulary_ is no dict of terms")
    places = list(vocabulary.values())
    if not all(type(place) is int for place in places) or sorted(places) != list(range(len(places))):
        raise node.fail("vocabulary_ does not number its terms")
    return vocabulary


def _counter(node: Node, vocabulary: dict[str, int]) -> Callable[[str], dict[int, float]]:
    analyse = analyser(node, only_known_terms=not node.flag("fixed_vocabulary_"))
    find = vocabulary.get

    def count(text: str) -> dict[int, float]:
        counts: dict[int, float] = {}
        for term in analyse(text):
            index = find(term)
            if index is not None:
                counts[index] = counts.get(index, 0.0) + 1.0
        return counts

    return count


def _norm(node: Node) -> str | None:
    return None if node.get("norm") is None else node.text("norm", ("l1", "l2"))


@transformer("sklearn.feature_extraction.text.CountVectorizer")
def count_vectorizer(node: Node, shape: Shape) -> Transformer:
    shape.expect(node, TEXTS, None)
    vocabulary = _vocabulary(node)
    weigh = _weighting(binary=node.flag("binary"), sublinear=False, idf=None, norm=None)
    return Terms(len(vocabulary), _counter(node, vocabulary), weigh)


@transformer("sklearn.feature_extraction.text.TfidfVectorizer")
def tfidf_vectorizer(node: Node, shape: Shape) -> Transformer:
    shape.expect(node, TEXTS, None)
    expect_float64(node)
    vocabulary = _vocabulary(node)
    inner = node.node("_tfidf", "TfidfTransformer")
    idf = inner.array("idf_", (len(vocabulary),)) if inner.flag("use_idf") else None
    weigh = _weighting(
        binary=node.flag("binary"), sublinear=inner.flag("sublinear_tf"), idf=idf, norm=_norm(inner)
    )
    return Terms(len(vocabulary), _counter(node, vocabulary), weigh)


@transformer("sklearn.feature_extraction.text.HashingVectorizer")
def hashing_vectorizer(node: Node, shape: Shape) -> Transformer:
    shape.expect(node, TEXTS, None)
    expect_float64(node)
    width = node.integer("n_features", 1, MAX_HASHED)
    signed = node.flag("alternate_sign")
    analyse = analyser(node, only_known_terms=False)

    def place(term: str) -> tuple[int, float]:
        return _place(murmur3(term.encode("utf-8")), width, signed=signed)

    remembered = lru_cache(_REMEMBERED_TERMS)(place)

    def count(text: str) -> dict[int, float]:
        counts: dict[int, float] = {}
        for term in analyse(text):
            index, sign = remembered(term) if len(term) <= _REMEMBERED_LENGTH else place(term)
            counts[index] = counts.get(index, 0.0) + sign
        return counts

    return Terms(
        width, count, _weighting(binary=node.flag("binary"), sublinear=False, idf=None, norm=_norm(node))
    )


def _place(hashed: int, width: int, *, signed: bool) -> tuple[int, float]:
    """Return the column and the sign of a term, from its hash as a signed number."""
    index = (2**31 - 1 - (width - 1)) % width if hashed == -(2**31) else abs(hashed) % width
    return index, -1.0 if signed and hashed < 0 else 1.0


def murmur3(data: bytes, seed: int = 0) -> int:
    """Return MurmurHash3 (x86, 32 bits) of the bytes, as a signed number."""
    value = seed
    whole = len(data) & ~3
    for start in range(0, whole, 4):
        value ^= _mixed(int.from_bytes(data[start : start + 4], "little"))
        value = (value << 13 | value >> 19) & _MASK
        value = (value * 5 + 0xE6546B64) & _MASK
    if whole != len(data):
        value ^= _mixed(int.from_bytes(data[whole:], "little"))
    value ^= len(data)
    value = (value ^ value >> 16) * 0x85EBCA6B & _MASK
    value = (value ^ value >> 13) * 0xC2B2AE35 & _MASK
    value ^= value >> 16
    return value - 2**32 if value >= 2**31 else value


def _mixed(word: int) -> int:
    word = word * 0xCC9E2D51 & _MASK
    word = (word << 15 | word >> 17) & _MASK
    return word * 0x1B873593 & _MASK
