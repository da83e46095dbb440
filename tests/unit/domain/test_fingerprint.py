"""Equal trainings have equal tokens; what a user changes makes another."""

from solera_core.spec import Gate, Task, Training, parse
from solera_operator.domain.fingerprint import evaluation_id, training_token


def training(**changes) -> Training:
    spec = {
        "data": {"uri": "sklearn://iris", "target": "species"},
        "candidates": [{"name": "a", "estimator": "sklearn.dummy.DummyClassifier"}],
    }
    got = parse(Training, spec | changes)
    assert isinstance(got, Training), got
    return got


def test_written_out_defaults_make_no_new_version():
    assert training_token(Task.CLASSIFICATION, training()) == training_token(
        Task.CLASSIFICATION, training(seed=0, deadline="1h", retries=2)
    )


def test_every_change_of_the_training_makes_a_new_version():
    tokens = {
        training_token(Task.CLASSIFICATION, training(**change))
        for change in (
            {},
            {"seed": 1},
            {"deadline": "2h"},
            {"retries": 3},
            {"pod": {"serviceAccountName": "x"}},
        )
    }
    assert len(tokens) == 5


def test_an_evaluation_is_of_an_artifact_and_its_gates():
    gate = Gate(metric="accuracy", min="0.9")
    ids = {
        evaluation_id([], "sha256:1"),
        evaluation_id([gate], "sha256:1"),
        evaluation_id([gate], "sha256:2"),
        evaluation_id([gate, Gate(metric="f1_macro", min="0.9")], "sha256:1"),
    }
    assert len(ids) == 4
    assert all(len(i) == 8 for i in ids)
