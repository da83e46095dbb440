import json
from pathlib import Path

import pytest
import yaml

from solera_core import artifact
from solera_trainer.cli import main

EXAMPLES = Path(__file__).parents[3] / "examples"


def spec(**changes):
    document = yaml.safe_load((EXAMPLES / "iris.yaml").read_text())
    training = document["spec"]["training"]
    training["candidates"] = [{"name": "nb", "estimator": "sklearn.naive_bayes.GaussianNB"}]
    for path, value in changes.items():
        *way, last = path.split("__")
        node = document
        for part in way:
            node = node[part]
        node[last] = value
    return document


def run(tmp_path, document, *more):
    path = tmp_path / "model.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return main(["--spec", str(path), "--out", str(tmp_path / "out"), *more])


def test_it_trains_and_says_what_came_of_it(tmp_path, capsys):
    assert run(tmp_path, spec()) == 0
    out = capsys.readouterr().out
    digest = artifact.verify(tmp_path / "out").digest
    for words in (digest, "98 to train on, 52 held out", "passed  accuracy", "solera-server --model", "* nb"):
        assert words in out, out
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["artifact"]["digest"] == digest
    assert result["evaluation"]["passed"]
    assert run(tmp_path, spec()) == 0, "again over the first"


def test_a_gate_that_does_not_pass_is_an_exit_code(tmp_path, capsys):
    assert run(tmp_path, spec(spec__gates=[{"metric": "accuracy", "min": "0.99"}])) == 1
    assert "FAILED  accuracy" in capsys.readouterr().out


def test_no_gate_is_said(tmp_path, capsys):
    document = spec()
    del document["spec"]["gates"]
    assert run(tmp_path, document) == 0
    assert "gates: none" in capsys.readouterr().out


def test_plain_files(tmp_path, capsys):
    penguins = yaml.safe_load((EXAMPLES / "penguins.yaml").read_text())
    penguins["spec"]["training"]["candidates"] = [
        {"name": "nb", "estimator": "sklearn.naive_bayes.GaussianNB"}
    ]
    data = str(EXAMPLES / "data" / "penguins.csv")
    assert run(tmp_path, penguins, "--data", data) in {0, 1}
    assert run(tmp_path, penguins, "--data", data.replace("penguins", "pengiuns")) == 65
    assert 'Did you mean "penguins.csv"?' in capsys.readouterr().err


def test_a_class_called_na_is_said_to_be_left_out(tmp_path, capsys):
    rows = [f"{index % 7},{('NA', 'US', 'EU')[index % 3]}" for index in range(300)]
    (tmp_path / "x.csv").write_text("\n".join(["a,species", *rows]) + "\n")
    run(tmp_path, spec(spec__gates=[{"metric": "accuracy", "min": "0"}]), "--data", str(tmp_path / "x.csv"))
    assert "left out: 100 rows without a value of species" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "result.json").read_text())["rowsWithoutTarget"] == 100


WRONG = [
    (spec(spec__training__data__target="specis"), 65, 'Did you mean "species"?'),
    (spec(spec__training__data__uri="s4://x"), 64, "spec.training.data.uri"),
    (spec(spec__task="Ranking"), 64, "spec.task"),
    (spec(kind="Deployment"), 64, "write kind: TrainedModel"),
    (spec(spec__training__candidates=[{"name": "x", "estimator": "sklearn.svm.SCV"}]), 64, "SVC"),
    ("a: [", 64, "cannot be read"),
    ("", 64, "write a TrainedModel"),
    ("!!python/object/apply:os.system ['true']", 64, "cannot be read"),
    (yaml.safe_dump_all([spec(), spec()]), 64, "holds 2 TrainedModels"),
]


@pytest.mark.parametrize(("document", "code", "message"), WRONG)
def test_what_is_wrong_is_said_and_has_a_code(tmp_path, capsys, document, code, message):
    assert run(tmp_path, document) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_missing_spec(tmp_path, capsys):
    assert main(["--spec", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "out")]) == 64
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_valid_spec(path):
    from solera_core.catalogue import load
    from solera_core.spec import Invalid, parse_manifest
    from solera_core.training_check import check_training

    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] != "TrainedModel":
            continue
        parsed = parse_manifest(document)
        assert not isinstance(parsed, Invalid), str(parsed)
        learned = parsed[1]
        gates = [gate.document() for gate in learned.gates or ()]
        assert check_training(load(), learned.task.value, learned.training.document(), gates) == []
