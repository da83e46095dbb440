"""Which ModelVersion a spec wants, and whether a new one must be made.

Numbers are never used again and a token that has a version gets no second one. The number is written to
the TrainedModel's status before the version is created, so that a crash between the two creates that
same version and no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How far a version has come."""

    PENDING = "Pending"
    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    FAILED = "Failed"
    SUPERSEDED = "Superseded"
    """Given up before it was trained, because the spec changed; a spec that comes back is trained anew."""


@dataclass(frozen=True, slots=True)
class Version:
    """A ModelVersion as decisions about its model see it."""

    name: str
    number: int
    token: str
    uid: str
    verdict: Verdict = Verdict.PENDING
    digest: str = ""
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class LastVersion:
    """The newest number given out. ``uid`` is empty until the version is known to exist."""

    number: int = 0
    token: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Write this number and token to status, then come again."""

    number: int
    token: str


@dataclass(frozen=True, slots=True)
class Create:
    """The number is in status: create the version."""

    number: int
    token: str
    reason: str


@dataclass(frozen=True, slots=True)
class Confirm:
    """The reserved version exists: write its uid to status."""

    uid: str


def wanted_version(versions: Iterable[Version], token: str) -> Version | None:
    """The newest version that was made for ``token`` and was not given up."""
    made = [
        v for v in versions if v.token == token and not v.deleting and v.verdict is not Verdict.SUPERSEDED
    ]
    return max(made, key=lambda v: v.number, default=None)


def plan_version(
    versions: Sequence[Version], last: LastVersion, token: str
) -> Reserve | Create | Confirm | None:
    """The next step towards a version for ``token``, or None when it is there and confirmed."""
    wanted = wanted_version(versions, token)
    if wanted is not None:
        if wanted.number == last.number and wanted.uid != last.uid:
            return Confirm(wanted.uid)
        return None
    made = any(v.number == last.number for v in versions)  # and given up, or being deleted
    if last.token == token and last.number and not last.uid and not made:
        return Create(last.number, token, "Created" if last.number == 1 else "SpecChanged")
    highest = max((v.number for v in versions), default=0)
    return Reserve(max(last.number, highest) + 1, token)


def retire(versions: Sequence[Version], keep: set[str], limit: int) -> tuple[str, ...]:
    """Names of versions beyond ``limit``: failed ones first, then the oldest.

    Never one in ``keep`` (in use) or one under way.

    A version that is trained and waits for its verdict is under way only when its spec is wanted, and so
    in ``keep``.
    """
    alive = sorted((v for v in versions if not v.deleting), key=lambda v: v.number)
    surplus = len(alive) - limit
    removable = [v for v in alive if v.name not in keep and (v.digest or v.verdict is not Verdict.PENDING)]
    removable.sort(key=lambda v: bool(v.digest))
    return tuple(v.name for v in removable[: max(surplus, 0)])
