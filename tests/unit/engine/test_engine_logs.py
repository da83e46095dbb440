"""Logs: one JSON object a line, from structlog and the standard library alike."""

import io
import logging
from collections.abc import Iterator

import orjson
import pytest
import structlog

from solera_operator.engine import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], _ = before
    root.setLevel(before[1])
    structlog.reset_defaults()


def test_every_line_is_json_with_its_context():
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    with structlog.contextvars.bound_contextvars(controller="model", name="iris"):
        structlog.get_logger("solera_operator.test").info("promoted", version="iris-v2")
        logging.getLogger("elsewhere").warning("watch %s", "broke", extra={"attempt": 3})
    structlog.get_logger("solera_operator.test").debug("not at this level")
    try:
        token = "never shown"
        int(token)
    except ValueError:
        structlog.get_logger("solera_operator.test").exception("failed")
    lines = [orjson.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["promoted", "watch broke", "failed"]
    assert lines[0]["version"] == "iris-v2"
    assert all(line["controller"] == "model" and line["name"] == "iris" for line in lines[:2])
    assert lines[1]["level"] == "warning"
    assert lines[0]["timestamp"].endswith("Z")
    assert lines[2]["exception"][0]["exc_type"] == "ValueError"
    assert "locals" not in lines[2]["exception"][0]["frames"][0]


def test_libraries_are_quiet_but_at_debug():
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    logging.getLogger("kopf.reactor").info("starting")
    logging.getLogger("kopf.reactor").warning("matters")
    assert [orjson.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["matters"]
    logs.configure("debug", "json", stream)
    logging.getLogger("kopf.reactor").info("now heard")
    assert "now heard" in stream.getvalue()


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="write debug, info, warning or error"):
        logs.configure("loud")
