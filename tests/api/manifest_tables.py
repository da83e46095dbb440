"""The tables in `manifests/`, for the API server's tests and for those of the types."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path(__file__).parent / "manifests"
EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Case:
    """One manifest and what is wrong with it."""

    name: str
    base: dict[str, Any]
    manifest: dict[str, Any]
    field: str
    message: str
    local_field: str
    local_message: str
    by: str = ""
    reason: str = ""


def base(name: str) -> dict[str, Any]:
    """Return a valid manifest."""
    return yaml.safe_load((MANIFESTS / "base" / f"{name}.yaml").read_text())


def merged(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386) and return the result."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def read_table(path: Path) -> list[Case]:
    """Read a table of wrong manifests; `$LONG` stands for 2,000 characters."""
    rows = yaml.safe_load(path.read_text().replace("$LONG", "x" * 2000))
    return [_case(row) for row in rows]


def _case(row: dict[str, Any]) -> Case:
    valid = base(row["base"])
    return Case(
        name=row["name"],
        base=valid,
        manifest=merged(valid, row["patch"]),
        field=row["field"],
        message=row["message"],
        local_field=row.get("localField", row["field"]),
        local_message=row.get("local", row["message"]),
        by=row.get("by", ""),
        reason=row.get("reason", ""),
    )


def wrong() -> list[Case]:
    """Return the manifests that the API server refuses."""
    return [case for path in sorted((MANIFESTS / "wrong").glob("*.yaml")) for case in read_table(path)]


def stalled() -> list[Case]:
    """Return the manifests that the API server accepts and Solera does not."""
    return [case for path in sorted((MANIFESTS / "stalled").glob("*.yaml")) for case in read_table(path)]


def changes() -> list[Case]:
    """Return the changes that the API server refuses."""
    return read_table(MANIFESTS / "changes.yaml")


def valid() -> dict[str, dict[str, Any]]:
    """Return manifests of Solera's kinds that are right, the published examples among them, by file name."""
    paths = [*(MANIFESTS / "base").glob("*.yaml"), *(MANIFESTS / "valid").glob("*.yaml")]
    paths += [*EXAMPLES.rglob("*.yaml")]
    found = {}
    for path in sorted(paths):
        for index, manifest in enumerate(yaml.safe_load_all(path.read_text())):
            if isinstance(manifest, dict) and str(manifest.get("apiVersion", "")).startswith("solera.dev/"):
                found[f"{path.parent.name}/{path.stem}" + (f"-{index}" if index else "")] = manifest
    return found
