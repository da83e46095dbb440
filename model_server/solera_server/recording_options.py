"""What is kept of predictions, as the command line says it."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from solera_core.failures import Failure, Reason
from solera_server.arguments import number, seconds, whole
from solera_server.known_heads import VARYING
from solera_server.message import LENGTH_HEADER, RECEIPT_HEADER
from solera_server.subjects import Names

_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
# Secrets, what differs from request to request of one and the same unit, and what decides how a request is
# read or counted: heads that differ in the unit alone are taken for one.
_RESERVED = frozenset(
    {
        *("authorization", "cookie", "host", "content-type", "content-encoding", "transfer-encoding"),
        *("connection", "keep-alive", "upgrade", "expect", "te", "trailer"),
        *(name.decode() for name in (LENGTH_HEADER, RECEIPT_HEADER, *Names(), *VARYING) if name is not None),
    }
)
_DAY = 86_400
_MAX_THRESHOLDS = 8
LOG_FORMATS = ("jsonl", "parquet")


@dataclass(frozen=True, slots=True)
class LogOptions:
    """
    ``columns`` are the features that are written (``*``: all), of which there are none by default;
    ``sample`` is the share of requests. Files are closed after ``file_bytes`` or ``file_seconds``, and may
    be deleted after ``retention_days``.
    """

    url: str
    columns: tuple[str, ...] = ()
    sample: float = 1.0
    retention_days: int = 30
    file_bytes: int = 8 * 1024 * 1024
    file_seconds: float = 300.0
    format: str = "jsonl"


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """
    What is kept. Times are seconds.

    ``receipt_keys`` is the directory of the keys: without it there are no receipts and no feedback.
    ``outcome_clip`` bounds the errors of a regression; without it the artifact's baseline says.
    """

    window_seconds: int = 300
    windows_kept: int = 12
    latency_thresholds: tuple[float, ...] = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
    unit_header: str | None = None
    receipt_keys: Path | None = None
    receipt_max_age: int = 7 * _DAY
    outcome_clip: float | None = None
    log: LogOptions | None = None


def add_options(serve: argparse.ArgumentParser) -> None:
    """Add the options to those of ``serve``."""
    default, group = RecordingOptions(), serve.add_argument_group("counters, receipts, prediction log")
    add = group.add_argument
    add(
        "--counter-window",
        type=_window,
        default=default.window_seconds,
        metavar="SECONDS",
        help="length of a window of counters; divides a day (%(default)s)",
    )
    add(
        "--counter-windows",
        type=whole(1, 288),
        default=default.windows_kept,
        help="closed windows that are kept (%(default)s)",
    )
    add(
        "--latency-thresholds",
        type=_thresholds,
        default=default.latency_thresholds,
        metavar="S,S,…",
        help="requests slower than each are counted, seconds (0.01,0.05,0.1,0.25,0.5,1)",
    )
    add("--unit-header", type=_header, help="request header that names the unit, such as X-User-Id")
    add(
        "--receipt-keys",
        type=Path,
        metavar="DIR",
        help="directory with the keys of receipts; without it there are no receipts and no feedback",
    )
    add(
        "--receipt-max-age",
        type=whole(60, 366 * _DAY),
        default=default.receipt_max_age,
        metavar="SECONDS",
        help="for how long labels are taken (%(default)s)",
    )
    add(
        "--outcome-clip",
        type=number(1e-300, 1e300),
        metavar="NUMBER",
        help="regression: larger errors count as this (default: of the artifact's baseline)",
    )
    _log_options(group)


def _log_options(group: argparse._ArgumentGroup) -> None:
    default, add = LogOptions(""), group.add_argument
    add(
        "--prediction-log", metavar="URL", help="where to log predictions: s3://bucket/prefix, or a directory"
    )
    add(
        "--prediction-log-columns",
        type=_names,
        metavar="NAME,…",
        help="features that are logged, * for all (default: none)",
    )
    add(
        "--prediction-log-sample",
        type=number(1e-6, 1.0),
        metavar="SHARE",
        help="share of requests that is logged (1)",
    )
    add(
        "--prediction-log-retention-days",
        type=whole(1, 3660),
        help=f"days after which files may be deleted ({default.retention_days})",
    )
    add(
        "--prediction-log-file-bytes",
        type=whole(1024, 64 * 1024 * 1024),
        help=f"size of a file at most ({default.file_bytes})",
    )
    add(
        "--prediction-log-file-seconds",
        type=seconds(0.5, _DAY),
        help=f"a file's records at most so old ({default.file_seconds:g})",
    )
    add("--prediction-log-format", choices=LOG_FORMATS, help=f"({default.format})")


def recording_options(given: argparse.Namespace) -> RecordingOptions:
    """
    Return what the command line says.

    Raises Failure (BadSpec) for an option without which another one means nothing.
    """
    fields = ("columns", "sample", "retention_days", "file_bytes", "file_seconds", "format")
    said = {field: getattr(given, f"prediction_log_{field}") for field in fields}
    said = {field: value for field, value in said.items() if value is not None}
    if given.prediction_log is None and said:
        option = next(iter(said)).replace("_", "-")
        raise Failure(Reason.BAD_SPEC, f"--prediction-log-{option}: add --prediction-log, or drop it.")
    if given.receipt_keys is None and given.outcome_clip is not None:
        raise Failure(Reason.BAD_SPEC, "--outcome-clip: add --receipt-keys, or drop it.")
    return RecordingOptions(
        window_seconds=given.counter_window,
        windows_kept=given.counter_windows,
        latency_thresholds=given.latency_thresholds,
        unit_header=given.unit_header,
        receipt_keys=given.receipt_keys,
        receipt_max_age=given.receipt_max_age,
        outcome_clip=given.outcome_clip,
        log=None if given.prediction_log is None else LogOptions(given.prediction_log, **said),
    )


def _window(text: str) -> int:
    value = whole(10, 3600)(text)
    if _DAY % value:
        raise argparse.ArgumentTypeError(
            f"write seconds that divide a day, such as 60, 300 or 900, not {value}"
        )
    return value


def _thresholds(text: str) -> tuple[float, ...]:
    values = tuple(map(seconds(1e-5, 3600), text.split(",")))
    if len(values) > _MAX_THRESHOLDS or list(values) != sorted(set(values)):
        raise argparse.ArgumentTypeError(f"write at most {_MAX_THRESHOLDS} ascending numbers of seconds")
    return values


def _header(text: str) -> str:
    if not _HEADER.fullmatch(text) or text.lower() in _RESERVED:
        raise argparse.ArgumentTypeError(
            "write a header of the unit's own: no secret, none that differs from request to request"
        )
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
