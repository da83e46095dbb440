"""Reading specs from outside: a value, or a list of problems with field paths, never a crash.

What the API server has stored may be older than the rules of today, and a laptop has no API server at all, so
everything that is read goes through `parse`. Its problems have the paths and, where a rule is broken, the words
that the API server would give.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from solera_core.spec.learning import LearningSpec
from solera_core.spec.names import model_name_problem
from solera_core.spec.rules import BROKEN

Model = TypeVar("Model", bound=BaseModel)
GROUP = "solera.dev"
API_VERSION = f"{GROUP}/v1alpha1"


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
        details = error.errors(include_url=False)
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
    elif wrong := model_name_problem(name):
        problems.append(Problem("metadata.name", wrong))
    spec = manifest.get("spec")
    known = {field.alias for field in LearningSpec.model_fields.values()} | {"task"}
    learned = (
        {key: value for key, value in spec.items() if key in known} if isinstance(spec, Mapping) else spec
    )
    parsed = parse(LearningSpec, learned, at="spec")
    if isinstance(parsed, Invalid):
        problems.extend(parsed.problems)
    if problems or isinstance(parsed, Invalid):
        return Invalid(tuple(problems))
    return str(name), parsed


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


def _message(model: type[BaseModel], detail: ErrorDetails) -> str:
    """Say in the API server's terms what pydantic found."""
    context = detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return "Required value"
        case "extra_forbidden":
            return f"unknown field{_nearest(model, detail['loc'])}"
        case "enum" | "literal_error":
            return f"Unsupported value: {detail['input']!r}: supported values: {context['expected']}"
        case "too_long" | "string_too_long":
            return f"Too long: may have at most {context['max_length']}"
        case "too_short" | "string_too_short":
            return f"Too short: should have at least {context['min_length']}"
        case "greater_than_equal":
            return f"should be greater than or equal to {context['ge']}, not {detail['input']!r}"
        case "less_than_equal":
            return f"should be less than or equal to {context['le']}, not {detail['input']!r}"
        case "string_type":
            return f"must be of type string, in quotes, not {detail['input']!r}"
        case "int_type" | "int_from_float":
            return f"must be of type integer, not {detail['input']!r}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must be of type object, not {type(detail['input']).__name__}"
        case "tuple_type":
            return f"must be of type array, not {type(detail['input']).__name__}"
        case _:
            return detail["msg"]


def _nearest(model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    """Return ", did you mean …?" for an unknown field, or nothing when no known one is near."""
    known = _fields(model, loc[:-1])
    near = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f", did you mean {near[0]}?" if near else f", known fields: {', '.join(known)}" if known else ""


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
