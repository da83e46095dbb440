"""Durations, quantities and decimals as Kubernetes writes them."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from solera_core.spec.rules import Rule, Rules, cel_string, matches, refuse

_DURATION = r"([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?"
_DECIMAL = r"-?(0|[1-9][0-9]{0,11})(\.[0-9]{1,12})?"
_QUANTITY = r"(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,9})?(?:m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?"
_FACTORS = {
    "": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18), "Ki": Decimal(2**10),
    "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}  # fmt: skip


def parse_duration(text: str) -> timedelta:
    """Return the duration that `1h30m`, `90s` or the like stands for.

    Raises ValueError for anything else, days included (Kubernetes has no unit for them).
    """
    found = re.fullmatch(_DURATION, text)
    if found is None or not text:
        raise ValueError(f"write a duration in hours, minutes and seconds such as 1h30m, not '{text}'")
    hours, minutes, seconds = (int(part[:-1]) if part else 0 for part in found.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def duration(minimum: str, maximum: str) -> Rules:
    """Return the annotation of a string field that holds a duration within bounds."""
    low, high = parse_duration(minimum), parse_duration(maximum)
    written = _DURATION
    form = matches(written, "write a duration in hours, minutes and seconds such as 90s, 30m or 1h30m")
    return Rules(
        form,
        Rule(
            message=f"write a duration from {minimum} to {maximum}, not {{}}",
            cel=f"!self.matches({cel_string(f'^(?:{written})$')}) || "
            f"(duration(self) >= duration('{minimum}') && duration(self) <= duration('{maximum}'))",
            check=lambda value: re.fullmatch(written, value) is None or low <= parse_duration(value) <= high,
            shown_cel='"\'" + self + "\'"',
            shown=lambda value: f"'{value}'",
        ),
    )


def parse_quantity(value: str | int) -> Decimal:
    """Return the number that `500m`, `1Gi` or `2` stands for.

    Raises ValueError for anything else (negative numbers and exponents included).
    """
    text = str(value)
    if re.fullmatch(_QUANTITY, text) is None:
        raise ValueError(f"write a quantity such as 500m, 2 or 1Gi, not '{text}'")
    number = text.rstrip("mkKMGTPEi")
    return Decimal(number) * _FACTORS[text[len(number) :]]


class _IntOrString:
    """A whole number or a string, as the API server's int-or-string."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Refuse booleans and numbers with a fraction, as the API server does."""
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return what a structural schema says about such a value."""
        return {"x-kubernetes-int-or-string": True, "pattern": f"^{_QUANTITY}$", "minimum": 0}

    @staticmethod
    def validate(value: Any) -> str | int:
        """Return a quantity as it was written."""
        if isinstance(value, bool) or not isinstance(value, str | int):
            refuse([("", f"must be an integer or a string such as '500m' or '1Gi', not {value!r}")])
        try:
            parse_quantity(value)
        except ValueError as error:
            refuse([("", str(error))])
        return value


Quantity = Annotated[str | int, _IntOrString()]

DecimalString = Annotated[
    str,
    Field(min_length=1, max_length=26),
    Rules(matches(_DECIMAL, 'write a decimal in quotes such as "0.90"')),
]
"""A decimal number in quotes: the API server would turn a bare 1.0 into 1."""

Measured = Annotated[
    str,
    Field(min_length=1, max_length=40),
    Rules(matches(r"-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?", "write a finite number as repr(float) does")),
]
"""A number that Solera measured: `repr` of a finite float, in quotes for the API server's sake."""


def is_decimal(text: str) -> bool:
    """Say whether `text` is a decimal as the field rule wants it."""
    return re.fullmatch(_DECIMAL, text) is not None
