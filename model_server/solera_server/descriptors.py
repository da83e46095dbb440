"""
File descriptors: as many as this process may have, and some that connections cannot take.

Without one to spare, the loop closes each new connection unheard, probes among them. So the limit on
connections stays below it.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
from dataclasses import replace
from typing import TYPE_CHECKING

from solera_server.logs import Seldom

if TYPE_CHECKING:
    from solera_server.limits import Limits

log = logging.getLogger(__name__)

SPARE = 512
"""For what is no connection that may stay: probes, connections that are turned away, files, libraries."""
_SILENT_SECONDS = 30.0


def make_room(limits: Limits) -> Limits:
    """
    Raise the process's soft limit on descriptors to its hard one; return ``limits`` that fit below it.

    Where it is too low for the spare ones, connections may have one half of it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError) as error:  # some kernels allow fewer than they say
            log.warning("the limit on descriptors stays", extra={"limit": soft, "error": str(error)})
    if soft == resource.RLIM_INFINITY:
        return limits
    fitting = max(soft - SPARE, soft // 2)
    if limits.connections <= fitting:
        return limits
    log.warning(
        "fewer connections than --max-connections: the process may not have more file descriptors",
        extra={"connections": fitting, "descriptors": soft},
    )
    return replace(limits, connections=fitting)


class Watch:
    """Says now and then in the log that there is no descriptor left; ``look`` about once a second."""

    def __init__(self) -> None:
        self._told = Seldom(_SILENT_SECONDS)

    def look(self) -> None:
        try:
            os.close(os.dup(2))
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._told.due():
                return
            log.error(  # noqa: TRY400 - a traceback would say nothing more
                "no file descriptor is left: new connections are closed unheard",
                extra={"error": error.strerror},
            )
