"""When an X.509 certificate expires, read from its DER form; Python's own library does not say."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0


def expiry(pem: bytes) -> float:
    """
    Return when the first certificate of a PEM file expires, in seconds since 1970.

    Raises ValueError when there is none, or it is not one.
    """
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("there is no certificate in PEM form")
    try:
        return _not_after(ssl.PEM_cert_to_DER_cert(found.group().decode("ascii")))
    except (IndexError, ValueError) as error:
        raise ValueError(f"the certificate cannot be read: {error}") from error


def _not_after(der: bytes) -> float:
    # Certificate ::= {tbsCertificate, …}; tbsCertificate ::= {[version], serialNumber, signature, issuer,
    # validity, …}; validity ::= {notBefore, notAfter}.
    _, certificate, _ = _element(der, _SEQUENCE)
    _, fields, _ = _element(certificate, _SEQUENCE)
    tag, _, rest = _element(fields)
    if tag == _VERSION:
        _, _, rest = _element(rest)
    for _ in range(2):  # behind the serial number: signature and issuer
        _, _, rest = _element(rest, _SEQUENCE)
    _, validity, _ = _element(rest, _SEQUENCE)
    _, _, rest = _element(validity)
    tag, text, _ = _element(rest)
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}.get(tag)
    if form is None:
        raise ValueError("there is no date of expiry")
    moment = datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC)
    return moment.timestamp()


def _element(data: bytes, expected: int | None = None) -> tuple[int, bytes, bytes]:
    """Return the tag and content of the first element, and what follows it."""
    tag, size, start = data[0], data[1], 2
    if expected is not None and tag != expected:
        raise ValueError("not the structure of a certificate")
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    if len(data) < start + size:
        raise ValueError("it is cut short")
    return tag, data[start : start + size], data[start + size :]
