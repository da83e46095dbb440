"""What the command line may say, and what is said of one that is wrong."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from server_process import running, serve_arguments

from solera_core.failures import Failure, Reason
from solera_server.command_line import LIMIT_OPTIONS, parse

if TYPE_CHECKING:
    from pathlib import Path

    from server_artifacts import Trained


def refusal(*words: str) -> str:
    with pytest.raises(Failure) as caught:
        parse(list(words))
    assert caught.value.reason is Reason.BAD_SPEC
    return caught.value.message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("serve", "--model is missing; see solera-server serve --help."),
        ("", "--model is missing; see solera-server serve --help."),
        ("fetch --uri x", "--digest is missing; see solera-server fetch --help."),
        ("--modle iris", 'there is no option "--modle" (is it --model?); see solera-server serve --help.'),
        ("--model x --max-row=5", 'there is no option "--max-row" (is it --max-rows?)'),
        ("--model x --nothing-like-it", 'there is no option "--nothing-like-it"; see'),
        ("serve iris", '"iris" stands without an option, such as --model; see'),
        ("evaluate", '"evaluate" stands without an option'),
        ("fetch --url x", 'there is no option "--url" (is it --uri?); see solera-server fetch --help.'),
        ("--model", "--model: expected one argument; see"),
        ("--model x --workers abc", "--workers: write a whole number from 1 to "),
        ("--model x --workers 0", "--workers: write a whole number from 1 to "),
        ("--model x --workers 1000", '--workers: write a whole number from 1 to 128, not "1000"'),
        ("--model x --busy-poll 5000", '--busy-poll: write a whole number from 0 to 1000, not "5000"'),
        ("--model x --max-header-bytes 10", "--max-header-bytes: write a whole number from 1024 to 1048576"),
        ("--model x --max-body-bytes 0", "--max-body-bytes: write a whole number from 256 to 1073741824"),
        ("--model x --max-json-depth 100000", "--max-json-depth: write a whole number from 8 to 1000"),
        ("--model x --port 70000", '--port: write a whole number from 0 to 65535, not "70000"'),
        ("--model x --port http", '--port: write a whole number from 0 to 65535, not "http"'),
        ("--model x --max-body-bytes 1MiB", "--max-body-bytes: write a whole number from "),
        ("--model x --receive-timeout -1", "--receive-timeout: write seconds from 0.1 to "),
        ("--model x --drain-delay nan", "--drain-delay: write seconds from 0 to "),
        ("--model x --latency-thresholds abc", "--latency-thresholds: write seconds from "),
        ("--model x --counter-window x", '--counter-window: write a whole number from 10 to 3600, not "x"'),
        ("--model x --counter-window 70", "--counter-window: write seconds that divide a day"),
        ("--model x --version v/2", "--version: write 1 to 63 letters, digits, dots, dashes and underscores"),
        ("--model x --version " + "v" * 64, "a letter or digit first and last, not "),
        ("--model x --name -x", "--name: expected one argument"),
    ],
)
def test_a_wrong_word_is_named_with_what_is_right(words: str, message: str) -> None:
    found = refusal(*words.split())
    assert message in found
    assert found.endswith(" --help.")
    assert "\n" not in found


def test_a_long_word_is_not_repeated_in_whole() -> None:
    assert len(refusal("--model", "x", "--port", "9" * 100_000)) < 300
    assert len(refusal("--" + "x" * 100_000)) < 300


@pytest.mark.parametrize("version", ["v1", "1", "iris-v3", "sha256-8d3930347102", "V_1.0", "v" * 63])
def test_versions_that_may_be(version: str) -> None:
    assert parse(["--model", "x", "--version", version]).version_name == version


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for words in ("--version", "--help", "serve --help", "fetch --help", "--model x --help"):
        with pytest.raises(SystemExit) as caught:
            parse(words.split())
        assert caught.value.code == 0
        found[words] = capsys.readouterr().out
        assert "solera-server" in found[words]
    assert "solera-server --model build/iris" in found["--help"]
    assert found["--model x --help"] == found["serve --help"]


LOWEST = (
    "--max-body-bytes 256 --max-header-bytes 1024 --max-json-depth 8 --max-rows 1 --max-cells 1 --max-scores 1 "
    "--max-connections 1 --max-in-flight 1 --max-wait 0.1 --max-bodies-bytes 65536 --max-unread-bytes 65536 "
    "--receive-timeout 0.1 --idle-timeout 0.1 --connection-max-age 0.1"
)


async def test_with_the_lowest_limits_a_request_is_answered(iris: Trained) -> None:
    assert {word for word in LOWEST.split() if word.startswith("--")} == {flag for flag, *_ in LIMIT_OPTIONS}
    async with running(*serve_arguments(iris.directory, "--name", "iris", *LOWEST.split())) as server:
        body = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{await server.url()}/v1/models/iris:predict", json=body)
            assert answer.json() == {"predictions": ["setosa"]}
            described = (await client.get(f"{await server.management_url()}/readyz")).text
        assert described == "ok\n"


# Kubernetes' file for the last words of a container, wherever the test may write.
_LAST_WORDS = """
import sys
from functools import partial
from pathlib import Path
from solera_server import cli, termination

cli.report = partial(termination.report, path=sys.argv.pop(1))
sys.exit(cli.main())
"""


async def test_a_wrong_option_ends_the_process_as_any_failure_does(tmp_path: Path) -> None:
    words = tmp_path / "termination-log"
    words.touch()
    command = (sys.executable, "-c", _LAST_WORDS, str(words))
    async with running("--model", "x", "--worker", "2", command=command) as server:
        assert await server.exit_code() == 64
        [event] = server.events
    assert (event["level"], event["reason"], event["exit_code"]) == ("error", "BadSpec", 64)
    assert event["event"].startswith('there is no option "--worker" (is it --workers?)')
    message: dict[str, Any] = json.loads(words.read_text())
    assert message["failure"] == {"reason": "BadSpec", "message": event["event"]}
