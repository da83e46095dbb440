"""The options of ``solera-server serve`` and ``solera-server fetch``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from solera_server import __version__
from solera_server.arguments import Parser, name, seconds, whole
from solera_server.limits import Limits
from solera_server.recording_options import add_options

MOST_WORKERS = 128
"""Each is a process: more of them than CPUs of any machine only keep it from serving."""
_LONG = 1e9
_TIME = seconds(0.1, _LONG)
_BYTES = whole(2**16, 2**40)
_DEFAULTS = Limits()
# The lowest values leave room for a request of one row, and for its answer.
LIMIT_OPTIONS = (
    ("--max-body-bytes", "body_bytes", whole(256, 2**30), "largest request body, bytes"),
    ("--max-header-bytes", "header_bytes", whole(1024, 2**20), "largest request head, bytes"),
    ("--max-json-depth", "json_depth", whole(8, 1000), "deepest nesting of JSON"),
    ("--max-rows", "rows", whole(1, 10**9), "rows of a request"),
    ("--max-cells", "cells", whole(1, 10**9), "rows times features of a request"),
    ("--max-scores", "scores", whole(1, 10**9), "rows times classes of a request"),
    ("--max-connections", "connections", whole(1, 10**6), "connections open at a time, for each port"),
    ("--max-in-flight", "in_flight", whole(1, 10**6), "predictions that wait or run; beyond that 503"),
    ("--max-wait", "wait_seconds", _TIME, "seconds that a prediction may wait by estimate; beyond that 503"),
    ("--max-bodies-bytes", "bodies_bytes", _BYTES, "bodies of all requests that arrive or wait, bytes"),
    ("--max-unread-bytes", "unread_bytes", _BYTES, "answers that clients have not taken, in all, bytes"),
    ("--receive-timeout", "receive_seconds", _TIME, "seconds in which a request must arrive"),
    ("--idle-timeout", "idle_seconds", _TIME, "seconds after which an idle connection is closed"),
    ("--connection-max-age", "connection_age_seconds", _TIME, "seconds after which a connection is ended"),
)
_EXAMPLES = """\
examples:
  solera-server --model build/iris               serve a model on this machine, at http://127.0.0.1:8080
  solera-server --model s3://bucket/…/sha256-…   serve it straight from a store
  solera-server serve --help                     all options of serving
"""


def parse(words: list[str]) -> argparse.Namespace:
    """
    Return what the command line says; without a command it is ``serve``.

    Raises Failure (BadSpec); SystemExit after --help and --version.
    """
    if words not in (["--version"], ["--help"], ["-h"]) and words[:1] not in (["serve"], ["fetch"]):
        words = ["serve", *words]
    parser = Parser(
        prog="solera-server",
        description="Serve a scikit-learn model over HTTP and gRPC.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"solera-server {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="serve | fetch")
    serve = commands.add_parser("serve", help="serve a model (the default): solera-server --model DIRECTORY")
    fetch = commands.add_parser("fetch", help="copy an artifact from a store and verify it")
    _serve_options(serve)
    _fetch_options(fetch)
    given, unknown = parser.parse_known_args(words)
    command, required = (
        (fetch, ("--uri", "--digest", "--out")) if given.command == "fetch" else (serve, ("--model",))
    )
    command.refuse_unknown(unknown)
    command.require(given, required)
    return given


def _fetch_options(fetch: argparse.ArgumentParser) -> None:
    fetch.add_argument("--uri", help="where the artifact is, such as s3://bucket/path/sha256-… (required)")
    fetch.add_argument("--digest", help="its digest, sha256:… (required)")
    fetch.add_argument("--out", type=Path, help="the directory to write (required)")
    _log_level(fetch)


def _serve_options(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--model", help="the artifact: a directory, or s3://bucket/path/sha256-… (required)")
    serve.add_argument("--name", type=name, help="name of the model in URLs (default: the directory's name)")
    serve.add_argument(
        "--version", dest="version_name", type=name, help="name of the version (default: of the digest)"
    )
    serve.add_argument("--digest", help="the digest that the artifact must have, sha256:…")
    _port_options(serve)
    serve.add_argument("--page", action="store_true", help="show the model's page to browsers at / of --port")
    serve.add_argument(
        "--page-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name besides localhost under which browsers may open the management port (repeatable)",
    )
    serve.add_argument(
        "--access-log",
        type=_access_share,
        default="off",
        metavar="off|all|sample:SHARE",
        help="requests to log on stdout, such as sample:0.01 (%(default)s; 5xx are logged anyway)",
    )
    serve.add_argument(
        "--tls-cert",
        type=Path,
        help="file with the certificate and its chain (PEM): the model port and gRPC then speak TLS only",
    )
    serve.add_argument("--tls-key", type=Path, help="file with the certificate's key (PEM, not encrypted)")
    serve.add_argument(
        "--workers",
        type=whole(1, MOST_WORKERS),
        help="processes that answer on the model port (default: the whole CPUs that can be had)",
    )
    serve.add_argument(
        "--busy-poll",
        type=whole(0, 1000),
        metavar="MICROSECONDS",
        help="how long to look for the next request before sleeping, while requests come that soon "
        "(default: 100; 0, never, in a pod or with less than a CPU for each worker)",
    )
    _patience_options(serve)
    for flag, field, kind, text in LIMIT_OPTIONS:
        serve.add_argument(
            flag, dest=field, type=kind, default=getattr(_DEFAULTS, field), help=f"{text} (%(default)s)"
        )
    add_options(serve)
    _log_level(serve)


def _port_options(serve: argparse.ArgumentParser) -> None:
    # In a pod the kubelet and other pods must reach the server; on a laptop nobody else should.
    host, port = "*" if "KUBERNETES_SERVICE_HOST" in os.environ else "127.0.0.1", whole(0, 65_535)
    serve.add_argument("--host", default=host, help="address to listen on, * for all (%(default)s)")
    serve.add_argument("--port", type=port, default=8080, help="model port (%(default)s; 0: any free one)")
    serve.add_argument("--management-port", type=port, default=8081, help="probes and metrics (%(default)s)")
    serve.add_argument("--grpc-port", type=port, help="answer the V2 protocol over gRPC there (default: not)")


def _patience_options(serve: argparse.ArgumentParser) -> None:
    for flag, default, text in (
        ("--drain-delay", 5.0, "seconds to go on serving after SIGTERM, until endpoints have been updated"),
        ("--drain-timeout", 20.0, "seconds for requests in flight after that"),
        (
            "--stall-timeout",
            120.0,
            "seconds of a single prediction after which the server counts as hung",
        ),
    ):
        serve.add_argument(flag, type=seconds(0, _LONG), default=default, help=f"{text} (%(default)s)")


def _log_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")


def _access_share(text: str) -> float:
    if text in ("off", "all"):
        return float(text == "all")
    word, _, share = text.partition(":")
    try:
        value = float(share) if word == "sample" else 0.0
    except ValueError:
        value = 0.0
    if 0 < value <= 1:
        return value
    raise argparse.ArgumentTypeError("write off, all, or sample: and a share, such as sample:0.01")
