"""Generate the catalogue of the installed scikit-learn, and the reference page made from it.

`python -m solera_trainer.catalogue_gen [--check]` writes `core/solera_core/catalogue/<runtime>.json` and
`docs/reference/estimators.md`, or with --check says whether they are fresh. The allow-list is in
`catalogue_choice`: nothing is trainable that is not named there.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import math
import sys
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from solera_trainer.catalogue_choice import (
    ANY_OF_SCALARS,
    ESTIMATORS,
    MANAGED,
    METRICS,
    NO_LISTS,
    REFUSED_VALUES,
    TEXT_TRANSFORMERS,
    TRANSFORMERS,
    TRANSFORMERS_FOR_ONE_TASK,
)

ROOT = Path(__file__).parents[2]


def generate() -> dict[str, Any]:
    """Return the catalogue of the scikit-learn that is installed."""
    import sklearn

    version = sklearn.__version__
    runtime = "sklearn-" + ".".join(version.split(".")[:2])
    return {
        "formatVersion": 1,
        "runtime": runtime,
        "sklearnVersion": version,
        "estimators": {dotted: _estimator(dotted) for dotted in sorted(ESTIMATORS)},
        "transformers": {dotted: _transformer(dotted) for dotted in sorted(TRANSFORMERS)},
        "metrics": METRICS,
    }


def _estimator(dotted: str) -> dict[str, Any]:
    from sklearn.base import is_classifier

    cls = _load(dotted)
    task = "Classification" if is_classifier(cls()) else "Regression"
    item: dict[str, Any] = {"tasks": [task], **_parameters(cls)}
    # Some classes have predict_proba only under a setting, so an instance is asked, not the class.
    if hasattr(cls(), "predict_proba"):
        item["proba"] = True
    return item


def _transformer(dotted: str) -> dict[str, Any]:
    tasks = TRANSFORMERS_FOR_ONE_TASK.get(dotted, ["Classification", "Regression"])
    item = {"tasks": tasks, **_parameters(_load(dotted))}
    if dotted in TEXT_TRANSFORMERS:
        item["text"] = True
    return item


def _parameters(cls: Any) -> dict[str, Any]:
    params, managed = {}, {}
    signature = inspect.signature(cls)
    for name, parameter in sorted(signature.parameters.items()):
        if name in MANAGED:
            managed[name] = MANAGED[name]
            continue
        if parameter.default == "deprecated":
            managed[name] = "scikit-learn has deprecated it"
            continue
        takes = _alternatives(name, cls._parameter_constraints.get(name, []))
        if not takes:
            managed[name] = "it takes an object that YAML cannot say"
            continue
        item: dict[str, Any] = {"takes": takes}
        default = parameter.default
        # random_state is training.seed unless the spec says otherwise, not scikit-learn's None.
        if name != "random_state" and _writable(default):
            item["default"] = default
        params[name] = item
    result: dict[str, Any] = {"params": params, "managed": managed}
    if "random_state" in signature.parameters:
        result["random"] = True
    return result


def _writable(default: Any) -> bool:
    if isinstance(default, float):
        return math.isfinite(default)
    return default is None or isinstance(default, str | int)


def _alternatives(name: str, constraints: Any) -> list[dict[str, Any]]:
    if constraints == "no_validation" or "no_validation" in constraints:
        return ANY_OF_SCALARS.get(name, [])
    found: list[dict[str, Any]] = []
    for constraint in constraints:
        item = _alternative(constraint)
        if item is not None and item not in found:
            found.append(item)
    if name in NO_LISTS:
        found = [item for item in found if item["type"] != "List"]
    return _merged(found)


_PLAIN: list[tuple[Any, dict[str, Any]]] = [
    (None, {"type": "Null"}),
    ("boolean", {"type": "Boolean"}),
    (bool, {"type": "Boolean"}),
    ("array-like", {"type": "List"}),
    (list, {"type": "List"}),
    (tuple, {"type": "List", "asTuple": True}),
    (Integral, {"type": "Integer"}),
    (Real, {"type": "Real"}),
    (str, {"type": "String"}),
    ("random_state", {"type": "Integer", "min": 0, "max": 2**32 - 1}),
]


def _alternative(constraint: Any) -> dict[str, Any] | None:
    from sklearn.utils._param_validation import Interval, Options

    for known, item in _PLAIN:
        if constraint is known or (isinstance(constraint, str) and constraint == known):
            return dict(item)
    if isinstance(constraint, Interval):
        return _interval(constraint)
    if isinstance(constraint, Options):
        return _options(constraint)
    return None


def _interval(constraint: Any) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "Integer" if constraint.type is Integral else "Real"}
    if constraint.left is not None and math.isfinite(constraint.left):
        item["min"] = constraint.left
        if constraint.closed in ("right", "neither"):
            item["minOpen"] = True
    if constraint.right is not None and math.isfinite(constraint.right):
        item["max"] = constraint.right
        if constraint.closed in ("left", "neither"):
            item["maxOpen"] = True
    return item


def _options(constraint: Any) -> dict[str, Any] | None:
    deprecated: set[str] = getattr(constraint, "deprecated", set())
    values = sorted(
        option
        for option in constraint.options
        if isinstance(option, str) and option not in deprecated and option not in REFUSED_VALUES
    )
    if values:
        return {"type": "String", "values": values}
    numbers = sorted(option for option in constraint.options if isinstance(option, Integral))
    return {"type": "Integer", "min": numbers[0], "max": numbers[-1]} if numbers else None


def _merged(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop an interval that another of the same type holds, and a plain list beside a tuple."""
    if any(item.get("asTuple") for item in found):
        found = [item for item in found if item["type"] != "List" or item.get("asTuple")]
    return found


def _load(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


def render(catalogue: dict[str, Any]) -> bytes:
    """Return the catalogue's file: one parameter a line, so that a change is read easily in a diff."""
    return (json.dumps(catalogue, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def main(arguments: list[str] | None = None) -> int:
    """Write or check the catalogue and the reference page."""
    from solera_trainer.catalogue_page import page

    parser = argparse.ArgumentParser(prog="python -m solera_trainer.catalogue_gen", description=__doc__)
    parser.add_argument("--check", action="store_true", help="say whether the files are fresh; write nothing")
    options = parser.parse_args(arguments)
    catalogue = generate()
    targets = {
        ROOT / "core/solera_core/catalogue" / f"{catalogue['runtime']}.json": render(catalogue),
        ROOT / "docs/reference/estimators.md": page(catalogue).encode(),
    }
    stale = [path for path, text in targets.items() if not path.exists() or path.read_bytes() != text]
    for path in stale:
        if options.check:
            sys.stderr.write(
                f"{path.relative_to(ROOT)} is stale: run python -m solera_trainer.catalogue_gen\n"
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(targets[path])
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
