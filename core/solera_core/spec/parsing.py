"""Reading specs from outside: a value, or a list of problems with field paths, never a crash.

What the API server has stored may be older than the rules of today, and a laptop has no API server at all,
so everything that is read goes through `parse`. Its problems have the paths and, where a rule is broken, the
words that the API server would give.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from solera_core.nearest import did_you_mean, listed
from solera_core.spec.learning import LearningSpec
from solera_core.spec.names import MODEL_NAME_RULES
from solera_core.spec.rules import BROKEN

Model = TypeVar("Model", bound=BaseModel)
GROUP = "solera.dev"
API_VERSION = f"{GROUP}/v1alpha1"
NOT_LEARNED = frozenset({"serving", "versionHistoryLimit"})
"""Fields of a TrainedModel's spec that say nothing about learning."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: `path` as kubectl writes it (`spec.gates[0].min`), `message` what to write."""

    path: str
    message: str

    def __str__(self) -> str:
        """Return one line for people."""
        return f"{self.path}: {self.message}" if self.path else self.message


@dataclass(frozen=True, slots=True)
class Invalid:
    """What could not be read, and why. There is at least one problem."""

    problems: tuple[Problem, ...]

    def __str__(self) -> str:
        """Return one line for each problem."""
        return "\n".join(str(problem) for problem in self.problems)


def parse(model: type[Model], value: Any, *, at: str = "") -> Model | Invalid:
    """Read `value` (JSON as Python objects) as `model`; `at` is the path of `value` itself.

    Only camelCase names are read. Never raises, whatever `value` is.
    """
    try:
        return model.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        details = _telling(error.errors(include_url=False))
        return Invalid(tuple(problem for detail in details for problem in _problems(model, detail, at)))


def parse_manifest(manifest: Any) -> tuple[str, LearningSpec] | Invalid:
    """Return name and learning problem of a TrainedModel as written in YAML, for use without a cluster.

    How it is served is the cluster's business and is not looked at here.
    """
    if not isinstance(manifest, Mapping):
        return Invalid(
            (Problem("", "write a TrainedModel: an object with apiVersion, kind, metadata and spec"),)
        )
    problems = [
        Problem(field, f"write {field}: {wanted}, not '{manifest.get(field)}'")
        for field, wanted in (("apiVersion", API_VERSION), ("kind", "TrainedModel"))
        if manifest.get(field) != wanted
    ]
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(name, str):
        problems.append(Problem("metadata.name", "write the name of the model"))
    else:
        broken = (rule.problem(name) for rule in MODEL_NAME_RULES)
        problems += [Problem("metadata.name", message) for message in broken if message]
    spec = manifest.get("spec")
    if isinstance(spec, Mapping):
        spec = {key: value for key, value in spec.items() if key not in NOT_LEARNED}
    parsed = parse(LearningSpec, spec, at="spec")
    if spec is None:
        problems.append(Problem("spec", "Required value"))
    elif isinstance(parsed, Invalid):
        problems.extend(parsed.problems)
    if problems or isinstance(parsed, Invalid):
        return Invalid(tuple(problems))
    return str(name), parsed


def _telling(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out that a list is too short when that is only so because items of it are wrong."""
    return [
        detail
        for detail in details
        if detail["type"] != "too_short"
        or not any(other["loc"][: len(detail["loc"])] == detail["loc"] != other["loc"] for other in details)
    ]


def _problems(model: type[BaseModel], detail: ErrorDetails, at: str) -> list[Problem]:
    """Return the problems that one pydantic error stands for."""
    path = join(at, *detail["loc"])
    if detail["type"] == BROKEN:
        return [Problem(join(path, inner), message) for inner, message in detail["ctx"]["problems"]]
    return [Problem(path, _message(model, detail))]


def join(at: str, *parts: str | int) -> str:
    """Join paths as kubectl writes them."""
    path = at
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.startswith("[") or not path:
            path += part
        elif part:
            path += f".{part}"
    return path


_MESSAGES: dict[str, Callable[[Any, dict[str, Any]], str]] = {
    "missing": lambda _, __: "Required value",
    "enum": lambda value, told: _unsupported(value, told["expected"]),
    "literal_error": lambda value, told: _unsupported(value, told["expected"]),
    "too_long": lambda _, told: f"Too many: may have at most {told['max_length']} items",
    "too_short": lambda _, told: f"Too few: should have at least {told['min_length']} items",
    "string_too_long": lambda _, told: f"Too long: may not be more than {told['max_length']} characters",
    "string_too_short": lambda _, told: f"Too short: should have at least {told['min_length']} characters",
    "string_pattern_mismatch": lambda value, told: f"should match '{told['pattern']}', not {value!r}",
    "greater_than_equal": lambda value, told: (
        f"should be greater than or equal to {told['ge']}, not {value!r}"
    ),
    "less_than_equal": lambda value, told: f"should be less than or equal to {told['le']}, not {value!r}",
    "string_type": lambda value, _: f"must be of type string, in quotes, not {value!r}",
    "int_type": lambda value, _: f"must be of type integer, not {value!r}",
    "model_type": lambda value, _: f"must be of type object, not {value!r}",
    "dict_type": lambda value, _: f"must be of type object, not {value!r}",
    "tuple_type": lambda value, _: f"must be of type array, not {value!r}",
}


def _unsupported(value: Any, expected: str) -> str:
    allowed = ", ".join(f'"{name}"' for name in re.findall(r"'([^']*)'", expected))
    return f"Unsupported value: {value!r}: supported values: {allowed}"


def _message(model: type[BaseModel], detail: ErrorDetails) -> str:
    """Say in the API server's terms what pydantic found."""
    if detail["type"] == "extra_forbidden":
        return f"unknown field.{_nearest(model, detail['loc'])}"
    message = _MESSAGES.get(detail["type"])
    return message(detail["input"], detail.get("ctx", {})) if message else detail["msg"]


def _nearest(model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    """Return what to write instead of an unknown field."""
    known = _fields(model, loc[:-1])
    return did_you_mean(str(loc[-1]), known) or f" Known are {listed(known)}"


def prune(model: type[BaseModel], value: Any) -> Any:
    """Return `value` without the fields that `model` does not have, at any depth."""
    schema = _schema(model)
    return _prune(schema, value, schema.get("$defs", {}))


def _prune(node: Any, value: Any, definitions: Mapping[str, Any]) -> Any:
    node = _resolve(node, definitions)
    if isinstance(value, list) and "items" in node:
        return [_prune(node["items"], item, definitions) for item in value]
    if isinstance(value, dict) and "properties" in node:
        known = node["properties"]
        return {key: _prune(known[key], item, definitions) for key, item in value.items() if key in known}
    return value


@lru_cache(maxsize=16)
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(by_alias=True)


def _fields(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """Return the field names that are allowed at `loc`."""
    node: Any = _schema(model)
    definitions = node.get("$defs", {})
    for part in loc:
        node = _resolve(node, definitions)
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
    return list(_resolve(node, definitions).get("properties", {}))


def _resolve(node: Any, definitions: Mapping[str, Any]) -> Any:
    """Follow references, and take the one alternative of a field that may be absent."""
    while True:
        if "$ref" in node:
            node = definitions[node["$ref"].rsplit("/", 1)[1]]
        elif "anyOf" in node:
            node = next(choice for choice in node["anyOf"] if choice.get("type") != "null")
        else:
            return node
