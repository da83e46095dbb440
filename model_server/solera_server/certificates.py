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

# What a PEM file has of its kind, be it an X509 or TRUSTED certificate, an RSA, EC or ENCRYPTED key.
_CERTIFICATE = b"CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"

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
        _check_kinds(self._files, certificate, key)
        expires = expiry(certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(*self._files, password=_no_password)
        except ssl.SSLError as error:
            raise ValueError(_words(error, self._files, certificate)) from error
        return Pair(certificate, key, expires, context)


def _check_kinds(files: tuple[Path, Path], certificate: bytes, key: bytes) -> None:
    """Raise ValueError for a file that is none of its kind: OpenSSL does not say which of the two it is."""
    if _CERTIFICATE in certificate and _KEY in key:
        return
    if _CERTIFICATE in key and _KEY in certificate:
        raise ValueError("the two files are swapped")
    path, kind = (files[1], "private key") if _CERTIFICATE in certificate else (files[0], "certificate")
    raise ValueError(f"{path} holds no {kind} in PEM form")


def _words(error: ssl.SSLError, files: tuple[Path, Path], certificate: bytes) -> str:
    """Say what is wrong with a pair that OpenSSL refuses."""
    # The last is what a key of another kind (RSA, not EC) gives: there is no certificate of that kind.
    if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
        return "the key does not belong to the certificate"
    if error.reason is not None and "PEM" not in error.reason:  # too weak, for instance
        return f"OpenSSL says {error.reason}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate.decode("latin-1"))
    except (ssl.SSLError, ValueError):
        return f"{files[0]}: a certificate cannot be read"
    return f"{files[1]}: the private key cannot be read"


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one that is not")
