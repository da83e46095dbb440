"""
JSON lines on stderr: one for each event of the server's life, none for a request that went well.

Clients' values are not for the log, and the message of an exception may quote any of them. So of an exception
the log has its type and where it was raised; its message, and that of a warning, at the level "debug" only.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from types import TracebackType

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


_identity: dict[str, object] = {}


def identify(**fields: object) -> None:
    """Add fields to every line of this process."""
    _identity.update(fields)


def identity() -> dict[str, object]:
    """Return the fields of every line of this process."""
    return _identity


class Seldom:
    """Is due once, and then for so many seconds not again: what lasts is no news each time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = 0.0

    def due(self) -> bool:
        now = monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


class JsonFormatter(logging.Formatter):
    """
    Time, level, logger, event, whatever was given as ``extra``, and the traceback if there is one.

    ``whole``: with the messages of exceptions, and all that other libraries have to say.
    """

    def __init__(self, *, whole: bool = False) -> None:
        super().__init__()
        self._whole = whole

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage() if self._whole else _event(record),
            **_identity,
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = (
                self.formatException(record.exc_info) if self._whole else without_messages(record.exc_info[1])
            )
        return orjson.dumps(line, default=str).decode()


def without_messages(error: BaseException) -> str:
    """Return the traceback of an exception and of those that it came from, without what they say."""
    parts: list[str] = []
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        kind = type(following)
        lines = traceback.format_tb(following.__traceback__)
        within = (
            f" of {', '.join(type(one).__qualname__ for one in following.exceptions)}"
            if isinstance(following, BaseExceptionGroup)
            else ""
        )
        parts.append(f"{''.join(lines)}{kind.__module__}.{kind.__qualname__}{within}")
        hidden = following.__suppress_context__
        following = following.__cause__ or (None if hidden else following.__context__)
    return "\n\nwhich came from:\n\n".join(parts)


def _event(record: logging.LogRecord) -> str:
    """Return the message; of asyncio's without arguments of calls, of others' the first line."""
    text = record.getMessage()
    if record.name.startswith("solera"):
        return text
    first = text.partition("\n")[0]
    return first.partition("(")[0].rstrip() if record.name == "asyncio" else first


def configure(level: str) -> None:
    whole = level.lower() == "debug"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(whole=whole))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if whole:
        logging.captureWarnings(capture=True)
    else:
        warnings.showwarning = _warned  # type: ignore[assignment] # what is not used has no name
    sys.excepthook = _uncaught
    threading.excepthook = _thread_ended
    sys.unraisablehook = _unraisable


def _warned(
    _message: Warning | str, category: type[Warning], filename: str, lineno: int, *_rest: object
) -> None:
    where = f"{Path(filename).name}:{lineno}"
    logging.getLogger("py.warnings").warning("warning", extra={"category": category.__name__, "where": where})


def _uncaught(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
    logging.getLogger(__name__).critical("failed", exc_info=(kind, error, place))


def _thread_ended(what: threading.ExceptHookArgs) -> None:
    name = None if what.thread is None else what.thread.name
    logging.getLogger(__name__).critical("a thread failed", exc_info=what.exc_value, extra={"of": name})


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    logging.getLogger(__name__).error("an object could not be cleared away", exc_info=what.exc_value)
