"""The trees of the estimators that are sums of trees, with what the sums begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled.boosting import histogram_tree, initial_scores, loss_name
from solera_server.compiled.boosting_categories import recoding
from solera_server.compiled.node import Node, checked
from solera_server.compiled.refusals import NotCompilable
from solera_server.compiled.trees import described
from solera_server.explain.method import HALF_LOG_ODDS, LOG, LOG_ODDS, LOGITS, PROBABILITY, VALUE, Origins
from solera_server.explain.trees import Member, TreeShap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from solera_server.explain.method import Matrix

_HIST = "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoosting"


def tree_scale(node: Node) -> str | None:
    """Return the scale of an estimator that is a sum of trees; None for another estimator."""
    if node.type not in _BUILDERS:
        return None
    if _BUILDERS[node.type] in (_gradient_boosting, _histogram_boosting):
        return _boosted_scale(node, loss_name(node))
    return PROBABILITY if node.name.endswith("Classifier") else VALUE


def tree_method(node: Node, of: Origins, outputs: int) -> TreeShap:
    """
    Return the method for an estimator that has a tree_scale, with so many scores.

    Raises NotCompilable and NotExplainable.
    """
    return _BUILDERS[node.type](node, of, outputs)


def _single(node: Node, of: Origins, outputs: int) -> TreeShap:
    members = [_member(node, 0, 1.0)]
    return TreeShap(members, np.zeros(outputs), of, single=True)


def _forest(node: Node, of: Origins, outputs: int) -> TreeShap:
    trees = node.listed("estimators_")
    members = (_member(tree, 0, 1.0 / len(trees)) for tree in trees)
    return TreeShap(members, np.zeros(outputs), of, single=True)


def _gradient_boosting(node: Node, of: Origins, outputs: int) -> TreeShap:
    rate, loss = node.number("learning_rate"), loss_name(node)
    trees: Any = node.get("estimators_")
    members = (_member(tree, column, rate) for row in trees for column, tree in enumerate(row))
    start = np.array(initial_scores(node, loss, outputs), dtype=np.float64)
    return TreeShap(members, start, of, single=True)


def _histogram_boosting(node: Node, of: Origins, outputs: int) -> TreeShap:
    start = node.array("_baseline_prediction", (1, outputs))[0].copy()
    columns = len(of.of_column)
    recode = recoding(node, columns)
    if recode is None:
        return TreeShap(_histogram_members(node, None), start, of, single=False)
    of = Origins(of.features, of.of_column[recode.columns])
    members = _histogram_members(node, recode.known_sets(columns))
    return TreeShap(members, start, of, single=False, recode=recode)


def _histogram_members(node: Node, known: NDArray[np.uint32] | None) -> Iterable[Member]:
    for iteration in node.listed("_predictors"):
        for column, tree in enumerate(iteration):
            count = checked(tree.get("nodes")["count"], "TreePredictor: count", (None,), "i")
            yield Member(histogram_tree(tree, node, known), count.astype(np.float64), column, 1.0)


def _boosted_scale(node: Node, loss: str) -> str:
    if node.name.endswith("Regressor"):
        return LOG if loss in ("HalfPoissonLoss", "HalfGammaLoss") else VALUE
    if loss == "ExponentialLoss":
        return HALF_LOG_ODDS
    return LOGITS if loss == "HalfMultinomialLoss" else LOG_ODDS


def _member(node: Any, column: int, factor: float) -> Member:
    if not isinstance(node, Node):
        raise NotCompilable("an ensemble holds something else than trees")
    tree = node.node("tree_", "sklearn.tree._tree.Tree")
    cover: Matrix = checked(
        tree.get("nodes")["weighted_n_node_samples"], "Tree: weighted_n_node_samples", (None,)
    )
    return Member(described(tree), cover, column, factor)


_BUILDERS: dict[str, Callable[[Node, Origins, int], TreeShap]] = {
    **{
        f"sklearn.tree._classes.{kind}Tree{task}": _single
        for kind in ("Decision", "Extra")
        for task in ("Classifier", "Regressor")
    },
    **{
        f"sklearn.ensemble._forest.{kind}{task}": _forest
        for kind in ("RandomForest", "ExtraTrees")
        for task in ("Classifier", "Regressor")
    },
    **{
        f"sklearn.ensemble._gb.GradientBoosting{task}": _gradient_boosting
        for task in ("Classifier", "Regressor")
    },
    **{f"{_HIST}{task}": _histogram_boosting for task in ("Classifier", "Regressor")},
}
