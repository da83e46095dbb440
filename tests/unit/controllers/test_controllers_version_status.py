"""What a Job's result makes of a version's status, however short it had to be and whatever it holds."""

import copy
from datetime import UTC, datetime

import pytest
from version_objects import DIGEST, TRAIN_RESULT, TRAINED, model, version

from solera_core.result import encode_message, parse_result
from solera_operator.controllers.version_status import desired_status
from solera_operator.domain.fingerprint import evaluation_id
from solera_operator.domain.lifecycle import Act, Step

NOW = datetime(2026, 1, 2, tzinfo=UTC)
METRICS = ("accuracy", "f1_macro", "precision_macro", "recall_macro")


def gates_of(count: int):
    return [
        {"metric": METRICS[n % 4], "min": f"0.{10 + n}", "judge": ("Estimate", "LowerBound")[n % 2]}
        for n in range(count)
    ]


def evaluation(gates, failed=()):
    judged = [
        {
            **gate,
            "value": 0.9812345678901234,
            "bound": 0.9712345678901234,
            "passed": n not in failed,
            "message": f"gate {n}: " + "x" * 90,
        }
        for n, gate in enumerate(gates)
    ]
    return {
        "kind": "evaluate",
        "ok": True,
        "digest": DIGEST,
        "metrics": [{"name": m, "value": 0.98, "lower": 0.97, "upper": 0.99} for m in METRICS],
        "gates": judged,
        "passed": not failed,
    }


def record(result, gates, act=Act.RECORD_EVALUATE, before=TRAINED):
    parent = model(gates=gates)
    evaluated = evaluation_id(parent.spec.gates or (), DIGEST) if before else ""
    return desired_status(version(before), parent, Step(act, result=result), evaluated, NOW)


@pytest.mark.parametrize("count", [1, 8, 15, 16, 24, 32])
@pytest.mark.parametrize("failed", [(), (0,)])
def test_every_number_of_gates_is_recorded_with_its_limits(count, failed):
    gates = gates_of(count)
    said = parse_result(encode_message(evaluation(gates, failed)))
    status, step = record(said, gates)
    assert step.act is Act.RECORD_EVALUATE
    assert [(g.metric, g.min, g.judge) for g in status.gates] == [
        (g["metric"], g["min"], g["judge"]) for g in gates
    ]
    assert [g.outcome == "Passed" for g in status.gates] == [n not in failed for n in range(count)]
    assert all((g.value, g.bound) == ("0.981235", "0.971235") for g in status.gates)
    assert status.verdict == ("Rejected" if failed else "Accepted")


def test_the_shortest_message_is_among_them():
    said = parse_result(encode_message(evaluation(gates_of(32))))
    assert "judge" not in said["gates"][0]


def without(result, *path):
    result = copy.deepcopy(result)
    part = result
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]
    return result


EVALUATED = evaluation(gates_of(2))
UNREADABLE = {
    "a gate without verdict": without(EVALUATED, "gates", 0, "passed"),
    "a gate too few": without(EVALUATED, "gates", 0),
    "another gate": {**EVALUATED, "gates": EVALUATED["gates"][::-1]},
    "a gate that is a number": {**EVALUATED, "gates": [1, 2]},
    "a value that is a word": {**EVALUATED, "metrics": [{"name": "accuracy", "value": "good"}]},
    "a metric without name": {**EVALUATED, "metrics": [{"value": 1}]},
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_an_evaluation_that_cannot_be_read_is_a_failure(what):
    status, step = record(UNREADABLE[what], gates_of(2))
    assert step.act is Act.RECORD_FAILURE
    assert status.last_failure.reason == "ResultUnreadable"
    assert status.verdict is None
    assert {c.type: c.reason for c in status.conditions}["Stalled"] == "ResultUnreadable"


@pytest.mark.parametrize(
    "result",
    [
        without(TRAIN_RESULT, "candidate", "cvMetric"),
        {**TRAIN_RESULT, "dataDigest": "md5:1"},
        {**TRAIN_RESULT, "rows": {"train": -1, "test": 2}},
        {**TRAIN_RESULT, "artifact": {**TRAIN_RESULT["artifact"], "sizeBytes": "many"}},
    ],
)
def test_a_training_that_cannot_be_read_is_a_failure(result):
    status, step = record(result, [], Act.RECORD_TRAIN, before=None)
    assert step.act is Act.RECORD_FAILURE
    assert status.last_failure.reason == "ResultUnreadable"
    assert status.artifact is None
    assert {c.type: c.reason for c in status.conditions}["Stalled"] == "ResultUnreadable"


def test_a_training_is_recorded():
    status, step = record(TRAIN_RESULT, [], Act.RECORD_TRAIN, before=None)
    assert step.act is Act.RECORD_TRAIN
    assert (status.artifact.digest, status.rows.train, status.candidate.cv_score) == (DIGEST, 120, "0.96")
