"""Tree models, rows that sit on their thresholds, and the kernels by which they are computed."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled import boosting, forests, kernels, kernels_numpy, trees
from solera_server.compiled.registry import Context, compile_estimator
from solera_server.compiled.skeleton import read
from solera_trainer.model_bytes import model_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from solera_server.compiled.node import Node

__all__ = ["boosting", "forests", "trees"]

KERNELS = ("native", "numpy")
_SWAPPED = ("Trees", "two_shares")


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
    """Compute by the extension or by numpy, whatever the process chose."""
    if name == "native":
        import solera_native

        module: Any = solera_native
    else:
        module = kernels_numpy
    before = {function: getattr(kernels, function) for function in _SWAPPED}
    for function in _SWAPPED:
        setattr(kernels, function, getattr(module, function))
    try:
        yield
    finally:
        for function, value in before.items():
            setattr(kernels, function, value)


def node_of(model: Any) -> Node:
    """Return a fitted model as the server reads it."""
    return node_of_file(model_bytes(model))


def node_of_file(content: bytes) -> Node:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.skops"
        path.write_bytes(content)
        return read(path)


def compiled(node: Node) -> Any:
    return compile_estimator(node, Context("1.9.1"))


def answers(estimator: Any, rows: Any) -> list[Any]:
    """Return the scores, what is predicted, and the probabilities where there are some."""
    scores = estimator.scores(np.ascontiguousarray(rows))
    found = [scores, estimator.predict(scores)]
    if estimator.has_probabilities:
        found.append(estimator.predict_proba(scores))
    return found


def expected(model: Any, rows: Any, *, probabilities: bool) -> list[Any]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return [model.predict(rows), *([model.predict_proba(rows)] if probabilities else [])]


def same_bits(found: Any, wanted: Any) -> bool:
    if found.dtype.kind != "f":
        return bool(found.tolist() == wanted.tolist())
    return found.shape == wanted.shape and found.tobytes() == np.ascontiguousarray(wanted).tobytes()


def thresholds(model: Any) -> list[tuple[int, float]]:
    """
    Return (feature, threshold) of the splits of a fitted model, features as the model has them.

    Infinite ones, between what is missing and what is not, are left out.
    """
    found: list[tuple[int, float]] = []
    if hasattr(model, "tree_"):
        tree = model.tree_
        inner = tree.children_left >= 0
        found += zip(tree.feature[inner].tolist(), tree.threshold[inner].tolist(), strict=True)
    elif hasattr(model, "_predictors"):
        for predictor in (tree for iteration in model._predictors for tree in iteration):
            nodes = predictor.nodes[
                (predictor.nodes["is_leaf"] == 0) & (predictor.nodes["is_categorical"] == 0)
            ]
            found += zip(nodes["feature_idx"].tolist(), nodes["num_threshold"].tolist(), strict=True)
    elif hasattr(model, "estimators_"):
        members = np.array(model.estimators_, dtype=object).reshape(-1)
        subsets = getattr(model, "estimators_features_", [np.arange(model.n_features_in_)] * len(members))
        for member, subset in zip(members, subsets, strict=True):
            found += [(int(subset[feature]), value) for feature, value in thresholds(member)]
    return [(feature, value) for feature, value in found if np.isfinite(value)]


def edges(generator: np.random.Generator, table: Any, splits: list[tuple[int, float]], rows: int) -> Any:
    """
    Return rows (rows, columns) in which some numbers are thresholds, or beside one by an ulp.

    Neighbours in 64 and in 32 bits, and the middle between two 32-bit numbers, which rounding decides.
    """
    result = table[generator.integers(0, len(table), rows)].copy()
    if not splits:
        return result
    for row in result:
        for _ in range(2):
            feature, value = splits[int(generator.integers(len(splits)))]
            single = np.float32(value)
            above = float(np.nextafter(single, np.float32(np.inf)))
            near = [value, np.nextafter(value, np.inf), np.nextafter(value, -np.inf), float(single), above]
            near += [float(np.nextafter(single, np.float32(-np.inf))), (float(single) + above) / 2]
            row[feature] = near[int(generator.integers(len(near)))]
    return result
