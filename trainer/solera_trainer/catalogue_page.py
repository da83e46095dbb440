"""The reference page of estimators, transformers and metrics, made from the catalogue's data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from solera_core.catalogue import Alternative

_INTRODUCTION = """# Estimators, transformers and metrics

Generated from scikit-learn {version} by `python -m solera_trainer.catalogue_gen`; runtime `{runtime}`. A spec
names what is listed here and nothing else. What a parameter means is scikit-learn's own documentation's to
say; the values that it takes are checked before a Job starts.

## Numbers in `params`
The Kubernetes API server turns `1.0` into `1`. So:

| written | means |
|---|---|
| `100` | the integer 100 |
| `0.5` or `"0.5"` | the real 0.5 |
| `"1.0"` | the real 1.0 |
| `"1"` | the integer 1 |
| `1`, where both a count and a fraction are possible | refused: write `"1"` or `"1.0"` |

Both are possible for `max_features`, `max_df` and the like.

A parameter that takes only reals accepts integers too: `C: 1` is 1.0.
"""


def page(catalogue: Mapping[str, Any]) -> str:
    """Return the page as Markdown."""
    parts = [_INTRODUCTION.format(version=catalogue["sklearnVersion"], runtime=catalogue["runtime"])]
    parts.append(_metrics(catalogue["metrics"]))
    for task in ("Classification", "Regression"):
        chosen = {name: item for name, item in catalogue["estimators"].items() if task in item["tasks"]}
        parts.append(f"## Estimators for {task}\n")
        parts.extend(_component(name, item) for name, item in chosen.items())
    parts.append("## Transformers\n")
    parts.extend(_component(name, item) for name, item in catalogue["transformers"].items())
    return "\n".join(parts)


def _metrics(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "## Metrics\n",
        "Named in `training.validation.metric` and in `gates`. The bounds are one-sided 95% bounds:",
        "Wilson's for proportions, otherwise percentiles of 1,000 bootstrap resamples of the held-out",
        "rows with a fixed seed.\n",
        "| metric | task | better is | bounds | needs probabilities | what it is |",
        "|---|---|---|---|---|---|",
    ]
    for name, item in metrics.items():
        direction = "greater" if item["greaterIsBetter"] else "smaller"
        proba = "yes" if item["needs"] == "proba" else "no"
        cells = (f"`{name}`", item["task"], direction, item["interval"], proba, item["description"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _component(name: str, item: Mapping[str, Any]) -> str:
    lines = [f"### `{name}`\n"]
    if len(item["tasks"]) == 1 and not name.startswith("sklearn.dummy"):
        lines.append(f"For {item['tasks'][0]}.\n")
    if item.get("text"):
        lines.append("Takes one String column; a missing text counts as an empty one.\n")
    if item["params"]:
        lines += ["| parameter | takes | default |", "|---|---|---|"]
        for parameter, entry in item["params"].items():
            takes = " or ".join(str(Alternative.from_json(a)) for a in entry["takes"])
            default = f"`{json.dumps(entry['default'])}`" if "default" in entry else ""
            lines.append(f"| `{parameter}` | {takes} | {default} |")
        lines.append("")
    return "\n".join(lines)
