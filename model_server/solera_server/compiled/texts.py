"""Texts to numbers: CountVectorizer, TfidfVectorizer, HashingVectorizer, as sparse blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled import kernels
from solera_server.compiled.blocks import SPARSE, TEXTS, Matrix, Sparse
from solera_server.compiled.encoders import expect_float64
from solera_server.compiled.registry import Shape, Step, Transformer, transformer
from solera_server.compiled.tokens import Analyser, analyser

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from solera_server.compiled.node import Node

MAX_HASHED = 2**26
_NORMS = {None: 0, "l1": 1, "l2": 2}


class Terms(Step):
    """How often each term stands in a text, by a vocabulary or by hashes; then weighted and normalised."""

    kind = SPARSE

    def __init__(
        self, width: int, terms: Analyser, weights: Weights, vocabulary: dict[str, int] | None
    ) -> None:
        super().__init__(width, [0] * width)
        self._terms = terms
        self._weights = weights
        self._vocabulary = vocabulary
        self._signed = weights.signed

    def __call__(self, block: list[str], calm: bool) -> Sparse:
        terms = self._terms
        items: list[Any] = block
        if terms.plain is None:
            items = [terms.split(text) for text in block]
        elif not all(map(str.isascii, block)):
            items = [text if text.isascii() else terms.split(text) for text in block]
        most = sum(map(len, items))  # a term has a letter at least
        ends = np.empty(len(items) + 1, dtype=np.int64)
        indices = np.empty(most, dtype=np.int64)
        data = np.empty(most)
        used = kernels.count_terms(
            items, self._vocabulary, self.width, self._signed, bool(terms.plain), ends, indices, data
        )
        return Sparse(self.width, ends, indices[:used], self._weights(ends, indices[:used], data[:used]))


class Weights:
    """What becomes of counts."""

    def __init__(
        self,
        *,
        binary: bool,
        sublinear: bool = False,
        idf: Matrix | None = None,
        norm: str | None = None,
        signed: bool = False,
    ) -> None:
        self._binary, self._sublinear, self._idf = binary, sublinear, idf
        self._norm = _NORMS[norm]
        self.signed = signed

    def __call__(self, ends: NDArray[np.int64], indices: NDArray[np.int64], data: Matrix) -> Matrix:
        """Return the weights of counts, which may be changed."""
        if self._binary:
            data.fill(1.0)
        if self._sublinear:
            data = np.log(data) + 1.0
        if self._idf is not None or self._norm:
            kernels.weigh_terms(ends, indices, data, self._idf, self._norm)
        return data


def normalised(block: Sparse, norm: str) -> Matrix:
    """Return the values over the norm of their row ("l1" or "l2"), summed in their order."""
    data = block.data.copy()
    kernels.weigh_terms(block.indptr, block.indices, data, None, _NORMS[norm])
    return data


def _vocabulary(node: Node) -> dict[str, int]:
    vocabulary = node.get("vocabulary_")
    if not isinstance(vocabulary, dict) or not all(isinstance(term, str) for term in vocabulary):
        raise node.fail("vocabulary_ is no dict of terms")
    places = list(vocabulary.values())
    if not all(type(place) is int for place in places) or sorted(places) != list(range(len(places))):
        raise node.fail("vocabulary_ does not number its terms")
    return vocabulary


def _analyser(node: Node) -> Analyser:
    return analyser(node, only_known_terms=not node.flag("fixed_vocabulary_"))


def _norm(node: Node) -> str | None:
    return None if node.get("norm") is None else node.text("norm", ("l1", "l2"))


@transformer("sklearn.feature_extraction.text.CountVectorizer")
def count_vectorizer(node: Node, shape: Shape) -> Transformer:
    shape.expect(node, TEXTS, None)
    vocabulary = _vocabulary(node)
    return Terms(len(vocabulary), _analyser(node), Weights(binary=node.flag("binary")), vocabulary)


@transformer("sklearn.feature_extraction.text.TfidfVectorizer")
def tfidf_vectorizer(node: Node, shape: Shape) -> Transformer:
    shape.expect(node, TEXTS, None)
    expect_float64(node)
    vocabulary = _vocabulary(node)
    inner = node.node("_tfidf", "TfidfTransformer")
    idf = inner.array("idf_", (len(vocabulary),)) if inner.flag("use_idf") else None
    weights = Weights(
        binary=node.flag("binary"), sublinear=inner.flag("sublinear_tf"), idf=idf, norm=_norm(inner)
    )
    return Terms(len(vocabulary), _analyser(node), weights, vocabulary)


@transformer("sklearn.feature_extraction.text.HashingVectorizer")
def hashing_vectorizer(node: Node, shape: Shape) -> Transformer:
    shape.expect(node, TEXTS, None)
    expect_float64(node)
    width = node.integer("n_features", 1, MAX_HASHED)
    weights = Weights(binary=node.flag("binary"), norm=_norm(node), signed=node.flag("alternate_sign"))
    return Terms(width, analyser(node, only_known_terms=False), weights, None)
