"""
The certificate and key of TLS: read from files, and again when they change, without a restart.

Kubernetes replaces the files of a mounted Secret by switching a symbolic link; others write one file after
the other. A pair that does not fit or cannot be read is said in the log once, and the old one stays.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from solera_core.failures import Failure, Reason
from solera_server.certificate_expiry import expiry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0

# What a file is known by: device, inode, size and time of its last change.
_Signature = tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain with its key, as PEM; ``expires`` in seconds since 1970."""

    certificate: bytes
    key: bytes
    expires: float
    context: ssl.SSLContext


class Certificates:
    """
    The pair in the files ``certificate`` and ``key``.

    Raises Failure (BadSpec) when there is no usable pair at the start.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        try:
            self._signature: _Signature | None = self._look()
            self.pair = self._read()
        except (OSError, ValueError) as error:
            raise Failure(Reason.BAD_SPEC, f"--tls-cert {certificate}, --tls-key {key}: {error}") from error

    def check(self) -> bool:
        """Read the files if they changed since the last time; say whether there is a new pair."""
        try:
            signature: _Signature | None = self._look()
        except OSError:
            signature = None
        if signature == self._signature:
            return False
        self._signature = signature
        try:
            pair = self._read()
        except (OSError, ValueError) as error:
            log.error(  # noqa: TRY400 - a traceback would say nothing about the files
                "the new certificate cannot be used; the old one stays",
                extra={"certificate": str(self._files[0]), "error": str(error), "expires": self._day()},
            )
            return False
        self.pair = pair
        log.info("certificate read", extra={"certificate": str(self._files[0]), "expires": self._day()})
        return True

    def gauge(self) -> tuple[str, Callable[[], float]]:
        """Return the text and the reading of the metric of the expiry."""
        return "When the certificate expires, seconds since 1970.", lambda: self.pair.expires

    async def watch(self) -> None:
        """Check again and again, until cancelled."""
        while True:
            self.check()
            await asyncio.sleep(CHECK_SECONDS)

    def _day(self) -> str:
        return datetime.fromtimestamp(self.pair.expires, UTC).isoformat(timespec="seconds")

    def _look(self) -> _Signature:
        found = [path.stat() for path in self._files]
        return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) for one in found)

    def _read(self) -> Pair:
        certificate, key = (path.read_bytes() for path in self._files)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        # Raises SSLError, an OSError, also when the key is not the certificate's.
        context.load_cert_chain(*self._files, password=_no_password)
        return Pair(certificate, key, expiry(certificate), context)


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one that is not")
