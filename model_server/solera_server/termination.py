"""Saying why the process ends: on stderr, and where Kubernetes looks for a container's last words."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from solera_core.result import TERMINATION_LOG, encode_message, failure_result

if TYPE_CHECKING:
    from solera_core.failures import Failure

log = logging.getLogger(__name__)


def report(failure: Failure, path: str = TERMINATION_LOG) -> int:
    """
    Log the failure, leave it as the termination message, and return its exit code.

    Kubernetes mounts a file for the message; on a laptop there is none, and none is made.
    """
    log.error(failure.message, extra={"reason": str(failure.reason), "exit_code": failure.exit_code})
    target = Path(path)
    if target.exists():
        try:
            target.write_bytes(encode_message(failure_result("server", failure)))
        except OSError as error:
            log.warning("cannot write the termination message", extra={"error": str(error)})
    return failure.exit_code
