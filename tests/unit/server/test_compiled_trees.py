"""Trees, forests and boosting: the bits of scikit-learn, alone and in any batch, by both kernels."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from compiled_trees import (
    KERNELS,
    answers,
    compiled,
    edges,
    expected,
    node_of,
    node_of_file,
    same_bits,
    thresholds,
    using,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)
from threadpoolctl import threadpool_limits

from solera_server.compiled.node import Node
from solera_server.compiled.refusals import NotCompilable, Refused
from solera_trainer.model_bytes import model_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING = {
    "DecisionTreeClassifier",
    "DecisionTreeRegressor",
    "ExtraTreeClassifier",
    "ExtraTreeRegressor",
    "RandomForestClassifier",
    "RandomForestRegressor",
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
    "BaggingClassifier",
    "BaggingRegressor",
    "HistGradientBoostingClassifier",
    "HistGradientBoostingRegressor",
    "IsolationForest",
}
INFINITE = {"HistGradientBoostingClassifier", "HistGradientBoostingRegressor", "IsolationForest"}

depths = st.sampled_from([1, 2, 4, None])
counts = st.integers(1, 19)
initial = st.sampled_from([None, "zero"])

CLASSIFIERS = {
    "tree": st.builds(DecisionTreeClassifier, max_depth=depths),
    "random tree": st.builds(ExtraTreeClassifier, max_depth=depths),
    "forest": st.builds(RandomForestClassifier, counts, max_depth=depths),
    "extra trees": st.builds(ExtraTreesClassifier, counts, max_depth=depths),
    "bag": st.builds(
        BaggingClassifier,
        n_estimators=counts,
        max_features=st.sampled_from([0.3, 1.0]),
        bootstrap_features=st.booleans(),
    ),
    "votes": st.builds(
        AdaBoostClassifier,
        st.builds(DecisionTreeClassifier, max_depth=st.integers(1, 3)),
        n_estimators=counts,
    ),
    "boosting": st.builds(
        GradientBoostingClassifier,
        loss=st.just("log_loss"),
        n_estimators=counts,
        learning_rate=st.sampled_from([0.1, 1.0]),
        init=initial,
    ),
    "histograms": st.builds(
        HistGradientBoostingClassifier, max_iter=counts, min_samples_leaf=st.integers(2, 20)
    ),
}
REGRESSORS = {
    "tree": st.builds(DecisionTreeRegressor, max_depth=depths),
    "random tree": st.builds(ExtraTreeRegressor, max_depth=depths),
    "forest": st.builds(RandomForestRegressor, counts, max_depth=depths),
    "extra trees": st.builds(ExtraTreesRegressor, counts, max_depth=depths),
    "bag": st.builds(BaggingRegressor, n_estimators=counts, max_features=st.sampled_from([0.3, 1.0])),
    "median": st.builds(AdaBoostRegressor, n_estimators=counts),
    "boosting": st.builds(
        GradientBoostingRegressor,
        loss=st.sampled_from(["squared_error", "absolute_error", "huber", "quantile"]),
        n_estimators=counts,
        init=initial,
    ),
    "histograms": st.builds(
        HistGradientBoostingRegressor,
        loss=st.sampled_from(["squared_error", "absolute_error", "gamma", "poisson", "quantile"]),
        quantile=st.just(0.3),
        max_iter=counts,
    ),
    "isolation": st.builds(IsolationForest, n_estimators=counts, max_features=st.sampled_from([0.5, 1.0])),
}

fitting = settings(
    max_examples=9, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def table_for(model: Any, generator: np.random.Generator, *, missing: bool) -> Any:
    table = generator.normal(size=(int(generator.integers(40, 160)), 5)) * 10.0 ** generator.integers(
        -3, 4, 5
    )
    table[:, 1] = np.round(table[:, 1], 1)
    if missing and type(model).__name__ in MISSING:
        table[generator.random(table.shape) < 0.15] = np.nan
    return table


def probes(model: Any, generator: np.random.Generator, table: Any) -> Any:
    """Rows at the thresholds, with what the model takes of missing and infinite values."""
    rows = edges(generator, table, thresholds(model), 60)
    odd = generator.random(rows.shape) < 0.05
    if type(model).__name__ in MISSING:
        rows[odd & (generator.random(rows.shape) < 0.5)] = np.nan
    if type(model).__name__ in INFINITE:
        rows[odd & (generator.random(rows.shape) < 0.5)] = np.inf
        rows[odd & (generator.random(rows.shape) < 0.5)] = -np.inf
    return rows


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def check(model: Any, table: Any, target: Any, generator: np.random.Generator) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.set_params(**({"random_state": 0} if "random_state" in model.get_params() else {}))
        model.fit(table, target)
    rows = probes(model, generator, table)
    node = node_of(model)
    found = {}
    for name in KERNELS:
        with using(name):
            estimator = compiled(node)
            found[name] = answers(estimator, rows)
            for step in (1, 7, 16):
                pieces = [answers(estimator, rows[i : i + step]) for i in range(0, len(rows), step)]
                for together, parts in zip(found[name], zip(*pieces, strict=True), strict=True):
                    assert same_bits(np.concatenate(parts), together), f"{name}: rows in batches of {step}"
    wanted = expected(model, rows, probabilities=estimator.has_probabilities)
    for name in KERNELS:
        for here, there in zip(found[name][1:], wanted, strict=True):
            assert same_bits(here, there), f"{name}: {np.flatnonzero(here != there)[:5]}"
    assert same_bits(found["native"][0], found["numpy"][0])


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_classifiers_give_the_bits_of_scikit_learn(kind: str) -> None:
    @fitting
    @given(CLASSIFIERS[kind], st.integers(2, 5), st.booleans(), st.integers(0, 2**32 - 1))
    def law(model: Any, classes: int, missing: bool, seed: int) -> None:
        generator = np.random.default_rng(seed)
        if kind == "boosting" and classes == 2:
            model.set_params(loss=generator.choice(["log_loss", "exponential"]))
        table = table_for(model, generator, missing=missing)
        score = np.nan_to_num(table).sum(axis=1) + generator.normal(size=len(table))
        target = np.array(["a", "b", "c", "d", "e"], dtype=object)[
            np.searchsorted(np.quantile(score, np.linspace(0, 1, classes + 1)[1:-1]), score)
        ]
        check(model, table, target, generator)

    law()


@pytest.mark.parametrize("kind", REGRESSORS)
def test_regressors_give_the_bits_of_scikit_learn(kind: str) -> None:
    @fitting
    @given(REGRESSORS[kind], st.booleans(), st.integers(0, 2**32 - 1))
    def law(model: Any, missing: bool, seed: int) -> None:
        generator = np.random.default_rng(seed)
        table = table_for(model, generator, missing=missing)
        target = np.abs(np.nan_to_num(table[:, 0])) + generator.random(len(table)) + 0.01
        check(model, table, target, generator)

    law()


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_categories_of_histogram_boosting(classes: int) -> None:
    """Unknown, missing, negative and fractional values of features that are numbers and mean categories."""

    @fitting
    @given(st.integers(0, 2**32 - 1), st.sampled_from([3, 40, 200]))
    def law(seed: int, categories: int) -> None:
        generator = np.random.default_rng(seed)
        table = generator.normal(size=(400, 4))
        known = np.unique(np.round(generator.normal(size=categories) * 50, 1))
        table[:, 1] = generator.choice(known, 400)
        table[:, 3] = generator.integers(0, 5, 400)
        table[generator.random(table.shape) < 0.05] = np.nan
        target = (np.nan_to_num(table[:, 1] * 10) % 7 > 3) + (np.nan_to_num(table[:, 3]) > 2)
        model: Any = HistGradientBoostingRegressor(
            max_iter=5, categorical_features=[1, 3], min_samples_leaf=4
        )
        if classes:
            model = HistGradientBoostingClassifier(
                max_iter=5, categorical_features=[1, 3], min_samples_leaf=4
            )
            target = target % classes
        model.fit(table, target)
        rows = table[generator.integers(0, 400, 60)]
        strange = [known[0] + 1e-9, -1.0, 255.0, 256.0, 1e9, 0.5, -0.0, np.nan, 4.0]
        for column in (1, 3):
            changed = generator.random(60) < 0.5
            rows[changed, column] = generator.choice(strange, int(changed.sum()))
        node = node_of(model)
        for name in KERNELS:
            with using(name):
                estimator = compiled(node)
                found = answers(estimator, rows)
                for here, there in zip(
                    found[1:], expected(model, rows, probabilities=bool(classes)), strict=True
                ):
                    assert same_bits(here, there)
                alone = np.concatenate([answers(estimator, row[None])[0] for row in rows])
                assert same_bits(alone, found[0])
                rows[0, 3] = np.inf
                with pytest.raises(Refused, match="row 0 in column 3"):
                    estimator.scores(np.ascontiguousarray(rows))
                rows[0, 3] = 4.0

    law()


@pytest.mark.parametrize("classes", [8, 11])
@pytest.mark.parametrize(
    "model",
    [
        GradientBoostingClassifier(n_estimators=3),
        HistGradientBoostingClassifier(max_iter=3),
        AdaBoostClassifier(n_estimators=5),
        RandomForestClassifier(5),
    ],
)
def test_many_classes_are_added_up_in_scikit_learns_order(model: Any, classes: int) -> None:
    """From eight numbers on numpy's own sum goes in pairs, or not, by how the numbers lie in memory."""
    generator = np.random.default_rng(classes)
    table = generator.normal(size=(300, 4))
    model.set_params(random_state=0).fit(table, generator.integers(0, classes, 300))
    estimator = compiled(node_of(model))
    for found, wanted in zip(
        answers(estimator, table)[1:], expected(model, table, probabilities=True), strict=True
    ):
        assert same_bits(found, wanted)


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 33, 1000])
@pytest.mark.parametrize("trees", [1, 12, 13, 40])
def test_every_shape_of_work_is_complete(rows: int, trees: int) -> None:
    """Rows beyond a block, lanes left over: every row of every tree counts once."""
    generator = np.random.default_rng(rows + trees)
    table = generator.normal(size=(rows + 50, 3)).astype(np.float32).astype(np.float64)
    model = RandomForestRegressor(trees, random_state=0).fit(table, table.sum(axis=1))
    estimator = compiled(node_of(model))
    assert same_bits(answers(estimator, table[:rows])[1], model.predict(table[:rows]))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("model", "refused"),
    [
        (DecisionTreeRegressor(), [np.inf, -np.inf, 1e39]),
        (ExtraTreeRegressor(splitter="best"), [np.inf, np.nan]),
        (RandomForestRegressor(2), [np.inf, 1e39]),
        (GradientBoostingRegressor(n_estimators=2), [np.inf, np.nan, -1e39]),
        (AdaBoostRegressor(n_estimators=2), [np.inf]),
        (BaggingRegressor(n_estimators=2), [-np.inf]),
        (HistGradientBoostingRegressor(max_iter=2), []),
    ],
)
def test_what_scikit_learn_refuses_is_refused(model: Any, refused: list[float], kernel: str) -> None:
    table = np.random.default_rng(0).normal(size=(60, 3))
    model.fit(table, table[:, 0])
    with using(kernel):
        estimator = compiled(node_of(model))
        for value in (np.nan, np.inf, -np.inf, 1e39, -1e39, 3e38):
            rows = table[:20].copy()
            rows[13, 2] = value
            try:
                (wanted,) = expected(model, rows, probabilities=False)
            except ValueError:
                with pytest.raises(Refused, match="row 13 in column 2"):
                    estimator.scores(rows)
            else:
                assert value not in refused
                assert not any(np.isnan(value) and np.isnan(other) for other in refused)
                assert same_bits(answers(estimator, rows)[1], wanted)


def test_a_bag_does_not_look_at_columns_that_no_tree_has() -> None:
    table = np.random.default_rng(0).normal(size=(60, 4))
    model = BaggingRegressor(n_estimators=2, max_features=1, random_state=0).fit(table, table[:, 0])
    unused = sorted(set(range(4)) - {int(i) for subset in model.estimators_features_ for i in subset})
    rows = table[:10].copy()
    rows[:, unused] = np.inf
    assert same_bits(answers(compiled(node_of(model)), rows)[1], model.predict(rows))


def test_isolation_scores_are_those_of_scikit_learn() -> None:
    table = np.random.default_rng(0).normal(size=(300, 4))
    model = IsolationForest(n_estimators=20, max_features=0.5, random_state=0).fit(table)
    estimator = compiled(node_of(model))
    assert same_bits(estimator.score_samples(estimator.scores(table)), model.score_samples(table))


def arrays_of(value: Any) -> Iterator[Any]:
    """Yield the arrays of a node that hold trees' nodes or sets of categories."""
    if isinstance(value, Node):
        for name, part in value.state.items():
            if name in ("nodes", "values", "raw_left_cat_bitsets") and isinstance(part, np.ndarray):
                value.state[name] = part.copy()
                yield value.state[name]
            else:
                yield from arrays_of(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from arrays_of(part)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        for part in value.reshape(-1):
            yield from arrays_of(part)


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(3, random_state=0),
        GradientBoostingClassifier(n_estimators=3),
        HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=3, categorical_features=[2]),
    ],
)
def test_damaged_trees_are_refused_or_answer_alike(model: Any) -> None:
    """A number of a node is changed: by both kernels the same trees are refused, and the same bits are given."""
    table = np.random.default_rng(0).normal(size=(100, 3))
    table[:, 2] = np.arange(100) % 7
    model.fit(table, (table[:, 0] + table[:, 2] > 3).astype(int))

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def law(seed: int) -> None:
        generator = np.random.default_rng(seed)
        node = node_of_file(content)
        chosen = list(arrays_of(node))
        array = chosen[int(generator.integers(len(chosen)))]
        fields = array.dtype.names
        part = array[fields[int(generator.integers(len(fields)))]] if fields else array
        flat = part.reshape(-1)
        at = int(generator.integers(len(flat))) if len(flat) else 0
        odd = [-1, 0, 1, 2, 5, 100] if part.dtype.kind in "iu" else [np.nan, np.inf, -np.inf, 0.0, 1e300]
        value = odd[int(generator.integers(len(odd)))]
        if len(flat):
            flat[at] = np.array(value).astype(part.dtype) if part.dtype.kind != "u" else abs(int(value))
        outcomes = []
        for name in KERNELS:
            with using(name), np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    found = answers(compiled(node), table)
                except NotCompilable:
                    outcomes.append(None)
                else:
                    outcomes.append([part.tobytes() for part in found])
        assert outcomes[0] == outcomes[1]

    content = model_bytes(model)
    law()
