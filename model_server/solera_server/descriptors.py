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
"""For each port, for what is no connection that may stay: who is turned away, handshakes, files."""
_SILENT_SECONDS = 30.0


def ports_of_a_process(workers: int, *, grpc: bool) -> int:
    """Return how many ports the process with the most of them has: each may have --max-connections."""
    # A single process has the management port too; beside several workers that has a process of its own.
    return (2 if workers == 1 else 1) + grpc


def fitting(descriptors: int, ports: int) -> int:
    """
    Return how many connections each of the ports may have in a process that has so many descriptors.

    Where those are too few for the spare ones, connections may have one half of them.
    """
    share = descriptors // ports
    return max(share - SPARE, share // 2, 1)


def make_room(limits: Limits, ports: int) -> Limits:
    """
    Raise the process's soft limit on descriptors to its hard one; return ``limits`` that fit below it.

    ``ports`` is how many ports have their connections in one process.
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
    most = fitting(soft, ports)
    if limits.connections <= most:
        return limits
    log.warning(
        "fewer connections than --max-connections: the process may not have more file descriptors",
        extra={"connections": most, "descriptors": soft, "ports": ports},
    )
    return replace(limits, connections=most)


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
