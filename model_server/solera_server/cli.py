"""The command ``solera-server``: ``serve`` a model directory, or ``fetch`` an artifact into one."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from solera_core.failures import Failure, Reason
from solera_server import __version__, logs
from solera_server.limits import Limits
from solera_server.recording_options import add_options, recording_options
from solera_server.source import FetchFailed, Source
from solera_server.termination import report
from solera_server.threads import limit_threads, worker_count
from solera_server.tracing_options import tracing_options

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_DEFAULTS = Limits()
_LIMIT_OPTIONS = (
    ("--max-body-bytes", "body_bytes", int, "largest request body, bytes"),
    ("--max-header-bytes", "header_bytes", int, "largest request head, bytes"),
    ("--max-json-depth", "json_depth", int, "deepest nesting of JSON"),
    ("--max-rows", "rows", int, "rows of a request"),
    ("--max-cells", "cells", int, "rows times features of a request"),
    ("--max-scores", "scores", int, "rows times classes of a request"),
    ("--max-connections", "connections", int, "connections open at a time, for each port"),
    ("--max-in-flight", "in_flight", int, "predictions that wait or run; beyond that 503"),
    ("--max-wait", "wait_seconds", float, "seconds that a prediction may wait by estimate; beyond that 503"),
    ("--max-bodies-bytes", "bodies_bytes", int, "bodies of all requests that arrive or wait, bytes"),
    ("--max-unread-bytes", "unread_bytes", int, "answers that clients have not taken, in all, bytes"),
    ("--receive-timeout", "receive_seconds", float, "seconds in which a request must arrive"),
    ("--idle-timeout", "idle_seconds", float, "seconds after which an idle connection is closed"),
    ("--connection-max-age", "connection_age_seconds", float, "seconds after which a connection is ended"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code (sysexits, as the Jobs use them)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments not in (["--version"], ["--help"], ["-h"]) and arguments[:1] not in (["serve"], ["fetch"]):
        arguments.insert(0, "serve")
    options = _parser().parse_args(arguments)
    logs.configure(options.log_level)
    try:
        return _fetch(options) if options.command == "fetch" else _serve(options)
    except Failure as failure:
        return report(failure)
    except FetchFailed as failed:  # which the fetching process has reported
        return failed.code
    except MemoryError as error:
        return report(
            Failure(
                Reason.OUT_OF_MEMORY,
                f"memory ran out: {error or 'no more could be had'}; give the server more, "
                "or look at the artifact if it should need less.",
            )
        )
    except Exception as error:
        log.exception("failed")
        return report(Failure(Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}"))


def _serve(options: argparse.Namespace) -> int:
    _check_ports(options)
    try:
        workers = options.workers or worker_count(os.environ)
        threads = limit_threads(os.environ, workers=workers)
    except ValueError as error:
        raise Failure(Reason.BAD_SPEC, f"SOLERA_CPUS: {error}") from error
    log.debug("threads", extra={"threads": threads, "workers": workers})
    try:
        from solera_server import run
    except ImportError as error:
        if error.name != "solera_native":
            raise
        raise Failure(Reason.BAD_SPEC, str(error)) from error
    from solera_server.options import Options

    source = Source(options.model, options.digest)
    name = options.name or source.model_name
    if not _NAME.fullmatch(name):
        if options.name:
            raise Failure(Reason.BAD_SPEC, f'--name "{name}": use a-z, 0-9, dots and dashes.')
        name = "model"
    limits = Limits(**{field: getattr(options, field) for _, field, _, _ in _LIMIT_OPTIONS})
    return run.serve(
        source,
        Options(
            model=source.directory,
            name=name,
            version=options.version_name,
            digest=source.digest,
            host=None if options.host == "*" else options.host,
            port=options.port,
            management_port=options.management_port,
            drain_delay=options.drain_delay,
            drain_timeout=options.drain_timeout,
            stall_seconds=options.stall_timeout,
            limits=limits,
            workers=workers,
            tls_files=_tls_files(options),
            access_share=options.access_log,
            threads=threads,
            recording=recording_options(options),
            grpc_port=options.grpc_port,
            page=options.page,
            page_hosts=tuple(options.page_host),
            tracing=tracing_options(os.environ),
        ),
    )


def _check_ports(options: argparse.Namespace) -> None:
    ports: dict[int, str] = {}
    for option in ("--port", "--management-port", "--grpc-port"):
        port = getattr(options, option[2:].replace("-", "_"))
        if port and port in ports:  # 0 is a free one, another for each
            raise Failure(
                Reason.BAD_SPEC, f"{ports[port]} and {option} are both {port}; give one of them another port."
            )
        ports[port] = option


def _tls_files(options: argparse.Namespace) -> tuple[Path, Path] | None:
    if options.tls_cert is None and options.tls_key is None:
        return None
    if options.tls_cert is None or options.tls_key is None:
        raise Failure(Reason.BAD_SPEC, "--tls-cert and --tls-key belong together: give both.")
    return options.tls_cert, options.tls_key


def _fetch(options: argparse.Namespace) -> int:
    from solera_server.fetch import fetch

    fetch(options.uri, options.digest, options.out, os.environ)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="solera-server", description="Serve a scikit-learn model.")
    parser.add_argument("--version", action="version", version=f"solera-server {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _serve_options(commands.add_parser("serve", help="serve a model directory (the default)"))
    fetch = commands.add_parser("fetch", help="copy an artifact from a store and verify it")
    fetch.add_argument(
        "--uri", required=True, help="where the artifact is, such as s3://bucket/path/sha256-…"
    )
    fetch.add_argument("--digest", required=True, help="its digest, sha256:…")
    fetch.add_argument("--out", required=True, type=Path, help="the directory to write")
    _log_level(fetch)
    return parser


def _serve_options(serve: argparse.ArgumentParser) -> None:
    # In a pod the kubelet and other pods must reach the server; on a laptop nobody else should.
    host = "*" if "KUBERNETES_SERVICE_HOST" in os.environ else "127.0.0.1"
    serve.add_argument(
        "--model", required=True, help="the artifact: a directory, or s3://bucket/path/sha256-…"
    )
    serve.add_argument("--name", help="name of the model in URLs (default: the directory's name)")
    serve.add_argument("--version", dest="version_name", help="name of the version (default: of the digest)")
    serve.add_argument("--digest", help="the digest that the artifact must have, sha256:…")
    serve.add_argument("--host", default=host, help="address to listen on, * for all (%(default)s)")
    serve.add_argument("--port", type=_port, default=8080, help="model port (%(default)s; 0: any free one)")
    serve.add_argument("--page", action="store_true", help="show the model's page to browsers at / of --port")
    serve.add_argument(
        "--page-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name besides localhost under which browsers may open the management port (repeatable)",
    )
    serve.add_argument("--management-port", type=_port, default=8081, help="probes and metrics (%(default)s)")
    serve.add_argument(
        "--grpc-port", type=_port, help="answer the V2 protocol over gRPC there (default: not)"
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
        type=_positive,
        help="processes that answer on the model port (default: the whole CPUs that can be had)",
    )
    _patience_options(serve)
    for flag, field, kind, text in _LIMIT_OPTIONS:
        serve.add_argument(
            flag,
            dest=field,
            type=_positive if kind is int else _duration,
            default=getattr(_DEFAULTS, field),
            help=f"{text} (%(default)s)",
        )
    add_options(serve)
    _log_level(serve)


def _patience_options(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--drain-delay",
        type=_seconds,
        default=5.0,
        help="seconds to go on serving after SIGTERM, until endpoints have been updated (%(default)s)",
    )
    serve.add_argument(
        "--drain-timeout",
        type=_seconds,
        default=20.0,
        help="seconds for requests in flight after that (%(default)s)",
    )
    serve.add_argument(
        "--stall-timeout",
        type=_seconds,
        default=120.0,
        help="seconds of a single prediction after which the server counts as hung (%(default)s)",
    )


def _log_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")


def _access_share(text: str) -> float:
    if text in ("off", "all"):
        return float(text == "all")
    word, _, share = text.partition(":")
    if word == "sample" and 0 < float(share or "nan") <= 1:
        return float(share)
    raise argparse.ArgumentTypeError("write off, all, or sample: and a share, such as sample:0.01")


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError("a port is from 0 to 65535")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _duration(text: str) -> float:
    value = _seconds(text)
    if value < 0.1:
        raise argparse.ArgumentTypeError("must be at least 0.1 seconds")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError("must be a number of seconds")
    return value
