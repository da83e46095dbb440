import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from trainer_cases import CATALOGUE, problem, table

from solera_core import artifact
from solera_core.failures import ArtifactCorrupt, Failure, Reason
from solera_core.model_file import load_model
from solera_core.salt import split_salt
from solera_core.schema import Schema, decode_rows, frame
from solera_core.spec import parse_manifest
from solera_server.load import load
from solera_trainer.dataset import prepare
from solera_trainer.evaluation import evaluate, evaluate_result
from solera_trainer.problem import Problem
from solera_trainer.reading import read_bundled, read_files
from solera_trainer.selection import _distinct, settings
from solera_trainer.sources import plain_files
from solera_trainer.training import train, train_result

EXAMPLES = Path(__file__).parents[3] / "examples"
DATA = {
    "iris": lambda: read_bundled("iris"),
    "diabetes": lambda: read_bundled("diabetes"),
    "penguins": lambda: read_files(plain_files([EXAMPLES / "data" / "penguins.csv"])),
}


def example(name):
    model, spec = parse_manifest(yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text()))
    salt = split_salt(model, spec.training.data.split.seed)
    return Problem(spec.task, spec.training, salt, spec.gates), DATA[name]()


@pytest.fixture(scope="module", params=DATA)
def trained(request, tmp_path_factory):
    """Train an example for real; yields everything about it."""
    asked, raw = example(request.param)
    directory = tmp_path_factory.mktemp("artifacts") / request.param
    return asked, raw, directory, train(asked, CATALOGUE, raw, directory, cpus=2, images={})


def test_the_artifact_is_whole(trained):
    _, _, directory, made = trained
    assert artifact.verify(directory, made.manifest.digest) == made.manifest
    files, always = set(made.manifest.files), {*artifact.REQUIRED, artifact.BASELINE}
    assert always <= files <= {*always, *artifact.OPTIONAL}


def test_the_examples_gates_pass_on_rows_that_were_not_trained_on(trained):
    asked, raw, directory, made = trained
    evaluated = evaluate(
        asked, CATALOGUE, raw, directory, made.manifest.digest, training_rows=made.training_rows
    )
    assert evaluated.passed, [verdict.message for verdict in evaluated.verdicts]
    assert evaluated.rows == made.rows_test
    assert made.rows_train + made.rows_test <= raw.num_rows
    assert "dataDigest" not in evaluate_result(evaluated, "0a1b2c3d")


def test_the_stored_examples_are_answered_the_same_after_loading(trained):
    _, _, directory, _ = trained
    schema = Schema.from_json(artifact.read_json(directory, artifact.SCHEMA))
    stored = artifact.read_json(directory, artifact.EXAMPLES)
    model = load_model(directory / artifact.MODEL)
    rows = frame(decode_rows(schema, stored["inputs"]))
    assert 30 <= len(stored["inputs"]) <= 64
    assert model.predict(rows).tolist() == stored["outputs"]["predict"]
    if schema.target.classes is not None:
        assert np.array_equal(model.predict_proba(rows), np.array(stored["outputs"]["predict_proba"]))
        assert set(stored["outputs"]["predict"]) <= set(schema.target.classes)


def test_the_examples_hold_missing_values_and_edges(trained):
    _, _, directory, _ = trained
    schema = Schema.from_json(artifact.read_json(directory, artifact.SCHEMA))
    inputs = artifact.read_json(directory, artifact.EXAMPLES)["inputs"]
    for feature in schema.features:
        values = [row[feature.name] for row in inputs]
        assert None in values, feature
        if feature.type == "String":
            assert set(values) - {None, ""} - set(feature.categories), "no unseen category"
        if feature.type == "Integer":
            assert all(isinstance(value, int) for value in values if value is not None)


def test_the_provenance_names_no_machine_and_no_time(trained):
    asked, _, directory, made = trained
    provenance = artifact.read_json(directory, artifact.PROVENANCE)
    text = json.dumps(provenance)
    assert os.uname().nodename not in text
    assert provenance["split"]["salt"] == asked.salt
    assert provenance["data"]["digest"] == made.data_digest
    assert provenance["rows"] == {"train": made.rows_train, "test": made.rows_test}


def test_the_metrics_hold_every_setting(trained):
    asked, _, directory, made = trained
    metrics = artifact.read_json(directory, artifact.METRICS)
    assert len(metrics["candidates"]) == len(settings(asked.training))
    best = metrics["candidates"][metrics["chosen"]]
    sign = 1 if CATALOGUE.metrics[metrics["metric"]].greater_is_better else -1
    assert best["mean"] * sign == max(item["mean"] * sign for item in metrics["candidates"] if "mean" in item)
    assert train_result(made, "s3://x")["candidate"]["cvScore"] == best["mean"]


SCRIPT = """
import sys
from solera_trainer.machine import one_thread_each
one_thread_each()
import numpy as np
from trainer_cases import CATALOGUE, problem, table
from solera_trainer.training import train
from pathlib import Path
raw = table(150)
order = np.random.default_rng(int(sys.argv[1])).permutation(raw.num_rows)
candidates = [
    {"name": "forest", "estimator": "sklearn.ensemble.RandomForestClassifier", "params": {"n_estimators": 10}},
    {"name": "boost", "estimator": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {"max_iter": 5}},
    {"name": "logistic", "estimator": "sklearn.linear_model.LogisticRegression"},
    {"name": "net", "estimator": "sklearn.neural_network.MLPClassifier", "params": {"max_iter": 5}},
]
part = {"columns": ["id"], "steps": [{"transformer": "sklearn.feature_extraction.text.TfidfVectorizer",
        "params": {"stop_words": "english"}}]}
for candidate in candidates:
    asked = problem(candidates=[candidate], data={"split": {"seed": 1}}, preprocessing=[part] if
                    candidate["name"] in {"forest", "logistic"} else None)
    made = train(asked, CATALOGUE, raw.take(order), Path(sys.argv[2]), cpus=int(sys.argv[3]), images={})
    print(candidate["name"], made.manifest.digest)
"""


def test_two_processes_make_the_same_artifact(tmp_path):
    """Other hash seeds, memory contents, numbers of CPUs and orders of rows: the same bytes."""
    seen = []
    for number, (seed, filler, cpus) in enumerate([("1", "17", "1"), ("2", "203", "2")]):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "MALLOC_PERTURB_": filler}
        environment["PYTHONPATH"] = str(Path(__file__).parent)
        command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(number), str(tmp_path / seed), cpus]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        seen.append(done.stdout)
    assert seen[0] == seen[1]
    assert len(set(seen[0].split())) == 8, "different candidates have different digests"


def test_every_input_is_in_the_digest(tmp_path):
    raw = table(150)
    base = {"data": {"split": {"seed": 1}}}
    variants = [
        problem(**base),
        problem(seed=1, **base),
        problem(data={"split": {"seed": 2}}),
        problem(data={"split": {"seed": 1, "testPercent": 30}}),
        problem(candidates=[{"name": "x", "estimator": "sklearn.naive_bayes.GaussianNB"}], **base),
    ]
    digests = [train(p, CATALOGUE, raw, tmp_path / "a", cpus=1, images={}).manifest.digest for p in variants]
    digests.append(
        train(variants[0], CATALOGUE, raw, tmp_path / "a", cpus=1, images={"trainer": "x"}).manifest.digest
    )
    digests.append(
        train(variants[0], CATALOGUE, raw.slice(1), tmp_path / "a", cpus=1, images={}).manifest.digest
    )
    assert len(set(digests)) == len(digests)
    again = train(variants[0], CATALOGUE, raw, tmp_path / "a", cpus=1, images={})
    assert again.manifest.digest == digests[0]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a problem, its data and a directory with its artifact, to be tampered with in copies."""
    asked, raw = problem(data={"columns": [{"name": "number", "type": "Float"}]}), table(150)
    directory = tmp_path_factory.mktemp("small") / "artifact"
    made = train(asked, CATALOGUE, raw, directory, cpus=1, images={})
    return asked, raw, directory, made.training_rows


def test_data_that_changed_since_is_said(small):
    asked, raw, directory, rows = small
    grown = pa.concat_tables([raw, table(50, seed=9)])
    digest = artifact.verify(directory).digest
    evaluated = evaluate(asked, CATALOGUE, grown, directory, digest, training_rows=rows)
    result = evaluate_result(evaluated, "0a1b2c3d")
    assert result["dataDigest"] == evaluated.data_digest != evaluated.trained_on
    side = prepare(asked, grown)
    twins = int(np.isnan(side.columns["number"][side.test]).sum())
    assert result["overlap"] == twins > 0, "rows with no number and the same class look alike"


def test_no_gate_is_not_passed(small):
    asked, raw, directory, rows = small
    assert not evaluate(
        asked, CATALOGUE, raw, directory, artifact.verify(directory).digest, training_rows=rows
    ).passed


def test_another_split_is_refused(small):
    """Its held-out rows would have been trained on."""
    _, raw, directory, rows = small
    columns = [{"name": "number", "type": "Float"}]
    for split in ({"seed": 9}, {"testPercent": 40}, {"column": "id"}, {"method": "Random"}):
        other = problem(data={"columns": columns, "split": split})
        with pytest.raises(ArtifactCorrupt, match="trained with another split"):
            evaluate(other, CATALOGUE, raw, directory, artifact.verify(directory).digest, training_rows=rows)


def forged(directory, tmp_path, change):
    """Return a copy of the artifact with another model.skops, under a right digest."""
    for name in artifact.REQUIRED:
        (tmp_path / name).write_bytes((directory / name).read_bytes())
    with zipfile.ZipFile(directory / artifact.MODEL) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(tmp_path / artifact.MODEL, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return artifact.write_manifest(tmp_path).digest


class Exploit:
    def __reduce__(self):
        return (os.system, ("touch /tmp/solera-exploited",))


def retype(module, name):
    def change(members):
        schema = json.loads(members["schema.json"])
        schema["__module__"], schema["__class__"] = module, name
        members["schema.json"] = json.dumps(schema).encode()

    return change


def pickled_array(members):
    buffer = io.BytesIO()
    np.save(buffer, np.array([Exploit()], dtype=object), allow_pickle=True)
    for name in members:
        if name.endswith(".npy"):
            members[name] = buffer.getvalue()


def function_call(members):
    schema = json.loads(members["schema.json"])
    schema["content"] = {
        "__class__": "system",
        "__module__": "os",
        "__loader__": "FunctionNode",
        "__id__": 1,
        "content": {"module_path": "os", "function": "system"},
    }
    members["schema.json"] = json.dumps(schema).encode()


MALICIOUS = {
    "another type": (retype("subprocess", "Popen"), "may not consist of"),
    "a function": (function_call, "may not consist of"),
    "a pickled array": (pickled_array, "cannot be loaded"),
    "no schema": (lambda members: members.pop("schema.json"), "no schema.json"),
    "not json": (lambda members: members.update({"schema.json": b"{"}), "cannot be loaded"),
    "an old protocol": (
        lambda members: members.update(
            {"schema.json": members["schema.json"].replace(b'"protocol":2', b'"protocol":-1')}
        ),
        "cannot be loaded",
    ),
}


@pytest.mark.parametrize("case", MALICIOUS)
def test_a_malicious_model_is_refused(small, tmp_path, case):
    asked, raw, directory, rows = small
    change, message = MALICIOUS[case]
    digest = forged(directory, tmp_path, change)
    with pytest.raises(ArtifactCorrupt, match=message):
        evaluate(asked, CATALOGUE, raw, tmp_path, digest, training_rows=rows)
    assert not Path("/tmp/solera-exploited").exists()  # noqa: S108 - what the exploit would make


def test_a_plain_pickle_is_refused(tmp_path):
    path = tmp_path / "model.skops"
    path.write_bytes(pickle.dumps(Exploit()))
    with pytest.raises(ArtifactCorrupt, match="is not a skops file"):
        load_model(path)
    assert not Path("/tmp/solera-exploited").exists()  # noqa: S108 - what the exploit would make


def test_an_archive_that_unpacks_without_bound_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("solera_core.model_file.MAX_UNPACKED_BYTES", 10_000_000)
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b"{}")
        archive.writestr("1.npy", b"\0" * 20_000_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(ArtifactCorrupt, match="unpacks to more"):
        load_model(path)


@pytest.mark.parametrize("name", ["../1.npy", "a/1.npy", "/1.npy", "1.npy/", ".npy", "a b.npy"])
def test_an_archive_with_odd_members_is_refused(tmp_path, name):
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", b"{}")
        archive.writestr(name, b"x")
    with pytest.raises(ArtifactCorrupt, match="has a member with the name"):
        load_model(path)


def test_an_archive_with_compressed_or_encrypted_members_is_refused(tmp_path):
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b"{}")
    with pytest.raises(ArtifactCorrupt, match=r"the compressed member schema\.json"):
        load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", b"{}")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactCorrupt, match=r"the encrypted member schema\.json"):
        load_model(path)


CANNOT_FIT = [
    (
        {"candidates": [{"name": "nb", "estimator": "sklearn.naive_bayes.MultinomialNB"}]},
        "Negative values",
    ),
    (
        {
            "preprocessing": [
                {"columns": ["colour"], "steps": [{"transformer": "sklearn.preprocessing.StandardScaler"}]}
            ]
        },
        "could not convert string to float",
    ),
]


@pytest.mark.parametrize(("spec", "message"), CANNOT_FIT)
def test_what_cannot_be_fitted_says_why(spec, message, tmp_path):
    with pytest.raises(Failure, match=message) as raised:
        train(problem(**spec), CATALOGUE, table(), tmp_path, cpus=1, images={})
    assert raised.value.reason == Reason.FIT_FAILED


def test_one_candidate_that_fails_does_not_stop_the_others(tmp_path):
    candidates = [
        {"name": "nb", "estimator": "sklearn.naive_bayes.MultinomialNB"},
        {"name": "tree", "estimator": "sklearn.tree.DecisionTreeClassifier"},
    ]
    made = train(problem(candidates=candidates), CATALOGUE, table(), tmp_path / "a", cpus=1, images={})
    assert made.chosen.setting.candidate == "tree"
    first, second = artifact.read_json(tmp_path / "a", artifact.METRICS)["candidates"]
    assert "Negative values" in first["error"]
    assert "mean" in second


def test_a_feature_that_the_model_refuses_to_miss_is_not_nullable(tmp_path):
    parts = [{"columns": ["number"], "steps": [{"transformer": "sklearn.preprocessing.StandardScaler"}]}]
    columns = [{"name": "number", "type": "Float"}, {"name": "count", "type": "Integer"}]
    raw = table().set_column(0, "number", pa.array(np.random.default_rng(0).normal(size=200)))
    asked = problem(preprocessing=parts, data={"columns": columns})
    train(asked, CATALOGUE, raw, tmp_path / "a", cpus=1, images={})
    schema = Schema.from_json(artifact.read_json(tmp_path / "a", artifact.SCHEMA))
    assert [feature.nullable for feature in schema.features] == [False, True]


@pytest.mark.parametrize(
    ("split", "candidate"),
    [
        ({"method": "Group", "column": "count"}, "sklearn.tree.DecisionTreeClassifier"),
        ({"method": "Time", "column": "day"}, "sklearn.svm.LinearSVC"),
        ({"method": "Random", "column": "id"}, "sklearn.neighbors.KNeighborsClassifier"),
    ],
)
def test_every_split_method_trains_and_evaluates(split, candidate, tmp_path):
    asked = problem(data={"split": split}, candidates=[{"name": "x", "estimator": candidate}])
    made = train(asked, CATALOGUE, table(), tmp_path / "a", cpus=1, images={})
    evaluated = evaluate(
        asked, CATALOGUE, table(), tmp_path / "a", made.manifest.digest, training_rows=made.training_rows
    )
    assert evaluated.rows == made.rows_test


@pytest.mark.parametrize("task", ["Classification", "Regression"])
def test_categories_of_histogram_boosting_train_evaluate_and_compile(task, tmp_path):
    """What scikit-learn would call on the other features is not stored: nobody would trust it when loading."""
    kind = "Classifier" if task == "Classification" else "Regressor"
    candidate = {
        "name": "boosting",
        "estimator": f"sklearn.ensemble.HistGradientBoosting{kind}",
        "params": {"categorical_features": [1], "max_iter": 8},
    }
    keep = {"columnTypes": ["Float", "Integer"], "steps": [{"transformer": "sklearn.impute.SimpleImputer"}]}
    target = "y" if task == "Classification" else "value"
    asked = problem(task, {"target": target}, candidates=[candidate], preprocessing=[keep])
    made = train(asked, CATALOGUE, table(), tmp_path / "model", cpus=1, images={})
    evaluated = evaluate(
        asked,
        CATALOGUE,
        table(),
        tmp_path / "model",
        made.manifest.digest,
        training_rows=made.training_rows,
    )
    assert evaluated.rows == made.rows_test
    model = load_model(tmp_path / "model" / artifact.MODEL)[-1]
    assert model.is_categorical_.tolist()[:2] == [False, True]
    served = load(tmp_path / "model", made.manifest.digest).predictor
    assert (served.kind, served.reason) == ("compiled", None)


def test_random_search_draws_without_repetition_and_repeats_itself():
    search = {
        "method": "Random",
        "iterations": 7,
        "space": {"C": ["0.1", "1.0", "10.0"], "max_iter": [50, 100, 200]},
    }
    candidate = {"name": "x", "estimator": "sklearn.linear_model.LogisticRegression", "search": search}
    drawn = [setting.params for setting in settings(problem(candidates=[candidate]).training)]
    assert len({json.dumps(params, sort_keys=True) for params in drawn}) == 7
    assert drawn == [setting.params for setting in settings(problem(candidates=[candidate]).training)]


def test_a_random_search_over_more_combinations_than_64_bits_count():
    assert len(set(_distinct(16**16, 500, 0))) == 500
    assert _distinct(16**16, 5, 0) == _distinct(16**16, 5, 0) != _distinct(16**16, 5, 1)
    drawn = np.array(_distinct(2**100, 2000, 3), dtype=object) / 2**100
    assert abs(float(drawn.mean()) - 0.5) < 0.03
    assert max(_distinct(2**63, 64, 0)) < 2**63


def test_a_directory_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(Failure, match=r"holds thesis\.tex"):
        train(problem(), CATALOGUE, table(), tmp_path, cpus=1, images={})
    assert (tmp_path / "thesis.tex").exists()
