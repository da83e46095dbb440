import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solera_core.failures import EXIT_CODES, RETRIED_EXIT_CODES, Failure, Reason
from solera_core.result import MAX_MESSAGE_BYTES, BadResult, encode_message, failure_result, parse_result

DIGEST = "sha256:" + "0" * 64


def train(**changes):
    return {
        "kind": "train",
        "ok": True,
        "artifact": {"uri": "s3://x/y", "digest": DIGEST, "sizeBytes": 1},
        "candidate": {"name": "a", "estimator": "b", "params": {}},
        "dataDigest": DIGEST,
        "schemaDigest": DIGEST,
        "rows": {"train": 1, "test": 1},
        **changes,
    }


def evaluation(metrics=3, text=""):
    names = [f"metric_{number}" for number in range(metrics)]
    return {
        "kind": "evaluate",
        "ok": True,
        "evaluation": "0a1b2c3d",
        "digest": DIGEST,
        "metrics": [{"name": n, "value": 0.123456789012, "lower": 0.1, "upper": 0.2} for n in names],
        "gates": [{"metric": names[0], "passed": True, "value": 0.5, "bound": 0.4, "message": text}],
        "passed": True,
    }


def test_a_short_result_is_said_as_it_is():
    for result in (train(), evaluation()):
        message = encode_message(result)
        assert json.loads(message) == result
        assert parse_result(message) == result
        assert message.count(b"\n") == 1


def test_metrics_that_no_gate_names_are_left_out_first():
    message = json.loads(encode_message(evaluation(metrics=200)))
    assert [metric["name"] for metric in message["metrics"]] == ["metric_0"]
    assert message["gates"][0]["message"] == ""


@given(st.text(max_size=9000), st.integers(1, 300))
def test_every_message_fits_and_keeps_what_decides(text, metrics):
    for result in (
        evaluation(metrics, text),
        train(candidate={"name": "a", "estimator": "b", "params": {"p": text}}),
        failure_result("train", Failure(Reason.BAD_SPEC, text)),
    ):
        message = encode_message(result)
        assert len(message) <= MAX_MESSAGE_BYTES
        said = parse_result(message)
        for name in ("kind", "ok", "passed", "digest", "artifact", "rows"):
            assert said.get(name) == result.get(name)
        assert [gate["passed"] for gate in said.get("gates", [])] == [
            g["passed"] for g in result.get("gates", [])
        ]


def test_thirty_two_gates_fit():
    result = evaluation(metrics=30)
    gate = {"metric": "metric_1", "min": "0.123456789012", "max": "0.999999999999", "judge": "LowerBound"}
    gate |= {
        "value": 0.12345678901234567,
        "bound": 0.12345678901234567,
        "passed": False,
        "message": "x" * 300,
    }
    result["gates"] = [gate] * 32
    said = parse_result(encode_message(result))
    assert len(said["gates"]) == 32


LONGEST = "mean_absolute_percentage_error"


def gates(count, *, passed=False):
    gate = {"metric": LONGEST, "min": "0.123456789012", "max": None, "judge": "LowerBound"}
    gate |= {"value": -1.2345678901234567e-05, "bound": -1.2345678901234567e-05, "message": "x" * 200}
    return [{**gate, "passed": passed} for _ in range(count)]


def test_thirty_two_gates_of_the_longest_metric_keep_their_order():
    result = {**evaluation(), "dataDigest": DIGEST, "rows": 10**6, "overlap": 0, "passed": False}
    result["gates"] = gates(32)
    result["gates"][5] |= {"passed": True, "value": 0.123456789}
    said = parse_result(encode_message(result))["gates"]
    short = {"metric": LONGEST, "value": -1.23457e-05, "bound": -1.23457e-05, "passed": False}
    assert said == [short] * 5 + [{**short, "passed": True, "value": 0.123457}] + [short] * 26


def test_too_many_gates_are_those_that_failed_with_their_places():
    result = {**evaluation(), "passed": False}
    result["gates"] = [*gates(60, passed=True), *gates(2)]
    said = parse_result(encode_message(result))["gates"]
    assert [gate["index"] for gate in said] == [60, 61]


def test_what_cannot_be_said_is_a_failure():
    said = parse_result(encode_message({**evaluation(), "gates": gates(300)}))
    assert said["failure"]["reason"] == "InternalError"


def test_half_characters_and_control_characters_are_said():
    for text in ("column \ud800", "\ud800" * 9000, "\x01" * 9000):
        message = encode_message(failure_result("train", Failure(Reason.DATA_UNREADABLE, text)))
        assert len(message) <= MAX_MESSAGE_BYTES
        assert parse_result(message)["failure"]["reason"] == "DataUnreadable"


WRONG = [
    b"",
    b"{",
    b"null",
    b'"x"',
    b"[]",
    b"{}",
    b'{"kind":"train","ok":"yes"}',
    b'{"kind":"train","ok":true}',
    json.dumps(train(artifact={"uri": "x", "digest": "latest"})).encode(),
    json.dumps(train(rows={"train": "1", "test": 1})).encode(),
    json.dumps({**evaluation(), "passed": "yes"}).encode(),
    json.dumps({**evaluation(), "digest": None}).encode(),
    b'{"kind":"train","ok":false}',
    b'{"kind":"train","ok":false,"failure":{"reason":"Whatever","message":"x"}}',
    b'{"kind":"train","ok":false,"failure":{"reason":"BadSpec"}}',
    encode_message(train())[:-20],
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_result_is_refused(text):
    with pytest.raises(BadResult):
        parse_result(text)


def test_every_reason_has_an_exit_code():
    assert set(EXIT_CODES) == set(Reason)
    retried = {reason for reason in Reason if EXIT_CODES[reason] in RETRIED_EXIT_CODES}
    assert retried >= {
        Reason.STORE_UNAVAILABLE,
        Reason.INTERNAL_ERROR,
        Reason.INTERRUPTED,
        Reason.RESULT_NOT_FOUND,
    }
    assert not retried & {Reason.BAD_SPEC, Reason.BAD_PARAMETER, Reason.TOO_FEW_ROWS, Reason.STORE_DENIED}
