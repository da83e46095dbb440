"""
The keys of receipts, as files of a directory into which a Secret is mounted.

Each file but two is a key, named by its id. ``current`` holds the id of the key that signs; the others only
verify, which is what a rotation needs: mount the new key everywhere, then name it, then drop the old one.
``unit``, where it is, is the key by which units are hashed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from solera_core.failures import Failure, Reason
from solera_core.receipts import KEY_ID, MIN_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

CURRENT, UNIT = "current", "unit"
MAX_KEYS = 4
_MAX_BYTES = 1024
_MAX_UNIT_BYTES = 64


@dataclass(frozen=True)
class ReceiptKeys:
    """``unit`` is None when no such file is mounted."""

    keys: Mapping[str, bytes]
    current: str
    unit: bytes | None


def read_keys(directory: Path) -> ReceiptKeys:
    """
    Read the keys.

    Raises Failure (BadSpec) with the file and what it should be.
    """
    files = _files(directory)
    current, unit = files.pop(CURRENT, None), files.pop(UNIT, None)
    if current is None:
        raise _bad(directory, f"{CURRENT} is missing: the file that holds the id of the key that signs")
    for name, data in files.items():
        if not KEY_ID.fullmatch(name):
            raise _bad(directory, f"{name}: a key's id has at most 32 letters, digits, dots, - and _")
        if not MIN_KEY_BYTES <= len(data) <= _MAX_BYTES:
            raise _bad(directory, f"{name}: a key has {MIN_KEY_BYTES} to {_MAX_BYTES} bytes")
    if len(files) > MAX_KEYS:
        raise _bad(directory, f"there are more than {MAX_KEYS} keys")
    signing = current.decode("ascii", "replace").strip()
    if signing not in files:
        raise _bad(directory, f'{CURRENT} names the key "{signing[:32]}", and there is no such file')
    if unit is not None and not MIN_KEY_BYTES // 2 <= len(unit) <= _MAX_UNIT_BYTES:
        raise _bad(directory, f"{UNIT}: a key for units has {MIN_KEY_BYTES // 2} to {_MAX_UNIT_BYTES} bytes")
    return ReceiptKeys(files, signing, unit)


class WatchedKeys:
    """
    The keys of a directory, read again when ``refresh`` is called.

    Keys that cannot be read do not replace those that could: the log says why. The key of units stays as
    it was at the start: with another one, the same unit would count twice.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._complaint = ""
        self.keys = read_keys(directory)

    def refresh(self) -> bool:
        """Read the files; True when the keys have changed."""
        try:
            found = read_keys(self._directory)
        except Failure as failure:
            if failure.message != self._complaint:
                log.warning("receipt keys not read", extra={"reason": failure.message})
            self._complaint = failure.message
            return False
        self._complaint = ""
        if found.unit != self.keys.unit:
            log.warning("the key of units has changed; it is taken at the next start")
            found = ReceiptKeys(found.keys, found.current, self.keys.unit)
        changed = found != self.keys
        if changed:
            log.info("receipt keys read", extra={"keys": sorted(found.keys), "current": found.current})
            self.keys = found
        return changed


def _files(directory: Path) -> dict[str, bytes]:
    try:
        # A mounted Secret has its data in directories that begin with two dots, and links to them.
        paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
        found = {}
        for path in paths:
            with path.open("rb") as stream:
                found[path.name] = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _bad(directory, f"cannot be read: {error.strerror or error}") from error
    return found


def _bad(directory: Path, what: str) -> Failure:
    return Failure(Reason.BAD_SPEC, f"--receipt-keys {directory}: {what}.")
