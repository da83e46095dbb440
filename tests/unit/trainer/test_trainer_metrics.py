import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from trainer_cases import CATALOGUE, problem

from solera_trainer import intervals
from solera_trainer.intervals import Estimate, compute, estimates, rows_needed, wilson
from solera_trainer.judging import Support, judge
from solera_trainer.predictions import Labelled, Measured


def answers(rows, classes, seed, noise=0.5):
    random = np.random.default_rng(seed)
    true = np.r_[np.arange(classes), random.integers(0, classes, rows - classes)]
    proba = random.random((rows, classes)) * noise + np.eye(classes)[true] * random.random((rows, 1))
    # Ties between scores are where rankings go wrong.
    proba = np.round(proba, 1) + 0.01
    proba /= proba.sum(axis=1, keepdims=True)
    return Labelled(true, proba.argmax(axis=1), proba, classes, 0)


def numbers(rows, seed):
    random = np.random.default_rng(seed)
    true = random.normal(100, 10, rows)
    return Measured(true, true + random.normal(1, 3, rows))


def one(found):
    return {name: float(values[0]) for name, values in found.items()}


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("seed", range(5))
def test_classification_metrics_are_scikit_learns(classes, seed):
    rows = answers(60, classes, seed)
    t, p, q = rows.true, rows.predicted, rows.proba
    score = q[:, 1] if classes == 2 else q
    rank = np.eye(classes)[t]
    expected = {
        "accuracy": reference.accuracy_score(t, p),
        "balanced_accuracy": reference.balanced_accuracy_score(t, p),
        "f1_macro": reference.f1_score(t, p, average="macro", zero_division=0),
        "f1_micro": reference.f1_score(t, p, average="micro", zero_division=0),
        "f1_weighted": reference.f1_score(t, p, average="weighted", zero_division=0),
        "precision_macro": reference.precision_score(t, p, average="macro", zero_division=0),
        "precision_weighted": reference.precision_score(t, p, average="weighted", zero_division=0),
        "recall_macro": reference.recall_score(t, p, average="macro", zero_division=0),
        "recall_weighted": reference.recall_score(t, p, average="weighted", zero_division=0),
        "matthews_corrcoef": reference.matthews_corrcoef(t, p),
        "roc_auc": reference.roc_auc_score(t, score, multi_class="ovr"),
        "average_precision": reference.average_precision_score(t if classes == 2 else rank, score),
        "log_loss": reference.log_loss(t, q),
        "brier_score": reference.brier_score_loss(t, score)
        if classes == 2
        else np.mean(((q - rank) ** 2).sum(1)),
    }
    found = one(compute(rows, np.ones((1, 60))))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("rows", [2, 7, 60])
def test_regression_metrics_are_scikit_learns(rows):
    data = numbers(rows, rows)
    t, p = data.true, data.predicted
    expected = {
        "r2": reference.r2_score(t, p),
        "explained_variance": reference.explained_variance_score(t, p),
        "mean_absolute_error": reference.mean_absolute_error(t, p),
        "median_absolute_error": reference.median_absolute_error(t, p),
        "mean_squared_error": reference.mean_squared_error(t, p),
        "root_mean_squared_error": reference.root_mean_squared_error(t, p),
        "mean_absolute_percentage_error": reference.mean_absolute_percentage_error(t, p),
        "max_error": reference.max_error(t, p),
    }
    assert one(compute(data, np.ones((1, rows)))) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 4), st.integers(0, 1000), st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_a_weight_counts_a_row_as_often(classes, seed, weights):
    """What the bootstrap relies on."""
    weights = np.array(weights)
    if not weights.sum():
        weights[0] = 1
    repeated = np.repeat(np.arange(12), weights)
    rows = answers(12, classes, seed)
    again = Labelled(rows.true[repeated], rows.predicted[repeated], rows.proba[repeated], classes, 0)
    data = numbers(12, seed)
    repeat = Measured(data.true[repeated], data.predicted[repeated])
    for weighted, plain in ((rows, again), (data, repeat)):
        found = one(compute(weighted, weights[None, :].astype(float)))
        expected = one(compute(plain, np.ones((1, len(repeated)))))
        assert found == pytest.approx(expected, rel=1e-7, abs=1e-7, nan_ok=True)


def test_wilson_has_its_published_values():
    """Newcombe (1998), table I, 81 of 263 and 15 of 148 at two-sided 95%: the same formula with z = 1.96."""
    before, intervals.Z = intervals.Z, 1.959964
    try:
        assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
        assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    finally:
        intervals.Z = before
    assert wilson(1.0, 30) == pytest.approx((30 / (30 + intervals.Z**2), 1.0))


@given(st.integers(1, 500), st.integers(0, 500))
def test_wilson_holds_the_share(rows, hits):
    share = min(hits, rows) / rows
    low, high = wilson(share, rows)
    assert 0 <= low <= share <= high + 1e-12 <= 1 + 1e-12


@given(st.floats(0.5, 1.0), st.floats(0.3, 0.999))
def test_the_rows_needed_are_enough_and_one_less_is_not(share, bound):
    if not share - bound > 0.01:
        return
    needed = rows_needed(share, bound)
    assert wilson(share, needed)[0] >= bound
    assert needed == 1 or wilson(share, needed - 1)[0] < bound


def test_bounds_cover_the_truth_as_often_as_they_say():
    """2,000 answers of a model with known accuracy: each one-sided bound misses at most about 5%."""
    random = np.random.default_rng(1)
    missed = {"accuracy": 0, "f1_macro": 0}
    runs = 150
    for _ in range(runs):
        true = random.integers(0, 2, 200)
        wrong = random.random(200) < 0.15
        rows = Labelled(true, np.where(wrong, 1 - true, true), None, 2, 0)
        found = {item.name: item for item in estimates(CATALOGUE, "Classification", rows)}
        for name in missed:
            missed[name] += found[name].lower > 0.85
    allowed = runs * 0.05 + 2.33 * math.sqrt(runs * 0.05 * 0.95)
    assert all(count <= allowed for count in missed.values()), missed


def test_perfect_answers_on_few_rows_prove_little():
    true = np.arange(30) % 3
    rows = Labelled(true, true, np.eye(3)[true] * 0.9 + 0.1 / 3, 3, 0)
    found = {item.name: item for item in estimates(CATALOGUE, "Classification", rows)}
    for name in ("accuracy", "f1_macro", "roc_auc", "balanced_accuracy"):
        assert found[name].value == 1
        assert found[name].lower < 0.95, name


def test_estimates_are_the_same_each_time():
    rows = answers(80, 3, 0)
    assert estimates(CATALOGUE, "Classification", rows) == estimates(CATALOGUE, "Classification", rows)


def test_a_model_without_probabilities_has_no_such_metrics():
    rows = answers(40, 3, 0)
    silent = Labelled(rows.true, rows.predicted, None, 3, 0)
    found = {item.name: item for item in estimates(CATALOGUE, "Classification", silent)}
    assert found["roc_auc"].value is None
    assert found["roc_auc"].reason == "the model gives no probabilities"
    assert found["accuracy"].value is not None


def test_a_class_that_training_never_saw_counts_as_wrong():
    rows = Labelled(np.array([0, 1, 2, 2]), np.array([0, 1, 0, 1]), np.ones((4, 2)) / 2, 2, 2)
    found = {item.name: item for item in estimates(CATALOGUE, "Classification", rows)}
    assert found["accuracy"].value == 0.5
    assert "2 held-out rows are of classes without training rows" in found["log_loss"].reason


def verdict(gate, estimate, rows=30, task="Classification", keys=None):
    (found,) = judge(CATALOGUE, problem(task, gates=[gate]).gates, [estimate], Support(rows, keys))
    return found


ACCURACY = Estimate("accuracy", 0.95, 0.85, 0.99)
VERDICTS = [
    (
        {"metric": "accuracy", "min": "0.85"},
        ACCURACY,
        True,
        "accuracy 0.95, lower 95% bound 0.85 >= min 0.85.",
    ),
    ({"metric": "accuracy", "min": "0.90"}, ACCURACY, False, "bound 0.85 < min 0.90"),
    (
        {"metric": "accuracy", "min": "0.90", "judge": "Estimate"},
        ACCURACY,
        True,
        "accuracy 0.95 >= min 0.90.",
    ),
    (
        {"metric": "accuracy", "min": "0.96", "judge": "Estimate"},
        ACCURACY,
        False,
        "accuracy 0.95 < min 0.96.",
    ),
    ({"metric": "accuracy", "max": "0.98"}, ACCURACY, False, "upper 95% bound 0.99 > max 0.98"),
    ({"metric": "accuracy", "min": "0.80", "max": "1"}, ACCURACY, True, "<= max 1."),
    ({"metric": "accuracy", "min": "0.80", "max": "0.98"}, ACCURACY, False, "> max 0.98"),
    ({"metric": "accuracy", "min": "0.95"}, ACCURACY, False, "cannot show it even without one error: 52 are"),
    ({"metric": "accuracy", "min": "0.97"}, ACCURACY, False, "The estimate itself does not reach it."),
    ({"metric": "f1_macro", "min": "0.1"}, ACCURACY, False, "f1_macro has no value: there is no such metric"),
    (
        {"metric": "roc_auc", "min": "0.1"},
        Estimate("roc_auc", None, None, None, "the model gives no probabilities"),
        False,
        "has no value: the model gives no probabilities.",
    ),
]


@pytest.mark.parametrize(("gate", "estimate", "passed", "message"), VERDICTS)
def test_verdicts(gate, estimate, passed, message):
    found = verdict(gate, estimate)
    assert (found.passed, message in found.message) == (passed, True), found.message


def test_a_decimal_is_compared_as_it_is_read():
    """7 of 10 right is 0.7, though the float is a little less."""
    found = verdict(
        {"metric": "accuracy", "min": "0.70", "judge": "Estimate"}, Estimate("accuracy", 7 / 10, 0, 1)
    )
    assert found.passed


def test_too_few_rows_are_said_with_how_many_are_needed():
    found = verdict({"metric": "accuracy", "min": "0.90"}, Estimate("accuracy", 0.95, 0.85, 0.99), rows=60)
    needed = rows_needed(0.95, 0.90)
    assert (
        f"60 held-out rows are too few to show it: about {needed} are needed, or judge: Estimate"
        in found.message
    )
    error = Estimate("mean_absolute_error", 40.0, 30.0, 50.0)
    found = verdict({"metric": "mean_absolute_error", "max": "45"}, error, rows=100, task="Regression")
    assert "about 400 are needed" in found.message


FEW = [(1, None), (29, None), (500, 29)]


@pytest.mark.parametrize(("rows", "keys"), FEW)
def test_few_rows_have_no_bounds(rows, keys):
    groups = None if keys is None else np.arange(rows) % keys
    found = {item.name: item for item in estimates(CATALOGUE, "Regression", numbers(rows, 0), groups)}
    error = found["mean_absolute_error"]
    assert (error.lower, error.upper) == (None, None)
    gate = {"metric": "mean_absolute_error", "max": "1000"}
    judged = verdict(gate, error, rows=rows, task="Regression", keys=keys)
    assert not judged.passed
    assert f"{keys or rows} " in judged.message
    assert "too few: 30 are needed, or judge: Estimate." in judged.message
    assert verdict(gate | {"judge": "Estimate"}, error, rows=rows, task="Regression").passed


def test_thirty_rows_have_bounds():
    for name in ("mean_absolute_error", "r2"):
        item = {e.name: e for e in estimates(CATALOGUE, "Regression", numbers(30, 0))}[name]
        assert item.lower < item.value < item.upper
    few = answers(29, 2, 0)
    found = {item.name: item for item in estimates(CATALOGUE, "Classification", few)}
    assert found["roc_auc"].lower is None
    assert found["log_loss"].upper is None
    assert found["accuracy"].lower < found["accuracy"].value, "Wilson's holds for any number of rows"


def test_bounds_cover_the_truth_when_rows_share_a_key():
    """20 keys of 50 rows, each key with an accuracy of its own around 0.8."""
    random = np.random.default_rng(2)
    runs, missed = 100, {"accuracy": 0, "balanced_accuracy": 0}
    for _ in range(runs):
        share = random.beta(4, 1, size=20)
        hit = random.random((20, 50)) < share[:, None]
        true = random.integers(0, 2, 1000)
        rows = Labelled(true, np.where(hit.ravel(), true, 1 - true), None, 2, 0)
        found = estimates(CATALOGUE, "Classification", rows, np.repeat(np.arange(20), 50))
        for item in found:
            if item.name in missed:
                missed[item.name] += item.lower > 0.8
    allowed = runs * 0.05 + 2.33 * math.sqrt(runs * 0.05 * 0.95)
    assert all(count <= allowed for count in missed.values()), missed


def test_keys_without_an_error_count_as_so_many_rows():
    true = np.arange(600) % 2
    rows = Labelled(true, true, np.eye(2)[true] * 0.8 + 0.1, 2, 0)
    found = {e.name: e for e in estimates(CATALOGUE, "Classification", rows, np.arange(600) // 20)}
    assert found["accuracy"].lower == pytest.approx(wilson(1.0, 30)[0])
    assert found["roc_auc"].lower == pytest.approx(wilson(1.0, 30)[0])
    alone = estimates(CATALOGUE, "Classification", rows, np.arange(600))
    assert alone == estimates(CATALOGUE, "Classification", rows), "keys of one row each change nothing"
