"""What is measured: a model, rows to a request, connections, and the bodies in which each protocol asks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving_bench.models import Model, Row

CONNECTIONS = (1, 16, 64)


@dataclass(frozen=True)
class Case:
    """``protocol`` v1 is for the servers that have it; all others are asked in their own best form."""

    name: str
    model: str
    rows: int
    title: str
    protocol: str = "best"


CASES = (
    Case("iris", "iris", 1, "Iris, logistic regression, 1 row"),
    Case("forest-1", "forest", 1, "Breast cancer, forest of 100 trees, 1 row"),
    Case("forest-32", "forest", 32, "Breast cancer, forest of 100 trees, 32 rows"),
    Case("boosting", "boosting", 1, "Breast cancer, histogram gradient boosting, 1 row"),
    Case("mixed", "mixed", 1, "Adults (generated), mixed-type pipeline with text, 1 row"),
    Case("iris-v1", "iris", 1, "Iris, logistic regression, 1 row, V1 protocol", protocol="v1"),
)

Body = "Callable[[Model, Sequence[Row]], Any]"


def v2_body(model: Model, rows: Sequence[Row]) -> Any:
    """One tensor of numbers; or, with columns of several types, one tensor for each, marked as a data frame."""
    features = model.schema.features
    if not model.framed:
        data = [row[feature.name] for row in rows for feature in features]
        tensor = {"name": "x", "shape": [len(rows), len(features)], "datatype": "FP64", "data": data}
        return {"inputs": [tensor], "outputs": [{"name": "predict"}]}
    inputs = [
        {
            "name": feature.name,
            "shape": [len(rows), 1],
            "datatype": "BYTES" if feature.type == "String" else "FP64",
            "data": [row[feature.name] for row in rows],
        }
        for feature in features
    ]
    return {"parameters": {"content_type": "pd"}, "inputs": inputs, "outputs": [{"name": "predict"}]}


def v2_plain_body(model: Model, rows: Sequence[Row]) -> Any:
    """The same without a choice among outputs: KServe has one, and refuses names that are not its own."""
    body = v2_body(model, rows)
    del body["outputs"]
    return body


def v1_body(model: Model, rows: Sequence[Row]) -> Any:
    """Instances as lists of values, or as objects where columns have several types."""
    return {"instances": _rows(model, rows)}


def rows_body(model: Model, rows: Sequence[Row]) -> Any:
    """The form for servers without a protocol of their own."""
    return {"rows": _rows(model, rows)}


def _rows(model: Model, rows: Sequence[Row]) -> list[Any]:
    if model.framed:
        return list(rows)
    return [[row[feature.name] for feature in model.schema.features] for row in rows]


def bodies(model: Model, form: Body, rows: int) -> list[tuple[bytes, list[str]]]:
    """Return request bodies that all differ, each with the labels that scikit-learn gives for its rows."""
    count = len(model.rows)
    made = []
    for start in range(0, count, max(1, rows // 8)):
        indices = [(start + offset) % count for offset in range(rows)]
        content = form(model, [model.rows[index] for index in indices])
        body = json.dumps(content, separators=(",", ":")).encode()
        made.append((body, [model.labels[index] for index in indices]))
    return made
