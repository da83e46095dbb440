"""Who the champion is: a compare-and-swap on a revision, decided here and written with a precondition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from solera_operator.domain.versions import Verdict, Version, wanted_version

PINNED = "Pinned"
UNPINNED = "Unpinned"


@dataclass(frozen=True, slots=True)
class Champion:
    """What should serve. ``revision`` grows by one at each change."""

    version: str
    digest: str
    revision: int
    reason: str


@dataclass(frozen=True, slots=True)
class Pin:
    """The user's pin: a version and, where given, the digest it must have."""

    version: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class PinProblem:
    """Why a pin cannot be obeyed."""

    reason: str
    message: str


def pin_problem(pin: Pin, versions: Sequence[Version]) -> PinProblem | None:
    """A pin names a version that exists, has an artifact, and has the digest that the pin states."""
    version = next((v for v in versions if v.name == pin.version), None)
    if version is None:
        have = ", ".join(v.name for v in sorted(versions, key=lambda v: v.number)) or "none yet"
        return PinProblem(
            "PinnedVersionNotFound",
            f"spec.serving.pin.version: {pin.version} does not exist; there are: {have}",
        )
    if not version.digest and version.verdict is not Verdict.PENDING:
        return PinProblem(
            "PinnedVersionNotTrained",
            f"spec.serving.pin.version: {pin.version} has no artifact to serve; pin one that was trained",
        )
    if pin.digest and pin.digest != version.digest:
        return PinProblem(
            "PinnedDigestMismatch",
            f"spec.serving.pin.digest: {pin.version} has {version.digest}, the pin says {pin.digest}",
        )
    return None


def pin_waits(pin: Pin, versions: Sequence[Version]) -> PinProblem | None:
    """A pin to a version that is still being trained is obeyed as soon as there is something to serve."""
    version = next((v for v in versions if v.name == pin.version), None)
    if version is None or version.digest or version.verdict is not Verdict.PENDING:
        return None
    return PinProblem("PinnedVersionTraining", f"{pin.version}, which is pinned, is still being trained")


def next_champion(
    current: Champion | None,
    versions: Sequence[Version],
    token: str,
    pin: Pin | None,
    rolled_back: frozenset[str],
) -> Champion | None:
    """The champion that should be, or None when the current one (or none) stands.

    A pin is obeyed at once. Without one, the version that the spec wants becomes champion when it was
    accepted and was not rolled back; after a pin to a version that no gate let through ends, the newest
    accepted version takes over.
    """
    by_name = {v.name: v for v in versions if not v.deleting}
    revision = current.revision if current else 0
    if pin is not None:
        pinned = by_name.get(pin.version)
        if pinned is None or not pinned.digest or pin_problem(pin, versions) is not None:
            return None
        if current and current.version == pin.version and current.reason == PINNED:
            return None
        return Champion(pinned.name, pinned.digest, revision + 1, PINNED)
    eligible = [
        v
        for v in by_name.values()
        if v.verdict is Verdict.ACCEPTED and v.name not in rolled_back and v.digest
    ]
    wanted = wanted_version(eligible, token)
    if wanted is None and _may_fall_back(current, by_name, token):
        wanted = max(eligible, key=lambda v: v.number, default=None)
    if wanted is None and current and current.reason == PINNED:
        stands = by_name.get(current.version)
        wanted = stands if stands is not None and stands.verdict is Verdict.ACCEPTED else None
    if wanted is None:
        return None
    if current and current.version == wanted.name and current.digest == wanted.digest:
        # A champion that a pin made and gates have accepted stays; Pinned must not outlive the pin.
        return (
            Champion(wanted.name, wanted.digest, revision + 1, UNPINNED) if current.reason == PINNED else None
        )
    return Champion(wanted.name, wanted.digest, revision + 1, _why(current, by_name, wanted))


def _may_fall_back(current: Champion | None, by_name: dict[str, Version], token: str) -> bool:
    """Whether any accepted version is better than what there is.

    Stricter gates alone never take a champion down: only one that was merely pinned, or is gone, gives way.
    One that is being judged (its gates were edited) is waited for.
    """
    if current is None:
        return True
    version = by_name.get(current.version)
    if version is None:
        return True
    judged = version.token != token or version.verdict is not Verdict.PENDING
    return current.reason == PINNED and version.verdict is not Verdict.ACCEPTED and judged


def _why(current: Champion | None, by_name: dict[str, Version], wanted: Version) -> str:
    if current is None:
        return "FirstVersion"
    before = by_name.get(current.version)
    if before is not None and before.number > wanted.number:
        return "SpecReverted"
    return "GatesPassed"


def rolled_back_after(
    before: frozenset[str], old: Champion | None, new: Champion, versions: Sequence[Version]
) -> frozenset[str]:
    """The versions that a pin has rolled back, after ``new`` took the place of ``old``.

    A version that a pin to an older one displaced is not promoted by itself again; a version that is
    pinned again is forgiven. Versions that no longer exist are dropped.
    """
    numbers = {v.name: v.number for v in versions}
    marked = set(before) & set(numbers)
    if new.reason == PINNED:
        marked -= {new.version}
        if old and old.version in numbers and numbers[old.version] > numbers.get(new.version, 0):
            marked.add(old.version)
    return frozenset(marked)
