"""Choosing columns by what training found: SelectKBest, SelectPercentile, VarianceThreshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solera_server.compiled.registry import transformer
from solera_server.compiled.scalers import selection

if TYPE_CHECKING:
    from solera_server.compiled.blocks import Matrix
    from solera_server.compiled.node import Node
    from solera_server.compiled.registry import Shape, Transformer


def _scores(node: Node, shape: Shape) -> Matrix:
    scores = node.array("scores_", (shape.width,), finite=False)
    return np.where(np.isnan(scores), np.finfo(np.float64).min, scores)


@transformer("sklearn.feature_selection._univariate_selection.SelectKBest")
def select_k_best(node: Node, shape: Shape) -> Transformer:
    scores = _scores(node, shape)
    mask = np.ones(shape.width, dtype=bool)
    if node.get("k") != "all":
        count = node.integer("k")
        # The last of equal scores are the best, as a stable sort leaves them.
        order = np.argsort(scores, kind="stable")
        mask[order[: max(shape.width - count, 0)]] = False
    return selection(node, shape, mask, takes_all=False)


@transformer("sklearn.feature_selection._univariate_selection.SelectPercentile")
def select_percentile(node: Node, shape: Shape) -> Transformer:
    scores = _scores(node, shape)
    percentile = node.number("percentile")
    if not 0 <= percentile <= 100:
        raise node.fail("percentile is no percentage")
    if percentile in (0, 100):
        mask = np.full(shape.width, percentile == 100)
    else:
        threshold = np.percentile(scores, 100 - percentile)
        mask = scores > threshold
        ties = np.flatnonzero(scores == threshold)
        mask[ties[: int(shape.width * percentile / 100) - int(mask.sum())]] = True
    return selection(node, shape, mask, takes_all=False)


@transformer("sklearn.feature_selection._variance_threshold.VarianceThreshold")
def variance_threshold(node: Node, shape: Shape) -> Transformer:
    variances = node.array("variances_", (shape.width,), finite=False)
    return selection(node, shape, variances > node.number("threshold"), takes_all=True)
