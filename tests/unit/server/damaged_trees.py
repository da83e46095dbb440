"""Builds forests from damaged arrays and scores those that are let through; run under the sanitizers."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import solera_native as native


def random_parts(generator: np.random.Generator) -> list[Any]:
    """Return the arrays of a few sound trees of random shape."""
    left, feature, threshold, flags, place, roots = [], [], [], [], [], []
    leaves = 0
    categories = 0.2 * generator.integers(2)
    for _ in range(int(generator.integers(1, 12))):
        roots.append(len(left))
        pending = [len(left)]
        left.append(0)
        while pending:
            node = pending.pop(0)
            inner = generator.random() < 0.6 and len(left) < 400
            left[node] = len(left) if inner else node
            if inner:
                pending += [len(left), len(left) + 1]
                left += [0, 0]
    for node, child in enumerate(left):
        leaf = node == child
        categorical = not leaf and generator.random() < categories
        feature.append(0 if leaf else int(generator.integers(3)))
        threshold.append(np.inf if leaf else float(generator.normal()))
        flags.append(1 if leaf else int(generator.integers(2)) | 2 * categorical)
        place.append(leaves if leaf else int(generator.integers(4)))
        leaves += leaf
    width = int(generator.integers(1, 4))
    return [
        np.array(feature, dtype=np.int32),
        np.array(threshold),
        np.array(left, dtype=np.int32),
        np.array(flags, dtype=np.uint8),
        np.array(place, dtype=np.int32),
        generator.normal(size=(leaves, width)),
        np.array(roots, dtype=np.int32),
        np.zeros(len(roots), dtype=np.int32),
        np.zeros(width),
        generator.integers(0, 2**32, (4, 16), dtype=np.uint32),
    ]


def damage(generator: np.random.Generator, parts: list[Any]) -> None:
    """Change one number of one array, mostly to one that is nearly right."""
    array = parts[int(generator.choice([0, 1, 2, 3, 4, 6, 7]))]
    at = int(generator.integers(len(array)))
    if array.dtype == np.float64:
        array[at] = generator.choice([np.nan, np.inf, -np.inf, 0.0])
    elif array.dtype == np.uint8:
        array[at] ^= np.uint8(1 << int(generator.integers(8)))
    else:
        step = int(generator.choice([-2, -1, 1, 2, 50, 2**30]))
        array[at] = np.int32((int(array[at]) + step) % 2**31)


def rows(generator: np.random.Generator, count: int) -> Any:
    x = generator.normal(size=(count, 3)) * 3
    odd = generator.random(x.shape) < 0.1
    x[odd] = generator.choice([np.nan, np.inf, -np.inf, 1e300, 255.5, 256.0, -0.0], int(odd.sum()))
    return x


def main() -> None:
    generator = np.random.default_rng(0)
    made = refused = 0
    for number in range(600):
        parts = random_parts(generator)
        if number % 4:
            damage(generator, parts)
        try:
            trees = native.Trees(tuple(parts), 3.0, 3, bool(number % 2), int(generator.integers(4)))
        except ValueError:
            refused += 1
            continue
        made += 1
        for count in (0, 1, 17, 40):
            x = rows(generator, count)
            trees.score(x, np.empty((count, len(parts[8]))))
            if parts[5].shape[1] == 1:
                trees.each(x, np.empty((count, len(parts[6]))))
    for count in (0, 1, 3, 9):
        for outputs in (1, 2, 5):
            native.linear(
                rows(generator, count), np.ones((3, outputs)), np.ones(outputs), np.empty((count, outputs))
            )
    other_kernels(generator)
    sys.stdout.write(f"{made} {refused}\n")


def other_kernels(generator: np.random.Generator) -> None:
    for depth in range(8):
        explain(depth)
    for points in (0, 1, 1023, 1025):
        for metric in range(3):
            native.distances(rows(generator, points).T.copy(), np.ones(3), metric, np.empty(points))


def explain(depth: int) -> None:
    """Explain by a tree of six levels that is said to have ``depth``, at more points than it needs."""
    count, order = 13, 64
    index = np.arange(count, dtype=np.int32)
    inner = index % 2 == 0
    inner[-1] = False
    arrays = (
        np.ones((1, count), dtype=np.uint8),
        np.where(inner, index + 1, -1).astype(np.int32),
        np.where(inner, index + 2, np.cumsum(~inner) - 1).astype(np.int32),
        np.zeros(count, dtype=np.int32),
        np.full(count, 0.5),
        np.ones((count - 6, 1)),
        np.array([[0, 0, 0, order]], dtype=np.int32),
        np.full((2, order), 0.5),
        np.zeros(1, dtype=np.int32),
        np.zeros((1, 1)),
        np.zeros((1, 1)),
    )
    try:
        native.tree_shap(*arrays, depth)
    except ValueError:
        if depth >= 6:
            raise
    else:
        if depth < 6:
            raise AssertionError("a tree deeper than was said is explained")


if __name__ == "__main__":
    main()
