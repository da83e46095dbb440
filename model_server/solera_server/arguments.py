"""
How the words of a command line are read, and what is said of one that is wrong.

A wrong word is a failure like any other (BadSpec), so that whoever started the server finds it where all
others are: in the log and in the termination message.
"""

from __future__ import annotations

import argparse
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn

from solera_core.failures import Failure, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LONGEST_WORD = 100


class Parser(argparse.ArgumentParser):
    """A parser that raises Failure (BadSpec), where argparse prints its usage and exits."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        words = message.removeprefix("argument ").rstrip(".")
        raise Failure(Reason.BAD_SPEC, f"{words}; see {self.prog} --help.")

    def refuse_unknown(self, words: Sequence[str]) -> None:
        """Refuse words that belong to no option, if there are any, by the first of them."""
        if not words:
            return
        word = words[0].partition("=")[0]
        if not word.startswith("-"):
            self.error(f'"{_short(word)}" stands without an option, such as --model')
        known = [option for option in self._option_string_actions if option.startswith("--")]
        similar = get_close_matches(word, known, n=1)
        self.error(f'there is no option "{_short(word)}"' + "".join(f" (is it {one}?)" for one in similar))

    def require(self, given: argparse.Namespace, options: Sequence[str]) -> None:
        """
        Refuse a command line without one of these options.

        argparse would do so before it has seen a word that is wrong, such as the option misspelt.
        """
        for option in options:
            if getattr(given, option.removeprefix("--")) is None:
                self.error(f"{option} is missing")


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return what reads a whole number within bounds."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f'write a whole number from {low} to {high}, not "{_short(text)}"'
            )
        return value

    return read


def number(low: float, high: float, of: str = "a number") -> Callable[[str], float]:
    """Return what reads a number within bounds; ``of`` says of what."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:  # nor is NaN
            raise argparse.ArgumentTypeError(f'write {of} from {low:g} to {high:.10g}, not "{_short(text)}"')
        return value

    return read


def seconds(low: float, high: float) -> Callable[[str], float]:
    return number(low, high, "seconds")


def name(text: str) -> str:
    """Read a name of a model or version: it stands in URLs, labels and receipts."""
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            "write 1 to 63 letters, digits, dots, dashes and underscores, "
            f'a letter or digit first and last, not "{_short(text)}"'
        )
    return text


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_WORD else f"{text[:_LONGEST_WORD]}…"
