"""What a Job says when it ends: `result.json` in the store, the termination message, the last line of stdout.

Kubernetes keeps 4096 bytes of a termination message, so a message that would be longer is trimmed: first to
the metrics that gates name, then to shorter texts, then to the gates' verdicts in the spec's order. What
matters for decisions is never cut.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from solera_core.artifact import is_digest
from solera_core.canonical import canonical_json
from solera_core.failures import Failure, Reason

MAX_MESSAGE_BYTES = 4096
TERMINATION_LOG = "/dev/termination-log"
_MAX_TEXT = 1000


class BadResult(ValueError):  # noqa: N818 - names the document
    """A result or termination message is not one."""


def failure_result(kind: str, failure: Failure) -> dict[str, Any]:
    """Return the result of a Job (or of `server`) that failed."""
    return {"kind": kind, "ok": False, "failure": {"reason": str(failure.reason), "message": failure.message}}


def encode_message(result: Mapping[str, Any]) -> bytes:
    """Return the termination message of a result: one line of canonical JSON, at most 4096 bytes.

    What cannot be said in so few bytes becomes a failure that says so.
    """
    for shorten in (
        _as_it_is,
        _gated_metrics_only,
        _short_texts,
        _very_short_texts,
        _verdicts_only,
        _failed_verdicts_only,
    ):
        encoded = _line(shorten(dict(result)))
        if len(encoded) <= MAX_MESSAGE_BYTES:
            return encoded
    said = f"the result cannot be said in {MAX_MESSAGE_BYTES} bytes; the store has it"
    return _line(failure_result(str(result.get("kind"))[:40], Failure(Reason.INTERNAL_ERROR, said)))


def _line(value: Any) -> bytes:
    """Return canonical JSON, with a question mark for what UTF-8 cannot say: halves of pairs."""
    try:
        return canonical_json(value)
    except UnicodeEncodeError:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode(errors="replace") + b"\n"


def parse_result(text: str | bytes) -> dict[str, Any]:
    """Read a result or termination message and check what decisions are made on.

    Raises BadResult: the text comes from a container, which may have been killed in the middle of it.
    """
    try:
        result = json.loads(text)
    except ValueError as error:
        raise BadResult(f"not JSON: {error}") from error
    if (
        not isinstance(result, dict)
        or not isinstance(result.get("kind"), str)
        or type(result.get("ok")) is not bool
    ):
        raise BadResult("not an object with kind and ok")
    if not result["ok"]:
        _check_failure(result.get("failure"))
    elif result["kind"] == "train":
        _check_train(result)
    elif result["kind"] == "evaluate":
        _check_evaluate(result)
    return result


def _check_failure(failure: Any) -> None:
    if not isinstance(failure, dict) or not isinstance(failure.get("message"), str):
        raise BadResult("a failure without message")
    if failure.get("reason") not in set(Reason):
        raise BadResult(f"a failure with the unknown reason {failure.get('reason')!r}")


def _check_train(result: Mapping[str, Any]) -> None:
    artifact, rows = result.get("artifact"), result.get("rows")
    if not isinstance(artifact, dict) or not isinstance(artifact.get("uri"), str):
        raise BadResult("artifact.uri is missing")
    if not isinstance(artifact.get("digest"), str) or not is_digest(artifact["digest"]):
        raise BadResult("artifact.digest is missing or no digest")
    if not isinstance(rows, dict) or type(rows.get("train")) is not int or type(rows.get("test")) is not int:
        raise BadResult("rows.train and rows.test are missing")
    if not isinstance(result.get("candidate"), dict):
        raise BadResult("candidate is missing")


def _check_evaluate(result: Mapping[str, Any]) -> None:
    if not isinstance(result.get("digest"), str) or not is_digest(result["digest"]):
        raise BadResult("digest is missing or no digest")
    if type(result.get("passed")) is not bool:
        raise BadResult("passed is missing")
    for name in ("metrics", "gates"):
        if not isinstance(result.get(name), list):
            raise BadResult(f"{name} is missing")


def _as_it_is(result: dict[str, Any]) -> dict[str, Any]:
    return result


def _gated_metrics_only(result: dict[str, Any]) -> dict[str, Any]:
    if "metrics" in result:
        named = {gate["metric"] for gate in result.get("gates", ())}
        result["metrics"] = [metric for metric in result["metrics"] if metric["name"] in named]
    return result


def _short_texts(result: dict[str, Any], limit: int = _MAX_TEXT) -> dict[str, Any]:
    result = _gated_metrics_only(result)
    result = {name: _cut(value, limit) for name, value in result.items()}
    if "gates" in result:
        result["gates"] = [{**gate, "message": _cut(gate.get("message", ""), 80)} for gate in result["gates"]]
    if isinstance(result.get("failure"), dict):
        result["failure"] = {**result["failure"], "message": _cut(result["failure"]["message"], limit)}
    return result


def _very_short_texts(result: dict[str, Any]) -> dict[str, Any]:
    """Leave out parameters and the gates' own texts: status makes texts from the numbers."""
    result = _short_texts(result, 400)
    if "gates" in result:
        result["gates"] = [{k: v for k, v in gate.items() if k != "message"} for gate in result["gates"]]
    if isinstance(result.get("candidate"), dict):
        result["candidate"] = {k: v for k, v in result["candidate"].items() if k != "params"}
    return result


def _verdicts_only(result: dict[str, Any]) -> dict[str, Any]:
    """Leave the gates' verdicts and six digits of their numbers, in the spec's order; the spec has their
    limits.
    """
    result = _very_short_texts(result)
    if "gates" in result:
        result["gates"] = [
            {
                "metric": gate.get("metric"),
                "value": _six_digits(gate.get("value")),
                "bound": _six_digits(gate.get("bound")),
                "passed": gate.get("passed"),
            }
            for gate in result["gates"]
        ]
        result["metrics"] = []
    return result


def _failed_verdicts_only(result: dict[str, Any]) -> dict[str, Any]:
    """Leave the gates that did not pass, each with its place in the spec, counted from 0."""
    result = _verdicts_only(result)
    if "gates" in result:
        result["gates"] = [
            {**gate, "index": index} for index, gate in enumerate(result["gates"]) if not gate["passed"]
        ]
    return result


def _six_digits(number: Any) -> Any:
    return float(f"{number:.6g}") if isinstance(number, float) else number


def _cut(value: Any, limit: int) -> Any:
    return value[: limit - 3] + "..." if isinstance(value, str) and len(value) > limit else value
