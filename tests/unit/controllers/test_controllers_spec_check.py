"""What the catalogue refuses, before anything is made of it."""

from version_objects import TRAINING, model

from solera_operator.controllers.spec_check import spec_problem
from solera_operator.settings import Settings

SETTINGS = Settings.parse(
    {
        "artifactStore": {"uri": "s3://artifacts"},
        "runtimes": [
            {"name": "sklearn-1.9", "sklearnVersion": "1.9.1", "trainerImage": "t:1", "serverImage": "s:1"}
        ],
    }
)


def test_a_good_spec():
    assert spec_problem(model(gates=[{"metric": "accuracy", "min": "0.9"}]), SETTINGS) is None


def test_a_parameter_that_the_estimator_does_not_have():
    wrong = {**TRAINING["candidates"][0], "params": {"c": 1}}
    problem = spec_problem(model(training={**TRAINING, "candidates": [wrong]}), SETTINGS)
    assert problem.reason == "BadParameter"
    assert "spec.training.candidates[0].params" in problem.message


def test_an_estimator_that_the_runtime_does_not_have():
    wrong = {"name": "a", "estimator": "sklearn.linear_model.LogisticRegresion"}
    problem = spec_problem(model(training={**TRAINING, "candidates": [wrong]}), SETTINGS)
    assert problem.reason == "BadEstimator"
    assert "spec.training.candidates[0].estimator" in problem.message
