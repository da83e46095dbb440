"""Steps of preprocessing, each before a model that shows every bit of what it gets, or nearly."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from compiled_models import behind_columns, numbers, objects, odd_numbers, pair, strings
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, SelectPercentile, VarianceThreshold
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeRegressor

from solera_server.batch import InputError
from solera_server.compiled.refusals import NotCompilable

if TYPE_CHECKING:
    from pathlib import Path

FILL = SimpleImputer(strategy="median", keep_empty_features=True)
MISSING_FIRST = [
    [FILL],
    [SimpleImputer(strategy="mean", add_indicator=True)],
    [SimpleImputer(strategy="most_frequent", keep_empty_features=True)],
    [SimpleImputer(strategy="constant", fill_value=-7, keep_empty_features=True)],
    [MissingIndicator(features="all")],
    [MissingIndicator(error_on_new=True)],
    [StandardScaler(), FILL],
    [StandardScaler(with_mean=False, with_std=False), FILL],
    [MinMaxScaler(), FILL],
    [MinMaxScaler((-1, 2), clip=True), FILL],
    [MaxAbsScaler(), FILL],
    [RobustScaler(), FILL],
    [RobustScaler(with_centering=False), FILL],
    [VarianceThreshold(0.05), FILL],
    [QuantileTransformer(n_quantiles=20), FILL],
    [FILL, Binarizer(threshold=0.3)],
    [FILL, KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf")],
    [FILL, KBinsDiscretizer(3, encode="onehot", strategy="uniform")],
    [FILL, KBinsDiscretizer(3, encode="onehot-dense", strategy="kmeans", random_state=1)],
    [FILL, PolynomialFeatures(3)],
    [FILL, PolynomialFeatures(3, interaction_only=True, include_bias=False)],
    [FILL, PolynomialFeatures((2, 3))],
    [FILL, SelectKBest(k=2)],
    [FILL, SelectKBest(k="all")],
    [FILL, SelectPercentile(percentile=50)],
    [FILL, Normalizer("max")],
    [OneHotEncoder(handle_unknown="ignore", max_categories=6)],
    [OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)],
    [FunctionTransformer(), FILL],
]
ROUGHLY = [
    [FILL, PCA(3)],
    [FILL, PCA(2, whiten=True)],
    [FILL, TruncatedSVD(2, random_state=1)],
    [FILL, PowerTransformer()],
    [FILL, MinMaxScaler((1, 3), clip=True), PowerTransformer("box-cox", standardize=False)],
    [FILL, Normalizer("l1")],
    [FILL, Normalizer("l2")],
]


def named(steps: list[Any]) -> list[tuple[str, Any]]:
    return [(f"step{number}", step) for number, step in enumerate(steps)]


def table_of(seed: int, rows: int = 90) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    table = numbers(generator, rows, 4, missing=0.08)
    table["n1"] = (table["n1"] / (table["n1"].std() or 1.0)).round(0)
    return table


@pytest.mark.parametrize("steps", MISSING_FIRST, ids=str)
def test_steps_are_bit_equal(steps: list[Any], tmp_path: Path) -> None:
    table = table_of(len(str(steps)))
    target = np.random.default_rng(1).normal(size=len(table)).round(1)
    both = pair(behind_columns(named(steps), table.columns, DecisionTreeRegressor()), table, target, tmp_path)
    assert both.compiled.exact
    both.agrees(table.iloc[:12])
    both.agrees(odd_numbers(np.random.default_rng(2), table, 8))
    same_matrix(both, table)


@pytest.mark.parametrize("steps", ROUGHLY, ids=str)
def test_steps_that_sum(steps: list[Any], tmp_path: Path) -> None:
    table = table_of(len(str(steps)))
    target = np.random.default_rng(1).normal(size=len(table)).round(1)
    both = pair(behind_columns(named(steps), table.columns, LinearRegression()), table, target, tmp_path)
    assert not both.compiled.exact
    both.agrees(table.iloc[:12], scale=100)
    both.agrees(odd_numbers(np.random.default_rng(2), table, 8), scale=1000)


def same_matrix(both: Any, table: pd.DataFrame) -> None:
    """Check what the model gets, bit by bit."""
    expected = np.asarray(both.model[:-1].transform(table), dtype=np.float64)
    found = both.compiled.matrix(both.batch(table))
    assert np.array_equal(found, expected, equal_nan=True)
    assert both.compiled.prepare.width == expected.shape[1] == len(both.compiled.prepare.origins)


CITIES = ["Porto", "Jerez", "Málaga", "", "Lagos ", "Faro", "nan"]
ENCODERS = [
    OneHotEncoder(handle_unknown="ignore"),
    OneHotEncoder(),
    OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=3),
    OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.2, drop="first"),
    OneHotEncoder(handle_unknown="ignore", drop="if_binary", sparse_output=False),
    OneHotEncoder(handle_unknown="warn", max_categories=4, drop="first"),
    OneHotEncoder(handle_unknown="ignore", drop="first", min_frequency=12),
    OrdinalEncoder(),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=9),
    OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, max_categories=4, encoded_missing_value=-5
    ),
    TargetEncoder(random_state=1),
]


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
def test_encoders_of_strings(encoder: Any, filled: bool, tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    table = pd.DataFrame(
        {
            "a": strings(generator, 120, CITIES, missing=0.1),
            "b": strings(generator, 120, ["x", "y"]),
            "c": strings(generator, 120, list("abcdefgh"), missing=0.02),
        }
    )
    before = [SimpleImputer(strategy="most_frequent", keep_empty_features=True)] if filled else []
    model = behind_columns(named([*before, encoder]), table.columns, DecisionTreeRegressor())
    both = pair(model, table, generator.normal(size=120), tmp_path)
    assert both.compiled.exact
    both.agrees(table.iloc[:16])
    same_matrix(both, table)
    odd = table.iloc[:24].copy()
    for row in range(24):
        odd.iloc[row, row % 3] = [np.nan, "never seen", "", "X", "x", "nan"][row // 4]
    both.agrees(odd)


def test_target_encoder_of_classes(tmp_path: Path) -> None:
    generator = np.random.default_rng(8)
    table = pd.DataFrame({"a": strings(generator, 90, CITIES, missing=0.1)})
    target = generator.choice(np.array(["no", "so", "yes"], dtype=object), 90)
    from sklearn.tree import DecisionTreeClassifier

    model = behind_columns(named([TargetEncoder(random_state=1)]), table.columns, DecisionTreeClassifier())
    both = pair(model, table, target, tmp_path)
    both.agrees(pd.concat([table, pd.DataFrame({"a": objects(["never seen", np.nan])})]))


def test_an_unseen_category_is_named(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": objects(["x", "y"] * 10)})
    both = pair(behind_columns(named([OneHotEncoder()]), ["a"], Ridge()), table, np.arange(20.0), tmp_path)
    with pytest.raises(InputError, match="does not take 'zz', which its training data did not have"):
        both.compiled.predict(both.batch(pd.DataFrame({"a": objects(["zz"])})), ("predict",))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_columns(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Column transformers as specs make them: some columns chosen, by name, place, slice or mask."""
    seed = data.draw(st.integers(0, 2**32))
    generator = np.random.default_rng(seed)
    table = numbers(generator, 60, 3, missing=0.05)
    table["s0"] = strings(generator, 60, CITIES, missing=0.1)
    table["n3"] = generator.integers(0, 3, 60).astype(np.float64)
    table["s1"] = strings(generator, 60, ["x", "y"])
    chosen = data.draw(
        st.sampled_from([["n0", "n2"], [0, 2], slice(0, 3), np.arange(6) < 2, [-2, 0], ["n3"]])
    )
    encoder = data.draw(st.sampled_from(ENCODERS[:1] + ENCODERS[2:3]))
    scaler = data.draw(st.sampled_from([StandardScaler(), MinMaxScaler(), RobustScaler()]))
    branches = [
        ("numbers", Pipeline(named([FILL, scaler])), chosen),
        ("mixed", encoder, ["s0", "n3", "s1"] if data.draw(st.booleans()) else ["s1", "s0"]),
        ("dropped", "drop", ["n1"]),
        ("through", data.draw(st.sampled_from(["passthrough", "drop"])), ["n3"]),
    ]
    preprocess = ColumnTransformer(
        branches,
        remainder=data.draw(st.sampled_from(["drop", FILL]))
        if data.draw(st.booleans()) and not isinstance(chosen, slice)
        else "drop",
    )
    estimator = data.draw(st.sampled_from([Ridge(), DecisionTreeRegressor(max_depth=4)]))
    model = Pipeline([("preprocess", preprocess), ("model", estimator)])
    try:
        both = pair(model, table, generator.normal(size=60), tmp_path_factory.mktemp("model"))
    except ValueError as error:
        # The rest of the columns has strings, which the imputer of numbers refuses.
        assume("could not convert" not in str(error))
        raise
    both.agrees(table.iloc[:10], scale=10)
    both.agrees(odd_numbers(generator, table, 6), scale=10)


WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "ate",
    "the",
    "rat",
    "Émile",
    "crème",
    "brûlée",
    "don't",
    "42",
    "x_y",
    "ÅNGSTRÖM",
]
VECTORISERS = [
    CountVectorizer(),
    CountVectorizer(binary=True, ngram_range=(1, 2), stop_words="english"),
    CountVectorizer(analyzer="char", ngram_range=(2, 3)),
    TfidfVectorizer(),
    TfidfVectorizer(stop_words="english", sublinear_tf=True, norm="l1"),
    TfidfVectorizer(ngram_range=(2, 3), stop_words=["the", "a"], strip_accents="unicode"),
    TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), max_features=40, strip_accents="ascii"),
    TfidfVectorizer(use_idf=False, norm=None, lowercase=False, token_pattern=r"(?u)\b(\w)\w*\b"),
    HashingVectorizer(n_features=600),
    HashingVectorizer(n_features=64, alternate_sign=False, norm="l1", ngram_range=(1, 2)),
    HashingVectorizer(n_features=2**18, binary=True),
]


def texts(generator: np.random.Generator, rows: int) -> Any:
    column = np.array(
        [" ".join(generator.choice(WORDS, generator.integers(0, 9))) for _ in range(rows)], dtype=object
    )
    column[generator.random(rows) < 0.05] = np.nan
    return objects(column)


NARROW = [vectoriser for vectoriser in VECTORISERS if getattr(vectoriser, "n_features", 0) < 1000]


def test_long_terms_are_hashed_as_ever_and_not_remembered(tmp_path: Path) -> None:
    table = pd.DataFrame({"text": objects(["red blue", "blue", "green red"] * 10)})
    steps = [
        SimpleImputer(strategy="constant", fill_value=""),
        FunctionTransformer(np.ravel),
        HashingVectorizer(n_features=64),
    ]
    both = pair(behind_columns(named(steps), ["text"], Ridge()), table, np.arange(30.0), tmp_path)
    strange = pd.DataFrame({"text": objects([f"{letter * 50_000}{letter}" for letter in "abcdefghij"])})
    batches = [both.batch(strange.iloc[number : number + 1]) for number in range(10)]
    tracemalloc.start()
    for batch in batches:
        both.compiled.predict(batch, ("predict",))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 200_000
    both.agrees(strange)


@pytest.mark.parametrize(
    ("vectoriser", "estimator"),
    [
        *((vectoriser, Ridge()) for vectoriser in VECTORISERS),
        *((one, DecisionTreeRegressor()) for one in NARROW),
    ],
    ids=str,
)
def test_texts(vectoriser: Any, estimator: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    table = numbers(generator, 80, 2)
    table["text"] = texts(generator, 80)
    table["city"] = strings(generator, 80, CITIES)
    flat = [
        SimpleImputer(strategy="constant", fill_value="", keep_empty_features=True),
        FunctionTransformer(np.ravel),
    ]
    preprocess = ColumnTransformer(
        [
            ("text", Pipeline(named([*flat, vectoriser])), ["text"]),
            ("numbers", StandardScaler(), ["n0", "n1"]),
            ("city", OneHotEncoder(handle_unknown="ignore"), ["city"]),
        ],
        sparse_threshold=0.3,
    )
    both = pair(
        Pipeline([("preprocess", preprocess), ("model", estimator)]),
        table,
        generator.normal(size=80),
        tmp_path,
    )
    both.agrees(table.iloc[:12])
    odd = table.iloc[:8].copy()
    odd["text"] = ["", "   ", "unheard of", "THE CAT", "cat" * 50, "a\x00b \u00df", "mat-rat", np.nan]
    both.agrees(odd)
    if isinstance(estimator, DecisionTreeRegressor):
        expected = both.model[:-1].transform(table)
        expected = expected.toarray() if hasattr(expected, "toarray") else expected
        assert np.array_equal(both.compiled.matrix(both.batch(table)), expected)


@pytest.mark.parametrize(
    "steps",
    [
        [StandardScaler(with_mean=False)],
        [MaxAbsScaler()],
        [RobustScaler(with_centering=False)],
        [SelectKBest(k=9)],
        [VarianceThreshold(0.01)],
        [Normalizer()],
        [Binarizer()],
        [TruncatedSVD(4, random_state=1)],
    ],
    ids=str,
)
def test_steps_after_texts(steps: list[Any], tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    table = pd.DataFrame({"text": texts(generator, 80)})
    flat = [
        SimpleImputer(strategy="constant", fill_value="", keep_empty_features=True),
        FunctionTransformer(np.ravel),
    ]
    model = behind_columns(named([*flat, TfidfVectorizer(), *steps]), ["text"], Ridge())
    pair(model, table, generator.normal(size=80).round(0), tmp_path).agrees(table.iloc[:12], scale=10)


def test_a_function_of_the_users_is_not_compiled(tmp_path: Path) -> None:
    table = table_of(1)
    model = behind_columns(named([FILL, FunctionTransformer(np.asarray)]), table.columns, Ridge())
    with pytest.raises(NotCompilable):
        pair(model, table, np.arange(90.0), tmp_path)
