"""CRDs, made of the types: `python -m solera_operator.api.crd --write crds/` and `--check crds/`."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from solera_core.spec import GROUP
from solera_core.spec.rules import OPERATOR_RULES, VALIDATIONS
from solera_operator.api.modelversion import ModelVersion
from solera_operator.api.trainedmodel import TrainedModel

VERSION = "v1alpha1"
KINDS: tuple[type[TrainedModel] | type[ModelVersion], ...] = (TrainedModel, ModelVersion)

_NOT_STRUCTURAL = ("title", "additionalProperties", "propertyNames", "default", "$ref", "anyOf", "const")
_KEY_ORDER = ("description", "type", "format", "default", "enum")


def _condition(kind: str, field: str) -> str:
    return f".status.conditions[?(@.type=='{kind}')].{field}"


def _column(
    name: str, path: str, *, kind: str = "string", wide: bool = False, text: str = ""
) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    if text:
        column["description"] = text
    if wide:
        column["priority"] = 1
    return column


COLUMNS = {
    "TrainedModel": [
        _column(
            "Ready", _condition("Ready", "status"), text="Whether the current spec is carried out and serves"
        ),
        _column("Reason", _condition("Ready", "reason"), text="Why it is ready or not"),
        _column("Champion", ".status.champion.version", text="The version that should serve"),
        _column("Serving", ".status.serving.version", text="The version that does serve"),
        _column("Pods", ".status.serving.readyReplicas", kind="integer", text="Server pods that answer"),
        _column("Age", ".metadata.creationTimestamp", kind="date"),
        _column("Task", ".spec.task", wide=True, text="What kind of problem the model solves"),
        _column("URL", ".status.url", wide=True, text="Where clients reach the model"),
        _column(
            "Message", _condition("Ready", "message"), wide=True, text="Why it is ready or not, for people"
        ),
    ],
    "ModelVersion": [
        _column("Model", ".spec.modelName", text="The TrainedModel"),
        _column("Ready", _condition("Ready", "status"), text="Whether it is trained and judged"),
        _column("Reason", _condition("Ready", "reason"), text="Why it is ready or not"),
        _column("Verdict", ".status.verdict", text="What the gates say together"),
        _column("Candidate", ".status.candidate.name", text="The candidate that won the cross-validation"),
        _column("Score", ".status.candidate.cvScore", text="Its cross-validated score"),
        _column("Age", ".metadata.creationTimestamp", kind="date"),
        _column("Made", ".spec.reason", wide=True, text="Why the version was made"),
        _column("Digest", ".status.artifact.digest", wide=True, text="Digest of the artifact"),
        _column(
            "Message", _condition("Ready", "message"), wide=True, text="Why it is ready or not, for people"
        ),
    ],
}
SHORT_NAMES = {"TrainedModel": "tmd", "ModelVersion": "mv"}


def definition(kind: type[TrainedModel] | type[ModelVersion]) -> dict[str, Any]:
    """Return the CustomResourceDefinition of `kind`."""
    name = kind.__name__
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "solera"}},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": kind.plural,
                "singular": name.lower(),
                "shortNames": [SHORT_NAMES[name]],
                "categories": ["solera"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": COLUMNS[name],
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema(kind)},
                }
            ],
        },
    }


def schema(kind: type[TrainedModel] | type[ModelVersion], *, operator_rules: bool = False) -> dict[str, Any]:
    """Return the structural schema of `kind`.

    With `operator_rules`, the texts of rules that only Solera checks stay in it (for the reference pages).
    """
    generated = kind.model_json_schema(by_alias=True)
    root = _structural(generated, generated.get("$defs", {}), operator_rules=operator_rules)
    properties = root["properties"]
    properties["apiVersion"] = {"description": f"{GROUP}/{VERSION}.", "type": "string"}
    properties["kind"] = {"description": f"{kind.__name__}.", "type": "string"}
    # Declared so that rules can point at it and their cost is bounded; 253 is the API server's own limit.
    name = {"type": "string", "maxLength": 253}
    properties["metadata"] = {"type": "object", "properties": {"name": name}}
    properties["status"] = _without_defaults(properties["status"])
    properties["status"].pop("default", None)
    root["required"] = ["spec"]
    return root


def _structural(node: Mapping[str, Any], defs: Mapping[str, Any], *, operator_rules: bool) -> dict[str, Any]:
    """Return `node` with references inlined and everything that a structural schema may not hold left out."""
    node = _merged(node, defs)
    result = {key: value for key, value in node.items() if key not in _NOT_STRUCTURAL and key != "$defs"}
    if not operator_rules:
        result.pop(OPERATOR_RULES, None)
    if "description" in result:
        result["description"] = " ".join(result["description"].split())
    if "properties" in node:
        result["properties"] = {
            key: _structural(value, defs, operator_rules=operator_rules)
            for key, value in node["properties"].items()
        }
    if "items" in node:
        result["items"] = _structural(node["items"], defs, operator_rules=operator_rules)
    if isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(
            node["additionalProperties"], defs, operator_rules=operator_rules
        )
    if result.get("x-kubernetes-int-or-string"):
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]  # said too, as the API server serves it
    result |= _default(node)
    if result.get("type") == "integer" and result.get("maximum", 0) > 2**31 - 1:
        result["format"] = "int64"
    order = {key: place for place, key in enumerate(_KEY_ORDER)}
    return dict(sorted(result.items(), key=lambda item: order.get(item[0], len(order))))


def _merged(node: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    """Follow references and take the alternative that is not null; what stands beside them is added."""
    beside = {key: value for key, value in node.items() if key not in {"$ref", "anyOf"}}
    if "$ref" in node:
        target = _merged(defs[node["$ref"].rsplit("/", 1)[1]], defs)
    elif "anyOf" in node:
        (alternative,) = (choice for choice in node["anyOf"] if choice.get("type") != "null")
        target = _merged(alternative, defs)
    else:
        return beside
    merged = target | beside
    for key in (VALIDATIONS, OPERATOR_RULES):
        if key in target and key in beside:
            merged[key] = [*target[key], *beside[key]]
    return merged


def _default(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default that the API server applies: an object's is empty, its fields have their own."""
    default = node.get("default")
    if default is None or default in ([], ""):
        return {}
    if isinstance(default, dict):
        return {"default": {}} if "properties" in node else {}
    return {"default": default}


def _without_defaults(node: Any) -> Any:
    """Drop every default: the status says what Solera wrote and nothing else."""
    if isinstance(node, list):
        return [_without_defaults(item) for item in node]
    if not isinstance(node, dict):
        return node
    is_schema = "type" in node or "x-kubernetes-int-or-string" in node
    return {
        key: _without_defaults(value) for key, value in node.items() if not (is_schema and key == "default")
    }


def render(kind: type[TrainedModel] | type[ModelVersion]) -> str:
    """Return the CRD of `kind` as YAML."""
    head = "# Generated by `python -m solera_operator.api.crd`: change the types, not this file.\n"
    body: str = yaml.safe_dump(definition(kind), sort_keys=False, width=110, allow_unicode=True)
    return head + body


def files() -> dict[str, str]:
    """Return all CRDs: file name to content."""
    return {f"{GROUP}_{kind.plural}.yaml": render(kind) for kind in KINDS}


def stale(directory: Path, wanted: Mapping[str, str], pattern: str) -> list[str]:
    """Return what in `directory` differs from the `wanted` files, a line each; `pattern` finds all files."""
    wrong = []
    for name, content in wanted.items():
        path = directory / name
        if not path.exists():
            wrong.append(f"{path} is missing")
        elif path.read_text() != content:
            wrong.append(f"{path} is not what the types give")
    wrong += [f"{path} has no type" for path in sorted(directory.glob(pattern)) if path.name not in wanted]
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """Write or check the CRDs; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m solera_operator.api.crd", description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--write", metavar="DIR", type=Path, help="write the CRDs there")
    choice.add_argument(
        "--check", metavar="DIR", type=Path, help="fail if the CRDs there differ from the types"
    )
    given = parser.parse_args(arguments)
    if given.write:
        given.write.mkdir(parents=True, exist_ok=True)
        for name, content in files().items():
            (given.write / name).write_text(content)
        return 0
    wrong = stale(given.check, files(), f"{GROUP}_*.yaml")
    for line in wrong:
        sys.stderr.write(f"{line}: run python -m solera_operator.api.crd --write {given.check}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
