"""TreeSHAP against Shapley values by definition, its two kernels against each other, and its refusals."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import solera_native as native
from hypothesis import given, settings
from hypothesis import strategies as st
from shapley import Game, by_definition, tree_shap_of

from solera_server.compiled import kernels_shap_numpy as plain
from solera_server.compiled.trees import Described
from solera_server.explain import trees as explained
from solera_server.explain.method import NotExplainable

if TYPE_CHECKING:
    from collections.abc import Iterator

seeds = st.integers(0, 2**32 - 1)
BOTH = pytest.mark.parametrize("kernel", [native.tree_shap, plain.tree_shap], ids=["native", "numpy"])


@contextlib.contextmanager
def using(kernel: Any) -> Iterator[None]:
    before, explained.tree_shap = explained.tree_shap, kernel
    try:
        yield
    finally:
        explained.tree_shap = before


def random_tree(
    generator: np.random.Generator, features: int, outputs: int, depth: int, *, empty: float = 0.0
) -> tuple[Described, Any]:
    """Return a tree that asks for few features again and again, and its nodes' rows; some may have none."""
    nodes: list[list[Any]] = []

    def grow(level: int, rows: float) -> int:
        place = len(nodes)
        nodes.append([True, -1, -1, 0, 0.0, False, generator.normal(size=outputs), rows])
        if level < depth and generator.random() < 0.8:
            share = 0.0 if generator.random() < empty else generator.random()
            left, right = grow(level + 1, rows * share), grow(level + 1, rows * (1 - share))
            feature, threshold = int(generator.integers(features)), float(generator.integers(-2, 3))
            nodes[place][:6] = [False, left, right, feature, threshold, bool(generator.integers(2))]
        return place

    grow(0, 100.0)
    columns = list(zip(*nodes, strict=True))
    tree = Described(
        leaf=np.array(columns[0]),
        left=np.array(columns[1]),
        right=np.array(columns[2]),
        feature=np.array(columns[3]),
        threshold=np.array(columns[4]),
        missing_left=np.array(columns[5]),
        values=np.array(columns[6]).reshape(len(nodes), outputs),
    )
    return tree, np.array(columns[7])


def random_rows(generator: np.random.Generator, rows: int, features: int) -> Any:
    values = generator.integers(-3, 4, (rows, features)).astype(float)
    values[generator.random(values.shape) < 0.1] = np.nan
    return values


@BOTH
@settings(max_examples=60, deadline=None)
@given(seeds)
def test_they_are_the_shapley_values(kernel, seed):
    generator = np.random.default_rng(seed)
    features, outputs = int(generator.integers(1, 6)), int(generator.integers(1, 4))
    grown = [random_tree(generator, features, outputs, 5, empty=0.1) for _ in range(2)]
    rows = random_rows(generator, 2, features)
    with using(kernel):
        found = tree_shap_of(grown, features, outputs).contributions(rows)
    for row, values in enumerate(rows):
        expected = sum(by_definition(features, Game(tree, cover, values).worth) for tree, cover in grown)
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_kernels_agree_and_add_up_on_deep_trees(seed):
    generator = np.random.default_rng(seed)
    features, outputs, trees = int(generator.integers(1, 40)), int(generator.integers(1, 4)), 3
    grown = [random_tree(generator, features, outputs, 12) for _ in range(trees)]
    rows = random_rows(generator, 3, features)
    results = []
    for kernel in (native.tree_shap, plain.tree_shap):
        with using(kernel):
            method = tree_shap_of(grown, features, outputs)
            results.append(method.contributions(rows))
    np.testing.assert_allclose(results[0], results[1], rtol=0, atol=1e-12)
    for row, values in enumerate(rows):
        answer = sum(Game(tree, cover, values).worth(range(features)) for tree, cover in grown)
        np.testing.assert_allclose(method.base + results[0][row].sum(axis=0), answer, rtol=0, atol=1e-11)


@BOTH
def test_a_feature_on_each_of_hundred_levels_still_adds_up(kernel):
    # One row in two goes on, on another feature at each level: a quadrature of fifty points.
    depth = 100
    count = 2 * depth + 1
    inner = np.arange(depth)
    leaf = np.ones(count, dtype=bool)
    leaf[2 * inner] = False
    left, right = np.full(count, -1), np.full(count, -1)
    left[2 * inner], right[2 * inner] = 2 * inner + 1, 2 * inner + 2
    feature = np.zeros(count, dtype=int)
    feature[2 * inner] = inner
    cover = np.empty(count)
    cover[2 * np.arange(depth + 1)] = 0.5 ** np.arange(depth + 1)
    cover[2 * inner + 1] = 0.5 ** (inner + 1.0)
    values = np.random.default_rng(1).normal(size=(count, 1))
    tree = Described(leaf, left, right, feature, np.zeros(count), np.zeros(count, dtype=bool), values)
    row = np.ones((1, depth))
    with using(kernel):
        method = tree_shap_of([(tree, cover)], depth, 1)
        total = method.base + method.contributions(row).sum(axis=1)[0]
    np.testing.assert_allclose(total, values[-1], rtol=0, atol=1e-11)


@BOTH
def test_a_single_leaf_contributes_nothing(kernel):
    tree, cover = random_tree(np.random.default_rng(0), 2, 3, 0)
    with using(kernel):
        method = tree_shap_of([(tree, cover)], 2, 3)
        assert not method.contributions(np.zeros((4, 2))).any()
    assert method.base.tolist() == tree.values[0].tolist()


@pytest.mark.parametrize(
    "damage",
    [
        {"left": np.array([0, -1, -1])},
        {"right": np.array([1, -1, -1])},
        {"right": np.array([7, -1, -1])},
        {"feature": np.array([5, 0, 0])},
        {"cover": np.array([10.0, np.nan, 5.0])},
        {"cover": np.array([10.0, -1.0, 5.0])},
    ],
)
def test_what_is_no_tree_is_refused(damage):
    parts = {
        "leaf": np.array([False, True, True]),
        "left": np.array([1, -1, -1]),
        "right": np.array([2, -1, -1]),
        "feature": np.array([0, 0, 0]),
        "threshold": np.zeros(3),
        "missing_left": np.zeros(3, dtype=bool),
        "values": np.arange(3.0).reshape(3, 1),
        "cover": np.array([10.0, 5.0, 5.0]),
    } | damage
    cover = parts.pop("cover")
    with pytest.raises(NotExplainable):
        tree_shap_of([(Described(**parts), cover)], 1, 1)


def arguments() -> dict[str, Any]:
    """Return what a stump of two features gives the kernel, for one row and one output."""
    return {
        "goes_left": np.ones((1, 3), dtype=np.uint8),
        "left": np.array([1, -1, -1], dtype=np.int32),
        "right": np.array([2, 0, 1], dtype=np.int32),
        "feature": np.zeros(3, dtype=np.int32),
        "ratio": np.array([1.0, 0.5, 0.5]),
        "values": np.array([[1.0], [3.0]]),
        "trees": np.array([[0, 0, 0, 1]], dtype=np.int32),
        "points": np.array([[0.5], [1.0]]),
        "groups": np.zeros(2, dtype=np.int32),
        "out": np.zeros((1, 1)),
        "direct": np.zeros((1, 1)),
        "depth": 1,
    }


@BOTH
def test_a_stump(kernel):
    given_ = arguments()
    kernel(*given_.values())
    assert given_["out"].tolist() == [[-1.0]]
    assert given_["direct"].tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("left", np.array([0, -1, -1], dtype=np.int32)),
        ("left", np.array([3, -1, -1], dtype=np.int32)),
        ("right", np.array([2, 0, 2], dtype=np.int32)),
        ("right", np.array([2, 0, -5], dtype=np.int32)),
        ("feature", np.array([2, 0, 0], dtype=np.int32)),
        ("feature", np.array([-1, 0, 0], dtype=np.int32)),
        ("trees", np.array([[3, 0, 0, 1]], dtype=np.int32)),
        ("trees", np.array([[0, 1, 0, 1]], dtype=np.int32)),
        ("trees", np.array([[0, 0, 1, 1]], dtype=np.int32)),
        ("trees", np.array([[0, 0, 0, 2]], dtype=np.int32)),
        ("trees", np.array([[0, 0, 0, 0]], dtype=np.int32)),
        ("groups", np.array([0, 1], dtype=np.int32)),
        ("groups", np.array([0, -1], dtype=np.int32)),
        ("goes_left", np.ones((1, 2), dtype=np.uint8)),
        ("goes_left", np.ones((2, 3), dtype=np.uint8)),
        ("ratio", np.ones(2)),
        ("out", np.zeros((2, 1))),
        ("direct", np.zeros((1, 2))),
        ("depth", 0),
        ("depth", -1),
        ("depth", 10**9),
    ],
)
def test_the_extension_takes_no_step_outside_its_arrays(name, value):
    with pytest.raises(ValueError):
        native.tree_shap(*(arguments() | {name: value}).values())


@pytest.mark.parametrize(
    ("left", "right", "roots"),
    [
        ([1, 3, 3, -1, -1], [2, 4, 4, 0, 1], [0]),  # two parents have the same children
        ([1, 3, -1, -1, -1], [2, 2, 0, 1, 2], [0]),  # a child is its parent's sister too
        ([1, -1, -1], [1, 0, 1], [0]),  # one child twice
        ([1, -1, -1], [2, 0, 1], [0, 0]),  # a tree counted twice
        ([1, 3, -1, -1, -1], [2, 4, 0, 1, 2], [0, 1]),  # a tree within another
        ([1, 0, -1], [2, 2, 0], [0]),  # a cycle
    ],
)
def test_the_extension_takes_nothing_for_a_tree_that_is_none(left, right, roots):
    nodes = len(left)
    damaged = arguments() | {
        "goes_left": np.ones((1, nodes), dtype=np.uint8),
        "left": np.array(left, dtype=np.int32),
        "right": np.array(right, dtype=np.int32),
        "feature": np.zeros(nodes, dtype=np.int32),
        "ratio": np.full(nodes, 0.5),
        "values": np.ones((nodes, 1)),
        "trees": np.array([[root, 0, 0, 1] for root in roots], dtype=np.int32),
        "depth": 5,
    }
    with pytest.raises(ValueError, match="no trees"):
        native.tree_shap(*damaged.values())
    assert damaged["out"].tolist() == damaged["direct"].tolist() == [[0.0]]


@pytest.mark.parametrize("depth", [1, 2, 1000, 1001])
def test_the_extension_takes_trees_of_a_thousand_levels(depth):
    """A chain of inner nodes, said to be as deep as it is, and one level less."""
    count = 2 * depth + 1
    index = np.arange(count, dtype=np.int32)
    inner = (index % 2 == 0) & (index < count - 1)
    chain = arguments() | {
        "goes_left": np.zeros((1, count), dtype=np.uint8),
        "left": np.where(inner, index + 1, -1).astype(np.int32),
        "right": np.where(inner, index + 2, 0).astype(np.int32),
        "feature": np.zeros(count, dtype=np.int32),
        "ratio": np.full(count, 0.5),
        "depth": depth,
    }
    if depth <= 1000:
        native.tree_shap(*chain.values())
        assert chain["direct"].tolist() == [[1.0]]
    for wrong in {depth - 1, depth} if depth > 1000 else {depth - 1}:
        with pytest.raises(ValueError, match=r"deeper|fit"):
            native.tree_shap(*(chain | {"depth": wrong}).values())


def test_the_extension_checks_types():
    with pytest.raises(TypeError):
        native.tree_shap(*(arguments() | {"left": np.zeros(3)}).values())
    with pytest.raises(TypeError):
        native.tree_shap(1, 2)
    with pytest.raises(TypeError):
        native.tree_shap(*(arguments() | {"depth": "1"}).values())
