"""From a text to its terms, as the parameters of a vectoriser say: words or characters, and runs of them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from solera_server.compiled.refusals import NotCompilable

if TYPE_CHECKING:
    from collections.abc import Callable

    from solera_server.compiled.node import Node

MAX_NGRAM = 20
_SPACES = re.compile(r"\s\s+")
_DEFAULT_PATTERN = r"(?u)\b\w\w+\b"
_STOP_WORDS_FILE = "sklearn/feature_extraction/_stop_words.py"


@dataclass(frozen=True, slots=True)
class Analyser:
    """What makes terms of a text."""

    split: Callable[[str], list[str]]
    """The terms of any text."""

    plain: bool | None
    """Whether words are lowered, where the terms of an ASCII text are its words; None where they are not."""


def analyser(node: Node, *, only_known_terms: bool) -> Analyser:
    """
    Return what makes terms of texts.

    ``only_known_terms`` says that terms are looked up in a vocabulary from which training kept stop words
    out: then single words need no list of them. Raises NotCompilable.
    """
    for key in ("preprocessor", "tokenizer"):
        if node.get(key) is not None:
            raise node.fail(f"{key} is a function")
    if node.text("input") != "content":
        raise node.fail("it reads files")
    low, high = _range(node)
    prepare = _preparation(node)
    match node.text("analyzer", ("word", "char", "char_wb")):
        case "char":
            return Analyser(lambda text: _characters(_SPACES.sub(" ", prepare(text)), low, high), None)
        case "char_wb":
            return Analyser(lambda text: _padded_words(_SPACES.sub(" ", prepare(text)), low, high), None)
    pattern = _word_pattern(node)
    split = pattern.findall
    stop = _stop_words(node, needed=high > 1 or not only_known_terms)
    if stop is None and (low, high) == (1, 1):
        # Accents are none in ASCII, so that stripping them changes nothing.
        plain = node.flag("lowercase") if pattern.pattern == _DEFAULT_PATTERN else None
        return Analyser(lambda text: split(prepare(text)), plain)
    stopped = stop or frozenset()

    def words(text: str) -> list[str]:
        kept = [word for word in split(prepare(text)) if word not in stopped]
        return kept if high == 1 else _word_runs(kept, low, high)

    return Analyser(words, None)


def _range(node: Node) -> tuple[int, int]:
    bounds = node.listed("ngram_range", 2)
    if not all(isinstance(bound, int) for bound in bounds) or not 1 <= bounds[0] <= bounds[1] <= MAX_NGRAM:
        raise node.fail("ngram_range is no range")
    return bounds[0], bounds[1]


def _preparation(node: Node) -> Callable[[str], str]:
    accents = node.get("strip_accents")
    if accents not in (None, "ascii", "unicode"):
        raise node.fail("strip_accents is a function")
    strip = {None: None, "ascii": _ascii, "unicode": _without_accents}[accents]
    lower = node.flag("lowercase")
    if strip is None:
        return str.lower if lower else str
    return (lambda text: strip(text.lower())) if lower else strip


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ASCII", "ignore").decode("ASCII")


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    return "".join(
        letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter)
    )


def _word_pattern(node: Node) -> re.Pattern[str]:
    try:
        pattern = re.compile(node.text("token_pattern"))
    except re.error as error:
        raise node.fail(f"token_pattern is no pattern: {error}") from error
    if pattern.groups > 1:
        raise node.fail("token_pattern has several groups")
    return pattern


def _stop_words(node: Node, *, needed: bool) -> frozenset[str] | None:
    """Return the words to leave out; None when there are none or nobody can tell."""
    words = node.get("stop_words")
    if words is None or (words == "english" and not needed):
        return None
    if words == "english":
        return english_stop_words()
    if isinstance(words, list | tuple | frozenset) and all(isinstance(word, str) for word in words):
        return frozenset(words)
    raise node.fail("stop_words is no list of words")


@cache
def english_stop_words() -> frozenset[str]:
    """
    Return scikit-learn's list, from its file alone: the package is not imported.

    Raises NotCompilable where scikit-learn is not installed.
    """
    try:
        import importlib.metadata
        import importlib.util

        path = importlib.metadata.distribution("scikit-learn").locate_file(_STOP_WORDS_FILE)
        spec = importlib.util.spec_from_file_location("solera_stop_words", str(path))
        module = importlib.util.module_from_spec(cast("Any", spec))
        cast("Any", spec).loader.exec_module(module)
        words: Any = module.ENGLISH_STOP_WORDS
    except (ImportError, OSError, AttributeError) as error:
        raise NotCompilable(
            "the English stop words come with scikit-learn, which is not installed"
        ) from error
    return frozenset(words)


def _word_runs(words: list[str], low: int, high: int) -> list[str]:
    """Return the runs of ``low`` to ``high`` neighbouring words, joined by spaces; the short ones first."""
    terms: list[str] = []
    for length in range(low, min(high, len(words)) + 1):
        if length == 1:
            terms += words
        else:
            terms += [" ".join(words[start : start + length]) for start in range(len(words) - length + 1)]
    return terms


def _characters(text: str, low: int, high: int) -> list[str]:
    return [
        text[start : start + length]
        for length in range(low, min(high, len(text)) + 1)
        for start in range(len(text) - length + 1)
    ]


def _padded_words(text: str, low: int, high: int) -> list[str]:
    """Return the runs of characters within each word and the spaces around it."""
    terms: list[str] = []
    for word in text.split():
        padded = f" {word} "
        for length in range(low, high + 1):
            if length >= len(padded):
                # The whole of a short word counts once.
                terms.append(padded)
                break
            terms += [padded[start : start + length] for start in range(len(padded) - length + 1)]
    return terms
