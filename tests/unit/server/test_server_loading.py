"""Artifacts that must not be served, each with the reason that the operator shows."""

from __future__ import annotations

import io
import json
import logging
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any, cast

import joblib
import numpy as np
import pytest
import sklearn
import skops.io
from server_artifacts import Trained, write_iris, write_json
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from solera_core import artifact
from solera_core.failures import Failure, Reason
from solera_server.compiled.pipeline import CompiledPredictor, compile_model
from solera_server.load import load
from solera_server.parity import reproduces_exactly

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from solera_core.schema import Schema


@pytest.fixture
def copy(iris: Trained, tmp_path: Path) -> Path:
    target = tmp_path / "iris"
    shutil.copytree(iris.directory, target)
    return target


def failure(directory: Path, digest: str | None = None) -> Failure:
    with pytest.raises(Failure) as caught:
        load(directory, digest)
    return caught.value


def edit(directory: Path, name: str, change: Callable[[Any], Any]) -> str:
    """Change a JSON file and write the manifest anew: an artifact that is whole, and wrong inside."""
    document = json.loads((directory / name).read_text())
    write_json(directory, name, change(document))
    return artifact.write_manifest(directory).digest


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_loads_with_and_without_a_digest(iris: Trained) -> None:
    for digest in (iris.digest, None):
        loaded = load(iris.directory, digest)
        assert loaded.digest == iris.digest
        assert loaded.predictor.outputs == ("predict", "predict_proba")
        assert loaded.sklearn_version == sklearn.__version__


@pytest.mark.parametrize(
    "estimator",
    [
        DecisionTreeClassifier(random_state=0),
        RandomForestClassifier(10, random_state=0, n_jobs=2),
        ExtraTreesClassifier(10, random_state=0),
        GradientBoostingClassifier(n_estimators=5, random_state=0),
        HistGradientBoostingClassifier(max_iter=5, random_state=0),
        KNeighborsClassifier(),
        GaussianNB(),
        LogisticRegression(max_iter=500),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_models_of_many_kinds_reproduce_their_examples(estimator: Any, tmp_path: Path) -> None:
    trained = write_iris(tmp_path / "model", estimator)
    assert load(trained.directory, trained.digest).schema == trained.schema


def test_what_is_compared_bit_by_bit() -> None:
    forest = RandomForestClassifier(5)
    assert reproduces_exactly(make_pipeline(StandardScaler(), forest))
    assert reproduces_exactly(forest)
    assert not reproduces_exactly(make_pipeline(StandardScaler(), LogisticRegression()))
    assert not reproduces_exactly(make_pipeline(FunctionTransformer(), KNeighborsClassifier()))


def test_a_forest_predicts_in_one_thread(tmp_path: Path) -> None:
    forests = OneVsRestClassifier(RandomForestClassifier(5, n_jobs=2), n_jobs=2)
    with joblib.parallel_config("threading"):  # Processes would take seconds to start.
        trained = write_iris(tmp_path / "model", forests)
    loaded = load(trained.directory, trained.digest)
    assert loaded.predictor.kind == "scikit-learn"
    found = loaded.predictor._model.steps[-1][1]
    assert (found.n_jobs, found.estimators_[0].n_jobs) == (1, 1)


def test_a_compiled_model_needs_no_scikit_learn(iris: Trained) -> None:
    program = (
        "import pathlib, sys; from solera_server.load import load; "
        f"loaded = load(pathlib.Path({str(iris.directory)!r}), None); "
        "heavy = {'sklearn', 'skops', 'pandas', 'scipy', 'pydantic'} & set(sys.modules); "
        "print(loaded.predictor.kind, loaded.predictor.reason, sorted(heavy))"
    )
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout == "compiled None []\n"


def test_a_model_without_a_compiled_form_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    trained = write_iris(tmp_path / "model", OneVsRestClassifier(LogisticRegression()))
    predictor = load(trained.directory, trained.digest).predictor
    assert (predictor.kind, predictor.native) == ("scikit-learn", False)
    assert predictor.reason == "there is no compiled form of sklearn.multiclass.OneVsRestClassifier"
    assert caplog.records[-1].not_compiled == predictor.reason


def test_a_compiled_model_that_fails_its_check_is_not_used(
    iris: Trained, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(path: Path, schema: Schema) -> CompiledPredictor:
        predictor = compile_model(path, schema)
        estimator = cast("Any", predictor.estimator)
        estimator.intercept = -estimator.intercept
        return predictor

    monkeypatch.setattr("solera_server.load.compile_model", wrong)
    predictor = load(iris.directory, iris.digest).predictor
    assert predictor.kind == "scikit-learn"
    assert (predictor.reason or "").startswith("the compiled form failed its check: example ")
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["the compiled model is not used"]


def test_a_fault_of_the_compiler_falls_back(iris: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(_path: Path, _schema: Schema) -> CompiledPredictor:
        raise ZeroDivisionError

    monkeypatch.setattr("solera_server.load.compile_model", faulty)
    predictor = load(iris.directory, iris.digest).predictor
    assert (predictor.kind, predictor.reason) == ("scikit-learn", "compiling failed: ZeroDivisionError")


def test_no_such_directory(tmp_path: Path) -> None:
    found = failure(tmp_path / "nothing")
    assert found.reason is Reason.ARTIFACT_CORRUPT
    assert "is not a directory; give the directory that holds manifest.json" in found.message


def test_not_an_artifact(tmp_path: Path) -> None:
    assert "it is not an artifact" in failure(tmp_path).message


def test_another_digest(copy: Path) -> None:
    found = failure(copy, "sha256:" + "0" * 64)
    assert found.reason is Reason.ARTIFACT_CORRUPT
    assert "manifest.json has the digest sha256:" in found.message


@pytest.mark.parametrize("name", artifact.REQUIRED)
def test_a_flipped_bit(copy: Path, iris: Trained, name: str) -> None:
    flip(copy / name)
    found = failure(copy, iris.digest)
    assert found.reason is Reason.ARTIFACT_CORRUPT
    assert name in found.message


@pytest.mark.parametrize("name", artifact.REQUIRED)
def test_a_missing_file(copy: Path, iris: Trained, name: str) -> None:
    (copy / name).unlink()
    assert f"{name} is missing" in failure(copy, iris.digest).message


def test_a_truncated_model(copy: Path, iris: Trained) -> None:
    data = (copy / artifact.MODEL).read_bytes()
    (copy / artifact.MODEL).write_bytes(data[:-100])
    assert "model.skops has" in failure(copy, iris.digest).message


def test_a_file_too_many(copy: Path, iris: Trained) -> None:
    (copy / "extra.py").write_text("print('x')")
    assert "extra.py" in failure(copy, iris.digest).message


def test_a_link_out_of_the_directory(copy: Path, iris: Trained) -> None:
    (copy / artifact.MODEL).unlink()
    (copy / artifact.MODEL).symlink_to(iris.directory / artifact.MODEL)
    assert "not a regular file" in failure(copy, iris.digest).message


class Harmful:
    """Would run a command if it were unpickled."""

    ran = False

    def __reduce__(self) -> Any:
        return (_mark, ())


def _mark() -> str:
    Harmful.ran = True
    return "ran"


def test_a_pickle_in_place_of_the_model(copy: Path) -> None:
    import pickle

    (copy / artifact.MODEL).write_bytes(pickle.dumps(Harmful()))
    found = failure(copy, artifact.write_manifest(copy).digest)
    assert found.reason is Reason.ARTIFACT_CORRUPT
    assert not Harmful.ran


def test_a_model_with_a_foreign_type(copy: Path) -> None:
    model = make_pipeline(FunctionTransformer(_mark), LogisticRegression())
    (copy / artifact.MODEL).write_bytes(skops.io.dumps(model))
    found = failure(copy, artifact.write_manifest(copy).digest)
    assert found.reason is Reason.ARTIFACT_CORRUPT
    assert "_mark" in found.message
    assert not Harmful.ran


def test_a_model_that_names_what_it_may_not_call(copy: Path) -> None:
    buffer = io.BytesIO((copy / artifact.MODEL).read_bytes())
    with zipfile.ZipFile(buffer) as source:
        members = {name: source.read(name) for name in source.namelist()}
    schema = members["schema.json"].replace(b'"LogisticRegression"', b'"system"')
    members["schema.json"] = schema.replace(b'"sklearn.linear_model._logistic"', b'"os"')
    with zipfile.ZipFile(copy / artifact.MODEL, "w") as target:
        for name, data in members.items():
            target.writestr(name, data)
    found = failure(copy, artifact.write_manifest(copy).digest)
    assert found.reason is Reason.ARTIFACT_CORRUPT
    assert "os.system" in found.message


def test_another_scikit_learn(copy: Path) -> None:
    digest = edit(copy, artifact.PROVENANCE, lambda value: _with_sklearn(value, "0.24.2"))
    found = failure(copy, digest)
    assert found.reason is Reason.RUNTIME_MISMATCH
    assert found.message == (
        f"the model was trained with scikit-learn 0.24.2, and this server has {sklearn.__version__}; "
        "use a server with scikit-learn 0.24."
    )


def _with_sklearn(provenance: dict[str, Any], version: str) -> dict[str, Any]:
    return {**provenance, "runtime": {**provenance["runtime"], "versions": {"scikit-learn": version}}}


def test_provenance_without_a_version(copy: Path) -> None:
    digest = edit(copy, artifact.PROVENANCE, lambda _: {})
    assert "does not say which scikit-learn" in failure(copy, digest).message


def test_classes_of_another_model(copy: Path) -> None:
    def reverse(schema: dict[str, Any]) -> dict[str, Any]:
        schema["target"]["classes"].reverse()
        return schema

    assert "classes are not those" in failure(copy, edit(copy, artifact.SCHEMA, reverse)).message


def test_features_of_another_model(copy: Path) -> None:
    def rename(schema: dict[str, Any]) -> dict[str, Any]:
        schema["features"][0]["name"] = "girth"
        return schema

    found = failure(copy, edit(copy, artifact.SCHEMA, rename))
    assert found.reason is Reason.ARTIFACT_CORRUPT
    assert "girth" in found.message


def test_a_label_that_does_not_come_out(copy: Path) -> None:
    def change(examples: dict[str, Any]) -> dict[str, Any]:
        examples["outputs"]["predict"][3] = "rose"
        return examples

    found = failure(copy, edit(copy, artifact.EXAMPLES, change))
    assert found.reason is Reason.PARITY_FAILED
    assert (
        "example 3 of the artifact gives predict 'setosa' here, and gave 'rose' in training" in found.message
    )


def test_probabilities_are_compared_to_1e9(copy: Path) -> None:
    def shift(amount: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def change(examples: dict[str, Any]) -> dict[str, Any]:
            examples["outputs"]["predict_proba"][0][0] += amount
            return examples

        return change

    load(copy, edit(copy, artifact.EXAMPLES, shift(1e-11)))
    assert failure(copy, edit(copy, artifact.EXAMPLES, shift(1e-7))).reason is Reason.PARITY_FAILED


def test_trees_are_compared_bit_by_bit(tmp_path: Path) -> None:
    trained = write_iris(tmp_path / "model", RandomForestClassifier(10, random_state=0))

    def change(examples: dict[str, Any]) -> dict[str, Any]:
        first = examples["outputs"]["predict_proba"][0]
        first[0] = float(np.nextafter(first[0], 0))
        return examples

    assert (
        failure(trained.directory, edit(trained.directory, artifact.EXAMPLES, change)).reason
        is Reason.PARITY_FAILED
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: [], "has no list of inputs"),
        (lambda value: {**value, "inputs": []}, "has no list of inputs"),
        (lambda value: {**value, "inputs": [1]}, "has no list of inputs"),
        (lambda value: {**value, "outputs": {"predict": []}}, "has not the outputs of this model"),
        (lambda value: {**value, "inputs": value["inputs"][1:]}, "has not one predict for each"),
        (
            lambda value: {**value, "inputs": [{**row, "sepal_width": "x"} for row in value["inputs"]]},
            "does not fit",
        ),
    ],
)
def test_examples_that_are_none(copy: Path, change: Callable[[Any], Any], message: str) -> None:
    found = failure(copy, edit(copy, artifact.EXAMPLES, change))
    assert found.reason is Reason.ARTIFACT_CORRUPT
    assert message in found.message
