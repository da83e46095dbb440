"""Shapley values by their definition, over all subsets of features: slow, short, and nothing like TreeSHAP."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.explain.method import Origins
from solera_server.explain.trees import Member, TreeShap

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from solera_server.compiled.trees import Described


def by_definition(features: int, worth: Callable[[Collection[int]], Any]) -> Any:
    """Return the Shapley values of a game, shape (features, ...)."""
    worths = {
        subset: np.asarray(worth(subset))
        for size in range(features + 1)
        for subset in itertools.combinations(range(features), size)
    }
    values = []
    for feature in range(features):
        value = 0.0
        for subset, alone in worths.items():
            if feature in subset:
                continue
            weight = (
                math.factorial(len(subset))
                * math.factorial(features - len(subset) - 1)
                / math.factorial(features)
            )
            value = value + weight * (worths[tuple(sorted((*subset, feature)))] - alone)
        values.append(value)
    return np.array(values)


@dataclass
class Game:
    """What a tree is expected to say when some features of a row are known, by its nodes' shares of rows."""

    tree: Described
    cover: Any
    row: Any

    def worth(self, known: Collection[int], node: int = 0) -> Any:
        tree = self.tree
        if tree.leaf[node]:
            return tree.values[node]
        left, right = int(tree.left[node]), int(tree.right[node])
        feature = int(tree.feature[node])
        if feature in known:
            value = self.row[feature]
            goes = tree.missing_left[node] if np.isnan(value) else value <= tree.threshold[node]
            return self.worth(known, left if goes else right)
        share = self.cover[left] / self.cover[node] if self.cover[node] else 0.0
        other = self.cover[right] / self.cover[node] if self.cover[node] else 0.0
        return share * self.worth(known, left) + other * self.worth(known, right)


def tree_shap_of(members: list[tuple[Described, Any]], features: int, outputs: int) -> TreeShap:
    of = Origins(features, np.arange(features, dtype=np.int32))
    trees = [Member(tree, np.asarray(cover, dtype=float), 0, 1.0) for tree, cover in members]
    return TreeShap(trees, np.zeros(outputs), of, single=False)
