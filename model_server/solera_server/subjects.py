"""Whom a request counts for: arm and weight epoch as the route names them, the unit as the client does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from solera_core.units import unit_hash

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_ARM, SHADOW_ARM, MORE_ARMS = "none", "shadow", "~more"
_ARM = re.compile(rb"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_EPOCH = re.compile(rb"[0-9]{1,15}")


class Names(NamedTuple):
    """Names of the headers, lower case, by which the route tells arm and epoch, and the client its unit."""

    arm: bytes = b"x-solera-arm"
    epoch: bytes = b"x-solera-weight-epoch"
    shadow: bytes = b"x-solera-shadow"
    unit: bytes | None = None


NOBODY, UNIT, DRAWN = 0, 1, 2

Arm = tuple[bytes | None, bytes | None, bool]
"""The headers that name arm and weight epoch, as they came, and whether the request is a copy."""


class Subject(NamedTuple):
    """
    Whom a request counts for. ``number`` is the hash of its unit (``kind`` UNIT).

    A request without a unit is a unit of its own: its number is drawn (DRAWN), 0 until then (NOBODY).
    """

    arm: Arm
    kind: int
    number: int


class Identity:
    """Reads arm and unit of a request from its headers."""

    def __init__(self, names: Names, key: bytes) -> None:
        self.names, self._key = names, key

    def subject(self, headers: Mapping[bytes, bytes]) -> Subject:
        """Return whom a request with these headers counts for."""
        names, get = self.names, headers.get
        shadow = names.shadow in headers
        if not shadow:
            # Envoy marks the host of copies so.
            host = get(b"host", b"")
            shadow = b"-shadow" in host and host.partition(b":")[0].endswith(b"-shadow")
        raw = get(names.unit) if names.unit is not None else None
        arm = (get(names.arm), get(names.epoch), shadow)
        return self.of(arm, raw) if raw else Subject(arm, NOBODY, 0)

    def of(self, arm: Arm, unit: bytes) -> Subject:
        """Return whom requests of a unit count for."""
        return Subject(arm, UNIT, unit_hash(unit, self._key))


def arm_key(arm: Arm) -> tuple[str, int]:
    """Return name and weight epoch of an arm; what is not written as the route writes it is no arm."""
    name, epoch, shadow = arm
    known = name is not None and _ARM.fullmatch(name) and epoch is not None and _EPOCH.fullmatch(epoch)
    number = int(epoch) if known and epoch is not None else 0
    if shadow:
        return SHADOW_ARM, number
    return (name.decode(), number) if known and name is not None else (NO_ARM, 0)
