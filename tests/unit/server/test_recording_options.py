from __future__ import annotations

import pytest

from solera_core.failures import Failure
from solera_server.arguments import Parser
from solera_server.recording_options import LogOptions, RecordingOptions, add_options, recording_options


def parsed(*arguments: str) -> RecordingOptions:
    parser = Parser()
    add_options(parser)
    return recording_options(parser.parse_args(arguments))


def test_nothing_but_counters_is_kept_by_default() -> None:
    assert parsed() == RecordingOptions()
    assert RecordingOptions().log is None
    assert RecordingOptions().receipt_keys is None


def test_every_option_arrives() -> None:
    found = parsed(
        "--counter-window", "60", "--counter-windows", "3", "--latency-thresholds", "0.1,2",
        "--unit-header", "X-User", "--receipt-keys", "keys", "--receipt-max-age", "3600",
        "--outcome-clip", "2.5", "--prediction-log", "s3://b/x", "--prediction-log-columns", "a, b,a",
        "--prediction-log-sample", "0.1", "--prediction-log-retention-days", "7",
        "--prediction-log-file-bytes", "2048", "--prediction-log-file-seconds", "1.5",
        "--prediction-log-format", "parquet",
    )  # fmt: skip
    log = LogOptions("s3://b/x", ("a", "b"), 0.1, 7, 2048, 1.5, "parquet")
    assert found.log == log
    assert (found.window_seconds, found.windows_kept, found.latency_thresholds) == (60, 3, (0.1, 2.0))
    assert (found.unit_header, found.receipt_max_age, found.outcome_clip) == ("X-User", 3600, 2.5)
    assert str(found.receipt_keys) == "keys"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--counter-window", "7"),
        ("--counter-window", "7201"),
        ("--counter-window", "86400"),
        ("--counter-windows", "0"),
        ("--latency-thresholds", "2,1"),
        ("--latency-thresholds", "1,1"),
        ("--latency-thresholds", "1,2,3,4,5,6,7,8,9"),
        ("--latency-thresholds", "x"),
        ("--unit-header", "Authorization"),
        ("--unit-header", "X-Request-Id"),
        ("--unit-header", "X-Forwarded-For"),
        ("--unit-header", "Connection"),
        ("--unit-header", "transfer-encoding"),
        ("--unit-header", "Inference-Header-Content-Length"),
        ("--unit-header", "X-Solera-Arm"),
        ("--unit-header", "x-solera-shadow"),
        ("--unit-header", "a b"),
        ("--receipt-max-age", "1"),
        ("--outcome-clip", "0"),
        ("--outcome-clip", "nan"),
        ("--prediction-log-sample", "1.1"),
        ("--prediction-log-retention-days", "0"),
        ("--prediction-log-format", "csv"),
    ],
)
def test_values_that_mean_nothing_are_refused(option: str, value: str) -> None:
    with pytest.raises(Failure, match=f"^{option}: (write|invalid choice)"):
        parsed(option, value)
