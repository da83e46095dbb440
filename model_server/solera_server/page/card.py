"""What the page tells of a model, from the artifact's documents; they are foreign: nothing is relied on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from solera_server.encode import class_name

if TYPE_CHECKING:
    from solera_server.load import LoadedModel


@dataclass(frozen=True, slots=True)
class Card:
    """The documents as they are, and the first stored example as an object of V1."""

    metrics: Any = None
    provenance: Any = None
    example: dict[str, Any] = field(default_factory=dict)


def first_example(examples: Any) -> dict[str, Any]:
    inputs = examples.get("inputs") if isinstance(examples, dict) else None
    first = inputs[0] if isinstance(inputs, list) and inputs else None
    return first if isinstance(first, dict) else {}


def facts(loaded: LoadedModel, name: str, version: str) -> list[tuple[str, str]]:
    """Return what the model card says, as pairs of a term and a text."""
    predictor, schema = loaded.predictor, loaded.schema
    how = predictor.kind if predictor.reason is None else f"{predictor.kind}: {predictor.reason}"
    explained = (
        f"{loaded.explainer.method}, on the scale {loaded.explainer.scale}"
        if loaded.explainer is not None
        else f"no: {loaded.not_explained}"
    )
    found = [
        ("Model", name),
        ("Version", version),
        ("Digest", loaded.digest),
        ("Task", schema.task),
        ("Target", f"{schema.target.name} ({schema.target.type})"),
        ("Classes", ", ".join(map(class_name, schema.target.classes or ()))),
        *_training(loaded.card),
        ("Trained with", f"scikit-learn {loaded.sklearn_version}"),
        ("Predicted by", how),
        ("Explained by", explained),
    ]
    return [(term, text) for term, text in found if text]


def _training(card: Card) -> list[tuple[str, str]]:
    metrics, provenance = _dict(card.metrics), _dict(card.provenance)
    candidates, chosen = metrics.get("candidates"), metrics.get("chosen")
    best: dict[str, Any] = {}
    if isinstance(candidates, list) and isinstance(chosen, int) and 0 <= chosen < len(candidates):
        best = _dict(candidates[chosen])
    score = ""
    if isinstance(best.get("mean"), int | float):
        spread = f" ± {best['std']:.3g}" if isinstance(best.get("std"), int | float) else ""
        score = f"{metrics.get('metric', 'score')} {best['mean']:.4g}{spread}"
    params = ", ".join(f"{key}={value}" for key, value in sorted(_dict(best.get("params")).items()))
    data, rows, split = (_dict(provenance.get(key)) for key in ("data", "rows", "split"))
    return [
        ("Algorithm", str(best.get("estimator", "")).rpartition(".")[2]),
        ("Parameters", params),
        ("Cross-validation", score),
        ("Candidates tried", str(len(candidates)) if isinstance(candidates, list) else ""),
        ("Data", str(data.get("uri", ""))),
        ("Data digest", str(data.get("digest", ""))),
        ("Rows", _of(rows, ("train", "test"), " for training, ", " held out")),
        ("Split", _split(split)),
        ("Seed", str(provenance.get("seed", ""))),
    ]


def _of(rows: dict[str, Any], keys: tuple[str, str], between: str, after: str) -> str:
    first, second = (rows.get(key) for key in keys)
    return "" if first is None or second is None else f"{first}{between}{second}{after}"


def _split(split: dict[str, Any]) -> str:
    if "method" not in split:
        return ""
    by = f" by {split['column']}" if split.get("column") else ""
    return f"{split['method']}{by}, {split.get('testPercent', '?')}% held out"


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
