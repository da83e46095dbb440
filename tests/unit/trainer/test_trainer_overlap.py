"""Held-out rows are rows that were not trained on, also when the data has been rewritten since."""

import numpy as np
import pyarrow as pa
import pytest
from trainer_cases import CATALOGUE, problem, table

from solera_core.canonical import sha256_digest
from solera_core.failures import ArtifactCorrupt, Failure, Reason
from solera_trainer.dataset import prepare
from solera_trainer.evaluation import evaluate, evaluate_result, overlap
from solera_trainer.training import train
from solera_trainer.training_rows import TrainingRows, content_hashes, most_bytes

NEIGHBOUR = {
    "name": "nn",
    "estimator": "sklearn.neighbors.KNeighborsClassifier",
    "params": {"n_neighbors": 1},
}
MEMORY = {"candidates": [NEIGHBOUR], "gates": [{"metric": "accuracy", "min": "0.7"}]}


def noise(rows=600):
    """Return features that say nothing about the target: only a row that was seen is answered rightly."""
    random = np.random.default_rng(0)
    columns = {name: random.normal(size=rows) for name in "abc"}
    return pa.table(
        {
            **columns,
            "id": [f"k{index}" for index in range(rows)],
            "y": [str(value) for value in random.integers(0, 2, rows)],
        }
    )


REWRITTEN = {
    "a column more": lambda raw: raw.append_column("loaded_at", pa.array(["2026-01-01"] * raw.num_rows)),
    "a column less": lambda raw: raw.drop_columns(["id"]),
    "less precision": lambda raw: raw.set_column(0, "a", raw["a"].cast(pa.float32())),
}
NUMBERS = [{"name": name, "type": "Float"} for name in "abc"]


@pytest.mark.parametrize("case", REWRITTEN)
def test_rewritten_data_is_refused_without_a_key(case, tmp_path):
    asked, raw = problem(data={"columns": NUMBERS}, **MEMORY), noise()
    made = train(asked, CATALOGUE, raw, tmp_path / "a", cpus=1, images={})
    judged = evaluate(
        asked, CATALOGUE, raw, tmp_path / "a", made.manifest.digest, training_rows=made.training_rows
    )
    assert (judged.passed, judged.overlap) == (False, 0)
    rewritten = REWRITTEN[case](raw)
    with pytest.raises(Failure, match="not written as when the version was trained") as raised:
        evaluate(
            asked,
            CATALOGUE,
            rewritten,
            tmp_path / "a",
            made.manifest.digest,
            training_rows=made.training_rows,
        )
    assert (raised.value.reason, raised.value.exit_code) == (Reason.SPLIT_CHANGED, 65)
    later = prepare(asked, rewritten)
    seen = TrainingRows.decode(made.training_rows, sha256_digest(made.training_rows))
    assert overlap(asked, later, seen) > 0.5 * later.test.sum(), "what the refusal is for"


def test_with_a_key_columns_may_come_and_go(tmp_path):
    asked = problem(data={"columns": NUMBERS, "split": {"column": "id"}}, **MEMORY)
    raw = noise()
    made = train(asked, CATALOGUE, raw, tmp_path / "a", cpus=1, images={})
    for case in ("a column more", "less precision"):
        judged = evaluate(
            asked,
            CATALOGUE,
            REWRITTEN[case](raw),
            tmp_path / "a",
            made.manifest.digest,
            training_rows=made.training_rows,
        )
        assert (judged.passed, judged.overlap) == (False, 0)
        assert judged.rows == made.rows_test
        assert evaluate_result(judged, "0a1b2c3d")["overlap"] == 0
    codes = raw.set_column(3, "id", pa.array(range(raw.num_rows)))
    with pytest.raises(Failure, match=r"id was text, is number\), so that .*\. Train a new version\.$"):
        evaluate(
            asked, CATALOGUE, codes, tmp_path / "a", made.manifest.digest, training_rows=made.training_rows
        )


def test_a_key_that_was_trained_on_fails():
    asked = problem(data={"split": {"column": "id"}})
    dataset = prepare(asked, table())
    with pytest.raises(Failure, match="held-out rows were trained on") as raised:
        overlap(asked, dataset, TrainingRows.of(dataset.keys[dataset.test][:3], dataset.contents[:0]))
    assert raised.value.reason == Reason.SPLIT_CHANGED
    assert overlap(asked, dataset, dataset.training_rows()) == 0


def test_equal_rows_lie_on_one_side(tmp_path):
    raw = pa.concat_tables([noise(300)] * 2)
    asked = problem(**MEMORY)
    made = train(asked, CATALOGUE, raw, tmp_path / "a", cpus=1, images={})
    judged = evaluate(
        asked, CATALOGUE, raw, tmp_path / "a", made.manifest.digest, training_rows=made.training_rows
    )
    assert judged.overlap == 0


def test_the_file_is_the_rows_own(tmp_path):
    dataset = prepare(problem(), table())
    rows = dataset.training_rows()
    data = rows.encode()
    again = TrainingRows.decode(data, sha256_digest(data))
    assert np.array_equal(again.keys, rows.keys)
    assert np.array_equal(again.contents, rows.contents)
    assert len(data) <= most_bytes(int((~dataset.test).sum()))
    assert prepare(problem(), table().take(list(range(199, -1, -1)))).training_rows().encode() == data
    for wrong in (data[:-8], b"x" + data[1:], b"", b"x" * 32):
        with pytest.raises(ArtifactCorrupt):
            TrainingRows.decode(wrong, sha256_digest(data))
        with pytest.raises(ArtifactCorrupt):
            TrainingRows.decode(wrong, sha256_digest(wrong))


def test_contents_do_not_depend_on_precision_or_zero():
    salt = problem().salt
    values = np.array([0.1, -0.0, np.nan, 1e30])
    words = np.array(["a", np.nan, "b", "a"], dtype=object)
    target = np.array([0, 1, 0, 1])
    one = content_hashes({"n": values, "w": words}, target, salt)
    low = values.astype(np.float32).astype(np.float64) + 0.0
    assert np.array_equal(one, content_hashes({"w": words, "n": low}, target.astype(float), salt))
    assert len(np.unique(one)) == 4
