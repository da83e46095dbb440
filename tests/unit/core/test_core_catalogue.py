import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solera_core.catalogue import Alternative, BadValue, load, runtimes
from solera_core.catalogue.values import coerce
from solera_core.failures import Reason
from solera_core.spec.task import METRICS
from solera_core.training_check import check_training

CATALOGUE = load()
FOREST = "sklearn.ensemble.RandomForestClassifier"
LOGISTIC = "sklearn.linear_model.LogisticRegression"
HIST = "sklearn.ensemble.HistGradientBoostingClassifier"
MLP = "sklearn.neural_network.MLPClassifier"
TFIDF = "sklearn.feature_extraction.text.TfidfVectorizer"
IMPUTER = "sklearn.impute.SimpleImputer"

MEANINGS = [
    (FOREST, "max_features", "1.0", 1.0),
    (FOREST, "max_features", "1", 1),
    (FOREST, "max_features", 3, 3),
    (FOREST, "max_features", 0.5, 0.5),
    (FOREST, "max_features", "0.5", 0.5),
    (FOREST, "max_features", "5e-1", 0.5),
    (FOREST, "max_features", "sqrt", "sqrt"),
    (FOREST, "max_features", None, None),
    (FOREST, "min_samples_leaf", 1, 1),
    (FOREST, "min_samples_leaf", "0.1", 0.1),
    (FOREST, "min_samples_split", 5, 5),
    (FOREST, "n_estimators", 100, 100),
    (FOREST, "n_estimators", "100", 100),
    (FOREST, "n_estimators", 100.0, 100),
    (FOREST, "bootstrap", False, False),
    (FOREST, "class_weight", "balanced", "balanced"),
    (FOREST, "random_state", 3, 3),
    (LOGISTIC, "C", 1, 1.0),
    (LOGISTIC, "C", "1.0", 1.0),
    (LOGISTIC, "C", "1", 1.0),
    (HIST, "max_features", 1, 1.0),
    (MLP, "hidden_layer_sizes", [50, 20], [50, 20]),
    (MLP, "hidden_layer_sizes", (50, "20"), [50, 20]),
    (TFIDF, "ngram_range", [1, 2], (1, 2)),
    (TFIDF, "max_df", "1.0", 1.0),
    (TFIDF, "max_df", 5, 5),
    (IMPUTER, "fill_value", "unknown", "unknown"),
    (IMPUTER, "fill_value", "0.5", 0.5),
    (IMPUTER, "fill_value", 0, 0.0),
]


@pytest.mark.parametrize(("dotted", "name", "value", "meaning"), MEANINGS)
def test_a_value_means_what_is_documented(dotted, name, value, meaning):
    assert CATALOGUE.check_params(dotted, {name: value}) == []
    result = CATALOGUE.coerce_params(dotted, {name: value})[name]
    assert (result, type(result)) == (meaning, type(meaning))


REFUSED = [
    (FOREST, "max_features", 1, 'could be either: write "1" (quoted) for the count, or "1.0" (quoted)'),
    (FOREST, "max_features", 1.0, "could be either"),
    (FOREST, "min_samples_split", 1, "could be either"),
    (TFIDF, "min_df", 1, "could be either"),
    (FOREST, "max_features", "2.5", 'not "2.5"'),
    (FOREST, "max_features", "sqr", 'Did you mean "sqrt"?'),
    (FOREST, "n_estimators", 0, "takes an integer from 1, not 0"),
    (FOREST, "n_estimators", "1.0", "takes an integer from 1"),
    (FOREST, "n_estimators", True, "not true"),
    (FOREST, "n_estimators", None, "not null"),
    (FOREST, "n_estimators", [1], "not a list"),
    (FOREST, "n_estimators", float("inf"), "not inf"),
    (LOGISTIC, "C", "1e400", 'not "1e400"'),
    (LOGISTIC, "C", 10**400, "not a number of 1329 bits"),
    (FOREST, "n_estimators", "9" * 5000, "takes an integer from 1"),
    (MLP, "hidden_layer_sizes", ["1e400"], 'not "1e400"'),
    (FOREST, "bootstrap", "yes", "takes true or false"),
    (FOREST, "bootstrap", 1, "takes true or false"),
    (FOREST, "n_jobs", 4, "is not set here: it comes from the CPUs of training.pod"),
    (FOREST, "n_estimator", 1, 'Did you mean "n_estimators"?'),
    (FOREST, "nestimators", 1, 'Did you mean "n_estimators"?'),
    (FOREST, "zzz", 1, "It has bootstrap, "),
    (LOGISTIC, "C", "-1", "above 0"),
    (LOGISTIC, "penalty", "l2", "deprecated"),
    (MLP, "hidden_layer_sizes", [[1]], "its items are"),
]


@pytest.mark.parametrize(("dotted", "name", "value", "message"), REFUSED)
def test_a_wrong_parameter_is_refused_with_help(dotted, name, value, message):
    (problem,) = CATALOGUE.check_params(dotted, {name: value}, "spec.training.candidates[0].params")
    assert problem.path == f"spec.training.candidates[0].params.{name}"
    assert message in problem.message
    with pytest.raises(BadValue):
        CATALOGUE.coerce_params(dotted, {name: value})


numbers = st.integers(-5, 200) | st.floats(-2, 200)
alternatives = st.lists(
    st.builds(
        Alternative,
        type=st.sampled_from(["Integer", "Real"]),
        minimum=st.none() | st.integers(0, 3),
        maximum=st.none() | st.integers(4, 100),
    ),
    min_size=1,
    max_size=3,
).map(tuple)


@given(alternatives, numbers)
def test_what_is_accepted_keeps_its_value_and_is_within_bounds(takes, number):
    try:
        result = coerce(takes, number)
    except BadValue:
        return
    assert result == number
    kind = "Real" if isinstance(result, float) else "Integer"
    assert any(item.type == kind and item.contains(result) for item in takes)


@given(alternatives, numbers)
def test_a_number_that_the_api_server_rewrote_means_the_same(takes, number):
    """The API server stores 1.0 as 1: both must be accepted with one meaning, or both refused."""

    def meaning(value):
        try:
            return repr(coerce(takes, value))
        except BadValue:
            return None

    rewritten = int(number) if float(number).is_integer() else number
    assert meaning(number) == meaning(rewritten)


@given(alternatives, st.integers(0, 200))
def test_quoting_resolves_every_ambiguity(takes, number):
    for text, kind in ((f"{number}", int), (f"{number}.0", float)):
        wanted = "Integer" if kind is int else "Real"
        if any(item.type == wanted and item.contains(number) for item in takes):
            assert type(coerce(takes, text)) is kind


ESTIMATORS = [
    ("Classification", "sklearn.ensemble.RandomForestClasifier", f'Did you mean "{FOREST}"?'),
    ("Classification", "RandomForestClassifier", f'Did you mean "{FOREST}"?'),
    ("Classification", "sklearn.tree.RandomForestClassifier", f'Did you mean "{FOREST}"?'),
    ("Regression", FOREST, 'Did you mean "sklearn.ensemble.RandomForestRegressor"?'),
    ("Regression", "sklearn.svm.SVC", 'Did you mean "sklearn.svm.SVR"?'),
    ("Regression", "os.system", "For Regression there are AdaBoostRegressor"),
    ("Classification", "builtins.eval", "there is no estimator"),
    ("Classification", "sklearn.preprocessing.StandardScaler", "there is no estimator"),
]


@pytest.mark.parametrize(("task", "dotted", "message"), ESTIMATORS)
def test_an_unknown_estimator_is_refused_with_the_nearest(task, dotted, message):
    (problem,) = CATALOGUE.check_estimator(task, dotted)
    assert message in problem.message


def test_metrics_are_those_of_the_spec():
    for task, names in METRICS.items():
        assert {name for name, metric in CATALOGUE.metrics.items() if metric.task == task} == set(names)
    (problem,) = CATALOGUE.check_metric("Regression", "f1_macro")
    assert "is a metric for Classification" in problem.message
    (problem,) = CATALOGUE.check_metric("Classification", "acuracy")
    assert 'Did you mean "accuracy"?' in problem.message


def test_a_whole_training_is_checked_at_once():
    training = {
        "data": {"uri": "sklearn://iris", "target": "species"},
        "preprocessing": [
            {"columns": ["a"], "steps": [{"transformer": "sklearn.preprocessing.StandartScaler"}]},
            {"columns": ["b"], "steps": [{"transformer": IMPUTER, "params": {"strategi": "mean"}}]},
        ],
        "candidates": [
            {"name": "a", "estimator": FOREST, "params": {"max_depht": 3}},
            {"name": "b", "estimator": "sklearn.svm.LinearSVC", "search": {"space": {"C": ["0.1", "x"]}}},
        ],
        "validation": {"metric": "roc_auc"},
    }
    found = check_training(CATALOGUE, "Classification", training, [{"metric": "r2", "min": "0"}])
    assert [(reason, problem.path) for reason, problem in found] == [
        (Reason.BAD_PARAMETER, "spec.training.candidates[0].params.max_depht"),
        (Reason.BAD_PARAMETER, "spec.training.candidates[1].search.space.C[1]"),
        (Reason.BAD_ESTIMATOR, "spec.training.preprocessing[0].steps[0].transformer"),
        (Reason.BAD_PARAMETER, "spec.training.preprocessing[1].steps[0].params.strategi"),
        (Reason.BAD_METRIC, "spec.training.validation.metric"),
        (Reason.BAD_METRIC, "spec.gates[0].metric"),
    ]
    assert "LinearSVC gives none" in found[4][1].message


SGD = "sklearn.linear_model.SGDClassifier"
LOSSES = [
    ({}, None, False),
    ({"loss": "hinge"}, None, False),
    ({"loss": "log_loss"}, None, True),
    ({"loss": "modified_huber"}, None, True),
    ({"loss": "hinge"}, ["log_loss", "modified_huber"], True),
    ({"loss": "log_loss"}, ["log_loss", "hinge"], False),
]


@pytest.mark.parametrize(("params", "losses", "possible"), LOSSES)
def test_whether_a_linear_classifier_gives_probabilities_is_its_loss(params, losses, possible):
    candidate = {"name": "a", "estimator": SGD, "params": params}
    if losses is not None:
        candidate["search"] = {"method": "Grid", "space": {"loss": losses}}
    training = {"candidates": [candidate], "validation": {"metric": "roc_auc"}}
    found = check_training(CATALOGUE, "Classification", training)
    assert (not found) == possible, found


def test_the_operator_needs_no_scikit_learn():
    code = (
        "import sys\nfrom solera_core.catalogue import load\nload()\n"
        "import solera_core.training_check\n"
        "heavy = {'sklearn', 'numpy', 'pandas', 'pydantic', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_runtime_is_named():
    assert runtimes() == ("sklearn-1.9",)
    with pytest.raises(KeyError, match=r"there are sklearn-1\.9"):
        load("sklearn-0.1")
