"""What values a parameter takes, and what a value in YAML means for it.

Numbers in YAML that has passed through an API server: `1.0` has become `1`. So in `params` a quoted decimal
(`"0.5"`, `"1.0"`) is a real, a bare integer is an integer, and where a parameter takes both a count and a
fraction and a bare integer could be either, it is refused: write `"1"` for the count, `"1.0"` for the
fraction.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from solera_core.nearest import did_you_mean

_INTEGER = re.compile(r"[+-]?\d{1,309}")
_DECIMAL = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?")


class BadValue(ValueError):  # noqa: N818 - names the value, not an error of the program
    """A parameter's value that its component does not take."""


@dataclass(frozen=True)
class Alternative:
    """One kind of value that a parameter takes: Integer, Real, String, Boolean, Null or List."""

    type: str
    minimum: float | None = None
    maximum: float | None = None
    min_open: bool = False
    max_open: bool = False
    values: tuple[str, ...] | None = None
    as_tuple: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Alternative:
        """Read the form that the catalogue's file has."""
        return cls(
            type=data["type"],
            minimum=data.get("min"),
            maximum=data.get("max"),
            min_open=data.get("minOpen", False),
            max_open=data.get("maxOpen", False),
            values=tuple(data["values"]) if "values" in data else None,
            as_tuple=data.get("asTuple", False),
        )

    def contains(self, number: float) -> bool:
        """Say whether a number lies within the bounds; what a float cannot hold never does."""
        if isinstance(number, float) and not math.isfinite(number):
            return False
        low = self.minimum is None or number > self.minimum or (number == self.minimum and not self.min_open)
        high = self.maximum is None or number < self.maximum or (number == self.maximum and not self.max_open)
        return low and high

    def __str__(self) -> str:
        match self.type:
            case "Integer" | "Real":
                noun = "an integer" if self.type == "Integer" else "a real number"
                return noun + self._bounds()
            case "String":
                quoted = [f'"{value}"' for value in self.values or ()]
                return " or ".join(quoted) if quoted else "a string"
            case "Boolean":
                return "true or false"
            case "Null":
                return "null"
            case _:
                return "a list"

    def _bounds(self) -> str:
        words = []
        if self.minimum is not None:
            words.append(("above " if self.min_open else "from ") + _plain(self.minimum))
        if self.maximum is not None:
            words.append(("below " if self.max_open else "up to ") + _plain(self.maximum))
        return " " + " ".join(words) if words else ""


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else repr(number)


def coerce(alternatives: tuple[Alternative, ...], value: Any) -> Any:
    """Return the Python value that the YAML value means for a parameter.

    Raises BadValue with a clause that follows the parameter's name.
    """
    takes = f"takes {' or '.join(map(str, alternatives))}"
    if value is None or isinstance(value, bool):
        wanted = "Null" if value is None else "Boolean"
        if any(alternative.type == wanted for alternative in alternatives):
            return value
        raise BadValue(f"{takes}, not {json.dumps(value)}.")
    if isinstance(value, list | tuple):
        return _coerce_list(alternatives, value, takes)
    if isinstance(value, str):
        return _coerce_string(alternatives, value, takes)
    if isinstance(value, int | float):
        return _coerce_number(alternatives, value, takes)
    raise BadValue(f"{takes}, not an object.")


def _coerce_string(alternatives: tuple[Alternative, ...], text: str, takes: str) -> Any:
    for alternative in alternatives:
        if alternative.type == "String" and alternative.values is not None and text in alternative.values:
            return text
    if _INTEGER.fullmatch(text) and (integer := _within(alternatives, "Integer", int(text))) is not None:
        return int(integer)
    if _DECIMAL.fullmatch(text):
        number = _within(alternatives, "Real", float(text))
        if number is not None:
            return number
        if any(alternative.type in {"Real", "Integer"} for alternative in alternatives):
            raise BadValue(f'{takes}, not "{text}".')
    if any(alternative.type == "String" and alternative.values is None for alternative in alternatives):
        return text
    known = [v for alternative in alternatives for v in alternative.values or ()]
    raise BadValue(f'{takes}, not "{text}".{did_you_mean(text, known)}')


def _coerce_number(alternatives: tuple[Alternative, ...], number: float, takes: str) -> float:
    if isinstance(number, int) and abs(number) >= 2**1023:
        raise BadValue(f"{takes}, not a number of {number.bit_length()} bits.")
    if not math.isfinite(number):
        raise BadValue(f"{takes}, not {number}.")
    if not float(number).is_integer():
        real = _within(alternatives, "Real", float(number))
        if real is None:
            raise BadValue(f"{takes}, not {number!r}.")
        return real
    integer, real = int(number), _within(alternatives, "Real", float(number))
    has_integers = any(alternative.type == "Integer" for alternative in alternatives)
    if has_integers and real is not None:
        raise BadValue(
            f'takes a count or a fraction, and {integer} could be either: write "{integer}" (quoted) for the '
            f'count, or "{integer}.0" (quoted) for the fraction.'
        )
    if _within(alternatives, "Integer", integer) is not None:
        return integer
    if real is None:
        raise BadValue(f"{takes}, not {integer}.")
    return real


def _coerce_list(alternatives: tuple[Alternative, ...], values: Sequence[Any], takes: str) -> Any:
    for alternative in alternatives:
        if alternative.type == "List":
            items = [_coerce_item(value, takes) for value in values]
            return tuple(items) if alternative.as_tuple else items
    raise BadValue(f"{takes}, not a list.")


def _coerce_item(value: Any, takes: str) -> Any:
    """Items have no declared type: numbers and quoted numbers as they are written, strings otherwise."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        number = float(value)
        if math.isfinite(number):
            return number
        raise BadValue(f'{takes}, not "{value}".')
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise BadValue(f"{takes}; its items are numbers, strings or booleans.")


def _within(alternatives: tuple[Alternative, ...], kind: str, number: float) -> float | None:
    for alternative in alternatives:
        if alternative.type == kind and alternative.contains(number):
            # -0.0 comes back from the API server as 0.
            return number + 0
    return None
