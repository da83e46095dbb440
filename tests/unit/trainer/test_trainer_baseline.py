import numpy as np
import pytest
from trainer_cases import CATALOGUE, problem, table

from solera_core import artifact
from solera_core.baseline import read_baseline
from solera_core.canonical import canonical_json
from solera_core.failures import ArtifactCorrupt
from solera_core.schema import Schema
from solera_trainer.baseline import outcome_clip
from solera_trainer.training import train


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("classifier")
    asked = problem(data={"columns": [{"name": name, "type": kind} for name, kind in COLUMNS.items()]})
    return directory, train(asked, CATALOGUE, table(400), directory, cpus=1, images={})


COLUMNS = {"number": "Float", "count": "Integer", "colour": "String", "flag": "Boolean", "day": "DateTime"}


def documents(directory):
    schema = Schema.from_json(artifact.read_json(directory, artifact.SCHEMA))
    return schema, artifact.read_json(directory, artifact.BASELINE)


def test_the_artifact_says_what_training_rows_and_predictions_looked_like(made):
    directory, trained = made
    schema, document = documents(directory)
    found = read_baseline(document, schema)
    assert found.rows == trained.rows_train
    assert found.held_out_rows == trained.rows_test
    assert list(found.features) == list(COLUMNS)
    for histogram in found.features.values():
        assert sum(histogram.counts) == trained.rows_train
    assert found.features["colour"].bins.categories
    assert set(found.features["colour"].bins.categories) == {"red", "green", "blue"}
    assert found.features["flag"].bins.edges == (1.0,)
    assert found.features["number"].counts[-1] > 0, "a tenth of the numbers is missing"
    assert 0 < found.features["flag"].mean < 1
    assert found.predictions["predict"].bins.categories == ("high", "low")
    assert sum(found.predictions["score"].counts) == trained.rows_test
    assert found.outcome_clip is None
    assert found.to_json() == document


def test_the_same_training_gives_the_same_baseline(made, tmp_path):
    directory, trained = made
    raw = table(400)
    asked = problem(data={"columns": [{"name": name, "type": kind} for name, kind in COLUMNS.items()]})
    shuffled = raw.take(np.random.default_rng(1).permutation(raw.num_rows))
    again = train(asked, CATALOGUE, shuffled, tmp_path, cpus=1, images={})
    assert (tmp_path / artifact.BASELINE).read_bytes() == (directory / artifact.BASELINE).read_bytes()
    assert again.manifest.digest == trained.manifest.digest


def test_a_regression_has_a_bound_for_errors(tmp_path):
    asked = problem(
        "Regression",
        data={"target": "value", "columns": [{"name": "number", "type": "Float"}]},
        preprocessing=None,
    )
    train(asked, CATALOGUE, table(400), tmp_path, cpus=1, images={})
    found = read_baseline(documents(tmp_path)[1], documents(tmp_path)[0])
    assert found.outcome_clip is not None
    assert found.outcome_clip > 0
    assert list(found.predictions) == ["predict"]


def test_the_bound_of_errors_is_a_power_of_two_above_ten_times_their_size():
    assert outcome_clip(np.array([1.0, -1.0, np.inf])) == 16.0
    assert outcome_clip(np.array([0.0, 0.0])) is None
    assert outcome_clip(np.array([])) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(formatVersion=2),
        lambda d: d.update(rows=-1),
        lambda d: d.update(more=1),
        lambda d: d["features"].pop(),
        lambda d: d["features"].reverse(),
        lambda d: d["features"][0]["counts"].append(0),
        lambda d: d["features"][0]["counts"].__setitem__(0, -1),
        lambda d: d["features"][0].update(mean="1"),
        lambda d: d["features"][2].update(bins={"edges": [1.0]}, counts=[0, 0, d["rows"]]),
        lambda d: d["predictions"].pop(0),
        lambda d: d.update(outcomeClip=0),
    ],
)
def test_a_damaged_baseline_is_refused(made, change):
    schema, document = documents(made[0])
    assert canonical_json(read_baseline(document, schema).to_json()) == canonical_json(document)
    change(document)
    with pytest.raises(ArtifactCorrupt, match=r"baseline\.json"):
        read_baseline(document, schema)
