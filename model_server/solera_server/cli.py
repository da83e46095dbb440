"""The command ``solera-server``: ``serve`` a model directory, or ``fetch`` an artifact into one."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from solera_core.failures import Failure, Reason
from solera_server import logs
from solera_server.arguments import NAME
from solera_server.busy_poll import default_seconds
from solera_server.command_line import LIMIT_OPTIONS, parse
from solera_server.limits import Limits
from solera_server.recording_options import recording_options
from solera_server.source import FetchFailed, Source
from solera_server.termination import report
from solera_server.threads import available, limit_threads, worker_count
from solera_server.tracing_options import tracing_options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

_ANY_NAME = "model"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code (sysexits, as the Jobs use them)."""
    logs.configure("info")
    try:
        options = parse(list(sys.argv[1:] if argv is None else argv))
        logs.configure(options.log_level)
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
    limits = Limits(**{field: getattr(options, field) for _, field, _, _ in LIMIT_OPTIONS})
    return run.serve(
        source,
        Options(
            model=source.directory,
            name=options.name or _name_of(source),
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
            busy_poll_seconds=_busy_poll_seconds(options.busy_poll, workers),
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


def _busy_poll_seconds(microseconds: int | None, workers: int) -> float:
    return default_seconds(os.environ, available(), workers) if microseconds is None else microseconds / 1e6


def _name_of(source: Source) -> str:
    found = source.model_name
    if NAME.fullmatch(found):
        return found
    log.warning(
        "the name of the model's place cannot be a model's; give --name",
        extra={"place": found, "name_in_urls": _ANY_NAME},
    )
    return _ANY_NAME


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
