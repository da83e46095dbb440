"""Explanations from whole pipelines and over the protocols: what they add up to, whose they are, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pandas as pd
import pytest
from compiled_models import behind_columns, labels, numbers, pair, strings
from explained import explainer_for, means_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback import Served, serve
from server_artifacts import mixed_rows, write_iris
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge, RidgeClassifier
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeRegressor

from solera_server.compiled.refusals import NotCompilable
from solera_server.explain import explainer as explaining
from solera_server.explain import service
from solera_server.explain.method import NotExplainable
from solera_server.limits import Limits
from solera_server.load import load

if TYPE_CHECKING:
    from pathlib import Path


NUMBERS = ["n0", "n1", "n2"]
KEEP = [("keep", "passthrough")]
ESTIMATORS: dict[str, tuple[Any, int, str]] = {
    "logistic": (LogisticRegression(), 2, "log-odds"),
    "logistic of three": (LogisticRegression(), 3, "logits"),
    "ridge classes": (RidgeClassifier(), 3, "score"),
    "ridge": (Ridge(), 0, "value"),
    "poisson": (PoissonRegressor(), 0, "log"),
    "tree": (DecisionTreeRegressor(max_depth=4, random_state=0), 0, "value"),
    "forest": (RandomForestRegressor(5, random_state=0), 0, "value"),
    "extra": (ExtraTreesClassifier(5, random_state=0), 3, "probability"),
    "boosting": (GradientBoostingClassifier(n_estimators=5, random_state=0), 3, "logits"),
    "boosting by votes": (
        GradientBoostingClassifier(n_estimators=5, loss="exponential", random_state=0),
        2,
        "half log-odds",
    ),
    "histogram": (HistGradientBoostingClassifier(max_iter=5, random_state=0), 2, "log-odds"),
    "bernoulli": (BernoulliNB(binarize=0.1), 3, "logits"),
    "bernoulli of two": (BernoulliNB(), 2, "log-odds"),
    "counts": (HistGradientBoostingRegressor(max_iter=5, loss="poisson", random_state=0), 0, "log"),
}


def mixed(generator: np.random.Generator, rows: int = 80) -> pd.DataFrame:
    table = numbers(generator, rows, 3, missing=0.1)
    words = np.array(["old", "sweet", "dry", "wine", "cask"], dtype=object)
    texts = [" ".join(generator.choice(words, 3)) for _ in range(rows)]
    cities = strings(generator, rows, ["Jerez", "Rota", "Cádiz"], missing=0.1)
    return table.assign(city=pd.Series(cities, dtype=object), note=pd.Series(texts, dtype=object))


def pipeline(estimator: Any) -> Pipeline:
    """Imputers with indicators, one-hot and the words of a text: many columns from five features."""
    branches = [
        ("numbers", Pipeline([("a", SimpleImputer(add_indicator=True)), ("b", StandardScaler())]), NUMBERS),
        (
            "city",
            Pipeline(
                [
                    ("a", SimpleImputer(strategy="most_frequent")),
                    ("b", OneHotEncoder(handle_unknown="ignore")),
                ]
            ),
            ["city"],
        ),
        (
            "note",
            Pipeline(
                [
                    ("a", SimpleImputer(strategy="constant", fill_value="")),
                    ("b", FunctionTransformer(np.ravel)),
                    ("c", TfidfVectorizer()),
                ]
            ),
            ["note"],
        ),
    ]
    preprocess = ColumnTransformer(branches, sparse_threshold=0.0, verbose_feature_names_out=False)
    return Pipeline([("preprocess", preprocess), ("model", estimator)])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_pipelines_contributions_add_up_and_belong_to_its_features(name, tmp_path):
    estimator, classes, scale = ESTIMATORS[name]
    generator = np.random.default_rng(5)
    table = mixed(generator)
    target = labels(generator, table[NUMBERS], classes) if classes else generator.poisson(3, len(table)) + 0.5
    model = pair(pipeline(estimator), table, target, tmp_path)
    explainer = explainer_for(model, tmp_path, means_of(model, table))
    assert explainer.scale == scale
    rows = mixed(np.random.default_rng(6), 30)
    rows.loc[0, "city"] = "Sevilla"
    rows.loc[1, NUMBERS] = np.nan
    found = explainer.explain(model.batch(rows))
    assert found.contributions.shape == (30, 5, classes or 1)
    total = found.base + found.contributions.sum(axis=1)
    np.testing.assert_allclose(total, found.output, rtol=1e-10, atol=1e-10)
    _is_the_prediction(model, rows, total, scale)
    # A feature that changes nothing of the row contributes nothing new: only "note" differs.
    other = rows.assign(note=pd.Series([""] * 30, dtype=object))
    if scale in ("log-odds", "logits", "score") and hasattr(estimator, "coef_"):
        again = explainer.explain(model.batch(other))
        np.testing.assert_array_equal(found.contributions[:, :4], again.contributions[:, :4])


def _is_the_prediction(model: Any, rows: pd.DataFrame, total: Any, scale: str) -> None:
    """Check that the sums are what scikit-learn's own answer is made from."""
    sklearn = model.model
    if scale == "value":
        np.testing.assert_allclose(total[:, 0], sklearn.predict(rows), rtol=1e-9)
    elif scale == "log":
        np.testing.assert_allclose(np.exp(total[:, 0]), sklearn.predict(rows), rtol=1e-9)
    elif scale == "probability":
        np.testing.assert_allclose(total, sklearn.predict_proba(rows), atol=1e-10)
    elif scale == "score":
        np.testing.assert_allclose(total, sklearn.decision_function(rows), atol=1e-9)
    elif scale == "logits":
        shares = np.exp(total) / np.exp(total).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(shares, sklearn.predict_proba(rows), atol=1e-10)
    else:
        factor = 2.0 if scale == "half log-odds" else 1.0
        second = 1.0 / (1.0 + np.exp(-factor * total[:, 1]))
        np.testing.assert_allclose(second, sklearn.predict_proba(rows)[:, 1], atol=1e-10)
        np.testing.assert_array_equal(total[:, 0], -total[:, 1])


@pytest.mark.parametrize("estimator", [MultinomialNB(), ComplementNB()])
def test_words_count_from_their_means(estimator, tmp_path):
    generator = np.random.default_rng(3)
    table = mixed(generator)[["note"]]
    steps = [("a", FunctionTransformer(np.ravel)), ("b", CountVectorizer())]
    target = labels(generator, pd.DataFrame({"n": generator.random(80)}), 2)
    model = pair(behind_columns(steps, ["note"], estimator), table, target, tmp_path)
    found = explainer_for(model, tmp_path).explain(model.batch(table))
    _is_the_prediction(model, table, found.base + found.contributions.sum(axis=1), "log-odds")
    # Over the training rows contributions cancel: each is counted from the mean.
    np.testing.assert_allclose(found.contributions.mean(axis=0), 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("estimator", "scale"), [(GaussianNB(), "log-odds"), (GaussianNB(priors=[0.2, 0.5, 0.3]), "logits")]
)
def test_gaussian_contributions_are_counted_from_their_means(estimator, scale, tmp_path):
    generator = np.random.default_rng(3)
    table = numbers(generator, 90, 3)
    target = labels(generator, table, 2 if scale == "log-odds" else 3)
    model = pair(behind_columns(KEEP, NUMBERS, estimator), table, target, tmp_path)
    found = explainer_for(model, tmp_path).explain(model.batch(table))
    _is_the_prediction(model, table, found.base + found.contributions.sum(axis=1), scale)
    np.testing.assert_allclose(found.contributions.mean(axis=0), 0.0, atol=1e-9)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_categories_of_histogram_boosting(classes, tmp_path):
    generator = np.random.default_rng(classes)
    table = numbers(generator, 300, 3, missing=0.1)
    table["n1"] = generator.integers(0, 12, 300) * 2.0
    table.loc[generator.random(300) < 0.1, "n1"] = np.nan
    code = table["n1"].fillna(5.0).to_numpy() % 7
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    estimator = kind(max_iter=10, categorical_features=[1], random_state=0)
    target = (
        np.array(["a", "b", "c"], dtype=object)[(code % classes).astype(int)]
        if classes
        else code + table["n0"].fillna(0).to_numpy()
    )
    model = pair(behind_columns(KEEP, NUMBERS, estimator), table, target, tmp_path)
    rows = table[:40].copy()
    rows.loc[:5, "n1"] = [1.0, 99.0, -3.0, np.nan, 0.0, 22.0]
    found = explainer_for(model, tmp_path).explain(model.batch(rows))
    scale = "value" if not classes else "log-odds" if classes == 2 else "logits"
    _is_the_prediction(model, rows, found.base + found.contributions.sum(axis=1), scale)
    assert np.abs(found.contributions[:, 1]).max() > np.abs(found.contributions[:, 2]).max()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.sampled_from(["tree", "extra", "histogram", "counts"]))
def test_random_models_add_up(tmp_path, seed, name):
    estimator, classes, _ = ESTIMATORS[name]
    generator = np.random.default_rng(seed)
    table = numbers(generator, 60, 3, missing=0.2)
    target = labels(generator, table, classes) if classes else generator.poisson(3, 60) + 0.5
    model = pair(behind_columns(KEEP, NUMBERS, estimator), table, target, tmp_path)
    # Anything else raises DoesNotAddUp.
    explainer_for(model, tmp_path).explain(model.batch(numbers(generator, 40, 3, missing=0.3)))


def test_a_model_file_that_changed_is_looked_at_once(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    table = numbers(generator, 60, 2)
    model = pair(
        behind_columns([("scale", StandardScaler())], ["n0", "n1"], DecisionTreeRegressor(max_depth=2)),
        table,
        generator.normal(size=60),
        tmp_path,
    )
    explainer = explainer_for(model, tmp_path)
    with (tmp_path / "model.skops").open("ab") as file:
        file.write(b"more")
    looked = []
    monkeypatch.setattr(
        explaining, "file_entry", lambda path, entry=explaining.file_entry: looked.append(path) or entry(path)
    )
    for _ in range(3):
        with pytest.raises(NotExplainable, match="is not the file any more that this server loaded"):
            explainer.explain(model.batch(table[:1]))
    assert len(looked) == 1


def test_what_does_not_add_up_is_not_sent(tmp_path, monkeypatch):
    generator = np.random.default_rng(1)
    table = numbers(generator, 60, 3)
    steps = [("scale", StandardScaler())]
    model = pair(behind_columns(steps, NUMBERS, Ridge()), table, generator.normal(size=60), tmp_path)
    explainer = explainer_for(model, tmp_path)
    explainer.ready().base = explainer.ready().base + 1e-8
    with pytest.raises(explaining.DoesNotAddUp, match="1e-08"):
        explainer.explain(model.batch(table))


class TestNoExactMethod:
    """Models whose answers cannot be divided among the features say so, and why."""

    def reason(self, model: Any, tmp_path: Path, *, means: bool = True) -> str:
        generator = np.random.default_rng(1)
        table = numbers(generator, 60, 3)

        def explain() -> None:
            made = pair(model, table, labels(generator, table, 2), tmp_path)
            explainer_for(made, tmp_path, means_of(made, table) if means else None)

        # What cannot be compiled is predicted by scikit-learn, and not explained either.
        with pytest.raises((NotExplainable, NotCompilable)) as caught:
            explain()
        return str(caught.value)

    @pytest.mark.parametrize("estimator", [KNeighborsClassifier(), SVC()])
    def test_other_estimators(self, estimator, tmp_path):
        reason = self.reason(behind_columns(KEEP, NUMBERS, estimator), tmp_path)
        assert type(estimator).__name__ in reason

    def test_columns_of_several_features(self, tmp_path):
        steps = [("pca", PCA(2))]
        assert "PCA" in self.reason(behind_columns(steps, NUMBERS, LogisticRegression()), tmp_path)

    def test_linear_models_without_means(self, tmp_path):
        model = behind_columns([("impute", SimpleImputer())], NUMBERS, LogisticRegression())
        assert "Train it again" in self.reason(model, tmp_path, means=False)

    def test_centred_columns_need_no_means(self, tmp_path):
        generator = np.random.default_rng(1)
        table = numbers(generator, 60, 3)
        steps = [("scale", StandardScaler())]
        model = pair(behind_columns(steps, NUMBERS, Ridge()), table, generator.normal(size=60), tmp_path)
        batch = model.batch(table)
        without = explainer_for(model, tmp_path).explain(batch).contributions
        stored = explainer_for(model, tmp_path, means_of(model, table)).explain(batch).contributions
        np.testing.assert_allclose(without, stored, atol=1e-12)

    def test_means_of_another_model(self, tmp_path):
        generator = np.random.default_rng(1)
        table = numbers(generator, 60, 3)
        model = pair(behind_columns(KEEP, NUMBERS, Ridge()), table, generator.normal(size=60), tmp_path)
        with pytest.raises(NotExplainable, match="2 means"):
            explainer_for(model, tmp_path, [0.0, 1.0])

    def test_a_model_file_that_is_another_one_by_now(self, tmp_path):
        generator = np.random.default_rng(1)
        table = numbers(generator, 60, 3)
        tree = behind_columns(KEEP, NUMBERS, DecisionTreeRegressor(max_depth=2))
        model = pair(tree, table, generator.normal(size=60), tmp_path)
        explainer = explainer_for(model, tmp_path)
        (tmp_path / "model.skops").write_bytes(b"something else")
        with pytest.raises(NotExplainable, match="restart"):
            explainer.explain(model.batch(table))


async def post(served: Served, path: str, body: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=served.url) as client:
        return await client.post(path, json=body)


ROW = [5.1, 3.5, 1.4, 0.2]


class TestProtocols:
    async def test_v1_explains_the_predicted_class(self, iris_server):
        answer = await post(
            iris_server, "/v1/models/iris:explain", {"instances": [ROW, [6.7, 3.1, 5.6, 2.4]]}
        )
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["predictions"] == ["setosa", "virginica"]
        assert (body["method"], body["scale"]) == ("linear", "logits")
        for explanation, label in zip(body["explanations"], body["predictions"], strict=True):
            assert list(explanation) == ["class", "base_value", "output", "contributions"]
            assert explanation["class"] == label
            total = explanation["base_value"] + sum(explanation["contributions"].values())
            assert total == pytest.approx(explanation["output"], abs=1e-10)

    async def test_v1_explains_all_classes(self, iris_server):
        body = {"instances": [ROW], "parameters": {"classes": "all"}}
        answer = (await post(iris_server, "/v1/models/iris:explain", body)).json()
        single = (await post(iris_server, "/v1/models/iris:explain", {"instances": [ROW]})).json()
        classes = answer["explanations"][0]["classes"]
        assert list(classes) == ["setosa", "versicolor", "virginica"]
        assert {"class": "setosa", **classes["setosa"]} == single["explanations"][0]

    async def test_classes_that_are_no_strings_are_named_as_in_json(self, mixed_server):
        body = {"instances": [mixed_rows(1)[0]], "parameters": {"classes": "all"}}
        answer = await post(mixed_server, "/v1/models/mixed:explain", body)
        assert answer.status_code == 200, answer.text
        classes = answer.json()["explanations"][0]["classes"]
        assert list(classes) == ["false", "true"]
        assert list(classes["true"]["contributions"]) == ["age", "visits", "city", "member", "since"]
        assert answer.json()["scale"] == "probability"

    async def test_v2_gives_tensors(self, iris_server):
        inputs = [{"name": "x", "shape": [2, 4], "datatype": "FP64", "data": [*ROW, *ROW]}]
        body = {"id": "7", "inputs": inputs, "parameters": {"classes": "all"}}
        answer = (await post(iris_server, "/v2/models/iris/explain", body)).json()
        outputs = {output["name"]: output for output in answer["outputs"]}
        assert answer["id"] == "7"
        assert outputs["contributions"]["shape"] == [2, 4, 3]
        assert outputs["features"]["data"][0] == "sepal_length"
        assert outputs["classes"]["data"] == ["setosa", "versicolor", "virginica"]
        assert outputs["predict"]["data"] == ["setosa", "setosa"]
        contributions = np.array(outputs["contributions"]["data"]).reshape(2, 4, 3)
        base = np.array(outputs["base_value"]["data"]).reshape(2, 3)
        output = np.array(outputs["output"]["data"]).reshape(2, 3)
        np.testing.assert_allclose(base + contributions.sum(axis=1), output, atol=1e-10)

    async def test_v2_gives_what_is_asked_for(self, iris_server):
        inputs = [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW}]
        body = {"inputs": inputs, "outputs": [{"name": "contributions"}]}
        path = "/v2/models/iris/versions/iris-v1/explain"
        answer = (await post(iris_server, path, body)).json()
        assert [(output["name"], output["shape"]) for output in answer["outputs"]] == [
            ("contributions", [1, 4])
        ]

    @pytest.mark.parametrize(
        ("body", "status", "message"),
        [
            ({}, 400, "instances"),
            ({"instances": [ROW], "parameters": {"classes": "some"}}, 400, "parameters.classes"),
            ({"instances": [ROW], "parameters": {"class": "all"}}, 400, "class"),
            ({"instances": [ROW], "parameters": []}, 400, "parameters"),
            ({"instances": [[*ROW[:3], None]]}, 400, "instances[0]"),
            ({"instances": [ROW], "more": 1}, 400, "more"),
        ],
    )
    async def test_requests_that_are_wrong(self, iris_server, body, status, message):
        answer = await post(iris_server, "/v1/models/iris:explain", body)
        assert answer.status_code == status
        assert message in answer.json()["error"]

    async def test_too_many_rows_are_named_with_how_many_fit(self, loaded_iris):
        async with serve(loaded_iris, "iris", Limits(cells=20)) as served:
            answer = await post(served, "/v1/models/iris:explain", {"instances": [ROW] * 2})
            assert answer.status_code == 200
            body = {"instances": [ROW] * 2, "parameters": {"classes": "all"}}
            answer = await post(served, "/v1/models/iris:explain", body)
            assert answer.status_code == 413
            assert "at most 1" in answer.json()["error"]

    async def test_a_slow_model_takes_fewer_rows(self, loaded_mixed, monkeypatch):
        monkeypatch.setattr(service, "MAX_SECONDS", loaded_mixed.explainer.seconds(1) * 3.5)
        async with serve(loaded_mixed, "mixed") as served:
            assert (
                await post(served, "/v1/models/mixed:explain", {"instances": mixed_rows(3)})
            ).status_code == 200
            answer = await post(served, "/v1/models/mixed:explain", {"instances": mixed_rows(4)})
            assert (answer.status_code, "at most 3" in answer.json()["error"]) == (413, True)

    async def test_a_model_without_a_method_says_so(self, tmp_path):
        trained = write_iris(tmp_path / "iris", KNeighborsClassifier())
        async with serve(load(trained.directory, trained.digest), "iris") as served:
            for path in ("/v1/models/iris:explain", "/v2/models/iris/explain"):
                answer = await post(served, path, {"instances": [ROW]})
                assert answer.status_code == 501
                assert "cannot be explained" in answer.json()["error"]
                assert "KNeighborsClassifier" in answer.json()["error"]

    async def test_a_defect_is_logged_and_not_told(self, loaded_iris, caplog):
        method = loaded_iris.explainer.ready()
        base, method.base = method.base, method.base + 1.0
        try:
            async with serve(loaded_iris, "iris") as served:
                answer = await post(served, "/v1/models/iris:explain", {"instances": [ROW]})
        finally:
            method.base = base
        assert answer.status_code == 500
        assert "log" in answer.json()["error"]
        assert "does not add up" in caplog.text

    async def test_metadata_and_metrics_know_it(self, iris_server):
        async with httpx.AsyncClient(base_url=iris_server.url) as client:
            metadata = (await client.get("/v2/models/iris")).json()
            await client.post("/v1/models/iris:explain", json={"instances": [ROW]})
        assert metadata["parameters"].items() >= {"explain": "linear", "explain_scale": "logits"}.items()
        assert b'protocol="explain"' in iris_server.serving.metrics.exposition()[0]


def test_an_artifact_of_a_linear_model_without_means_still_serves(iris, loaded_iris):
    assert not (iris.directory / "explanation.json").exists()
    assert loaded_iris.explainer is not None, "its columns are centred"
    assert replace(loaded_iris, explainer=None).predictor is loaded_iris.predictor
