"""
Structured logs, on standard output, one line an entry: JSON in a cluster, coloured text on a terminal.

Standard-library loggers (kopf, asyncio, aiohttp) go through the same pipe. Nothing is redacted, since
nothing secret is ever given to a logger: no Secret is read, no header or body of a request is logged, and
tracebacks come without local variables.
"""

import logging
import sys
from typing import Literal, TextIO

import structlog

_LIBRARIES = {
    "kopf": logging.WARNING,
    "asyncio": logging.WARNING,
    "aiohttp": logging.WARNING,
    "client": logging.WARNING,
}
# Without the values of local variables: those could hold a token, and they are long.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure(
    level: str = "info", style: Literal["json", "console", "auto"] = "auto", stream: TextIO | None = None
) -> None:
    """
    Set up logging for the process.

    `level` is debug, info, warning or error (ValueError otherwise); at debug the libraries speak too.
    """
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if threshold is None:
        raise ValueError(f"log level {level!r} is not known: write debug, info, warning or error")
    stream = stream or sys.stdout
    as_json = style == "json" or (style == "auto" and not stream.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=()),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        ending: list[structlog.typing.Processor] = [_TRACEBACKS, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        ending = [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name, quiet in _LIBRARIES.items():
        logging.getLogger(name).setLevel(threshold if threshold <= logging.DEBUG else max(quiet, threshold))
