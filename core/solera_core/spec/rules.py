"""Rules that hold twice: as CEL in the API server and as Python wherever a spec is read.

A rule is declared once, beside the field or the type that it is about. The CRD generator takes its CEL, the
types take its Python check, and the reference pages take its text, so that a laptop and a cluster refuse the
same manifests with the same words.
"""

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

VALIDATIONS = "x-kubernetes-validations"
OPERATOR_RULES = "x-solera-operator-rules"
"""Key under which texts of rules without CEL travel in a JSON schema; the CRD generator takes them out."""

BROKEN = "solera_rule"
"""Type of the pydantic error that broken rules raise; its context holds `problems`: (path, message) pairs."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One statement about a value, with what to write instead when it does not hold.

    `message` may hold one `{}`: the offending value, given by `shown_cel` and `shown`.
    `at` is the field that the message is about, relative to the value ("" for the value itself).
    A rule without `cel` is checked by Solera only (CEL cannot see what it needs); a rule without `check` by
    the API server only (it compares with the stored object).
    """

    message: str
    cel: str | None = None
    check: Callable[[Any], bool] | None = None
    at: str = ""
    shown_cel: str | None = None
    shown: Callable[[Any], str] | None = None

    def text(self) -> str:
        """Return the message for readers, without a value."""
        return self.message.replace("{}", "…")

    def problem(self, value: Any) -> str | None:
        """Return the message if `value` breaks the rule."""
        if self.check is None or self.check(value):
            return None
        return self.message.replace("{}", self.shown(value)) if self.shown else self.message

    def validation(self) -> dict[str, str]:
        """Return the entry of `x-kubernetes-validations`."""
        if self.cel is None:
            raise ValueError("a rule without CEL has no place in a CRD")
        entry = {"rule": self.cel, "message": self.text()}
        if self.shown_cel is not None:
            before, _, after = self.message.partition("{}")
            parts = [cel_string(before), self.shown_cel, *([cel_string(after)] if after else [])]
            entry["messageExpression"] = " + ".join(parts)
        if self.at:
            entry["fieldPath"] = f".{self.at}"
        return entry


def matches(pattern: str, message: str, *, show: bool = True) -> Rule:
    """Return the rule that a whole string matches `pattern` (the common part of RE2 and Python's re)."""
    compiled = re.compile(pattern)
    return Rule(
        message=message + (", not {}" if show else ""),
        cel=f"self.matches({cel_string(f'^(?:{pattern})$')})",
        check=lambda value: compiled.fullmatch(value) is not None,
        shown_cel='"\'" + self + "\'"' if show else None,
        shown=(lambda value: f"'{value}'") if show else None,
    )


def unchanged(message: str) -> Rule:
    """Return the rule that a value never changes once it is stored."""
    return Rule(message=message, cel="self == oldSelf")


def cel_string(text: str) -> str:
    """Quote `text` as a CEL string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def cel_list(values: Sequence[str]) -> str:
    """Write `values` as a CEL list of strings."""
    return "[" + ", ".join(cel_string(value) for value in values) + "]"


def add_rules(schema: dict[str, Any], rules: Sequence[Rule]) -> None:
    """Add `rules` to a JSON schema in place."""
    for rule in rules:
        if rule.cel is None:
            schema.setdefault(OPERATOR_RULES, []).append(rule.text())
        else:
            schema.setdefault(VALIDATIONS, []).append(rule.validation())


def enforce(rules: Sequence[Rule], value: Any) -> None:
    """Raise one pydantic error that holds all rules which `value` breaks."""
    broken = [(rule.at, message) for rule in rules if (message := rule.problem(value)) is not None]
    if broken:
        refuse(broken)


def refuse(problems: list[tuple[str, str]]) -> NoReturn:
    """Raise the pydantic error for (relative path, message) pairs."""
    text = "; ".join(message for _, message in problems).replace("{", "(").replace("}", ")")
    raise PydanticCustomError(BROKEN, "{text}", {"text": text, "problems": problems})


class Rules:
    """Annotation that puts rules on a field: `Annotated[str, Rules(matches(...))]`."""

    def __init__(self, *rules: Rule, schema: dict[str, Any] | None = None) -> None:
        """Take the rules, and what else the JSON schema should hold."""
        self.rules = rules
        self.schema = schema or {}

    def validate(self, value: Any) -> Any:
        """Return `value` if it keeps the rules."""
        enforce(self.rules, value)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check after pydantic's own checks, as the API server does."""
        return core_schema.no_info_after_validator_function(self.validate, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Put the rules and extra keywords beside what pydantic generates."""
        generated = dict(handler(schema))
        if VALIDATIONS in generated:
            generated[VALIDATIONS] = list(generated[VALIDATIONS])
        generated.update(self.schema)
        add_rules(generated, self.rules)
        return generated


class ListMap(Rules):
    """A list whose items are told apart by one field: server-side apply merges it by that key."""

    def __init__(self, key: str, *rules: Rule) -> None:
        """Take the key as it is called in YAML."""
        super().__init__(
            *rules, schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
        )
        self.key = key

    def validate(self, value: Any) -> Any:
        """Refuse two items with the same key."""
        refuse_duplicates([getattr(item, self.key) for item in value], self.key)
        return super().validate(value)


class ListSet(Rules):
    """A list of scalars in which no value comes twice."""

    def __init__(self, *rules: Rule) -> None:
        """Take further rules about the list."""
        super().__init__(*rules, schema={"x-kubernetes-list-type": "set"})

    def validate(self, value: Any) -> Any:
        """Refuse a value that comes twice."""
        refuse_duplicates(list(value), "value")
        return super().validate(value)


class Atomic(Rules):
    """A list that one writer owns as a whole: its order has a meaning."""

    def __init__(self, *rules: Rule) -> None:
        """Take further rules about the list."""
        super().__init__(*rules, schema={"x-kubernetes-list-type": "atomic"})


def refuse_duplicates(keys: Sequence[Hashable], what: str) -> None:
    """Raise the pydantic error that names every key which came before."""
    seen: set[Hashable] = set()
    problems = []
    for index, key in enumerate(keys):
        if key in seen:
            problems.append((f"[{index}]", f"Duplicate value: {what} '{key}' stands in the list already"))
        seen.add(key)
    if problems:
        refuse(problems)
