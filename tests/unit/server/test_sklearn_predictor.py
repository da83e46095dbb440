"""What scikit-learn itself predicts: which value of a request it refuses, and how that is said."""

from __future__ import annotations

import json
import logging
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from compiled_models import batch_of
from server_artifacts import write_refusing

from solera_core import artifact
from solera_core.failures import ArtifactCorrupt
from solera_core.schema import decode_rows, frame
from solera_server import predictor as predictor_module
from solera_server.batch import InputError
from solera_server.load import load
from solera_server.predictor import PREDICT, SklearnPredictor

if TYPE_CHECKING:
    from pathlib import Path

    from server_artifacts import Trained

    from solera_server.batch import Batch


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return write_refusing(tmp_path_factory.mktemp("refusing") / "model")


@pytest.fixture
def predictor(refusing: Trained) -> SklearnPredictor:
    found = load(refusing.directory, refusing.digest).predictor
    assert isinstance(found, SklearnPredictor)
    return found


def batch(trained: Trained, count: int = 1, **changes: dict[int, Any]) -> Batch:
    """Return rows that the model takes, but for the changes: values by feature and row."""
    rows: list[dict[str, Any]] = [{"age": None, "size": 3.0, "city": "Porto"} for _ in range(count)]
    for name, values in changes.items():
        for row, value in values.items():
            rows[row][name] = value
    return batch_of(trained.schema, frame(decode_rows(trained.schema, rows)))


@pytest.fixture(autouse=True)
def a_machine_that_is_never_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that is given up for want of time says nothing about what it would find."""
    monkeypatch.setattr(predictor_module, "_SEARCH_SECONDS", 60.0)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"city": {13: "Cádiz"}}, "row 13, column 2: the model does not take this value"),
        ({"city": {0: "Cádiz"}}, "row 0, column 2: the model does not take this value"),
        ({"city": {19: "Cádiz"}, "size": {19: 4.0}}, "row 19, column 2: the model does not take this value"),
        ({"city": {7: "Cádiz", 12: "Cádiz"}}, "row 7, column 2: the model does not take this value"),
        ({"city": {5: None}}, "row 5, column 2: the model does not take a missing value here"),
        ({"size": {5: None}}, "row 5, column 1: the model does not take a missing value here"),
        ({"size": {5: "Infinity"}}, "row 5, column 1: the model does not take a value that is infinite"),
        ({"age": {5: "Infinity"}}, "row 5, column 0: the model does not take a value that is infinite"),
        ({"city": {4: "Cádiz"}, "size": {4: None}}, "row 4, column 2: the model does not take this value"),
    ],
)
def test_the_value_that_is_refused_is_named(
    refusing: Trained, predictor: SklearnPredictor, changes: dict[str, dict[int, Any]], refusal: str
) -> None:
    with pytest.raises(InputError) as caught:
        predictor.predict(batch(refusing, 20, **changes), predictor.outputs)
    assert caught.value.message.startswith(refusal)
    assert caught.value.status == 400


def test_one_row_names_its_value_too(refusing: Trained, predictor: SklearnPredictor) -> None:
    with pytest.raises(InputError, match="row 0, column 2: the model does not take this value"):
        predictor.predict(batch(refusing, city={0: "Cádiz"}), (PREDICT,))


def test_the_search_ends(
    refusing: Trained, predictor: SklearnPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor_module, "_SEARCH_SECONDS", -1.0)
    with pytest.raises(InputError, match=r"^the model does not take a value of this request$"):
        predictor.predict(batch(refusing, 20, city={13: "Cádiz"}), (PREDICT,))


def test_the_log_says_what_the_model_said_once_for_all(
    refusing: Trained, predictor: SklearnPredictor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="solera_server")
    for _ in range(3):
        with pytest.raises(InputError):
            predictor.predict(batch(refusing, city={0: "Cádiz"}), (PREDICT,))
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.DEBUG, logging.DEBUG]
    assert "Found unknown categories" in caplog.text


def test_what_is_no_error_of_a_value_stays_one_of_the_server(
    refusing: Trained, predictor: SklearnPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_table: Any) -> Any:
        raise TypeError("defect")

    monkeypatch.setattr(predictor._model, "predict", broken)
    with pytest.raises(TypeError, match="defect"):
        predictor.predict(batch(refusing), (PREDICT,))


def test_a_model_that_answers_no_example_is_at_fault_itself(refusing: Trained, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(refusing.directory, directory)
    examples = json.loads((directory / artifact.EXAMPLES).read_text())
    examples["inputs"][0]["city"] = "Cádiz"
    (directory / artifact.EXAMPLES).write_text(json.dumps(examples))
    digest = artifact.write_manifest(directory).digest
    with pytest.raises(ArtifactCorrupt, match="the model does not answer its examples: ValueError"):
        load(directory, digest)


def test_answers_are_the_models_own(refusing: Trained, predictor: SklearnPredictor) -> None:
    rows = [{"age": 1.0 * row, "size": 2.0, "city": "Jerez"} for row in range(9)]
    table = frame(decode_rows(refusing.schema, rows))
    found = predictor.predict(batch_of(refusing.schema, table), predictor.outputs)
    assert np.array_equal(found["predict_proba"], refusing.model.predict_proba(table))
