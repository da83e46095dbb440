"""How serving moves from one version to another without losing a request.

The champion says what should serve; the stable Service's selector is what does. The new version is
brought to the old one's size before the Service is turned, and the old one stays for the rollback window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from solera_operator.domain.observed import Deployment

# For as long as the autoscaler's scale-down looks back: what it remembers of a new version is idleness.
SETTLING = timedelta(seconds=300)


@dataclass(frozen=True, slots=True)
class Rollout:
    """What to run and where to send traffic.

    Attributes:
        target: the version that the stable Service and the route should name.
        floor: the champion's HPA minimum while it is being brought up and for a while after traffic has
            turned to it, None when the spec's holds.
        remove: versions whose Deployment and companions go now.
        again: seconds until time alone changes this answer, None if it does not.
    """

    target: str
    floor: int | None = None
    remove: tuple[str, ...] = ()
    again: float | None = None


def plan_rollout(
    champion: str,
    target: str,
    deployments: Mapping[str, Deployment],
    *,
    minimum: int,
    maximum: int,
    warm_until: Mapping[str, datetime],
    turned: datetime | None,
    now: datetime,
) -> Rollout:
    """Decide the target of the stable Service and the fate of other versions' Deployments.

    Args:
        champion: the version that should serve.
        target: the version that the stable Service names now, empty if there is no Service yet.
        deployments: Deployments by version.
        minimum: smallest number of replicas by spec.
        maximum: largest number of replicas by spec.
        warm_until: displaced versions and when their pods go.
        turned: when traffic turned to ``target``; None if that is not recorded.
        now: the clock.
    """
    remove, again = _others(deployments, {champion, target}, warm_until, now)
    new = deployments.get(champion)
    if not target or target == champion:
        left = (turned + SETTLING - now).total_seconds() if turned is not None else 0.0
        if left <= 0 or new is None:
            return Rollout(champion, remove=remove, again=again)
        floor = min(max(minimum, new.replicas), maximum)
        return Rollout(champion, floor, remove, min(left, again) if again is not None else left)
    old = deployments.get(target)
    needed = min(max(minimum, old.ready if old else 0), maximum)
    if new is not None and new.current and new.ready >= needed and new.updated >= needed:
        return Rollout(champion, needed, remove, again)
    return Rollout(target, needed, remove, again)


def _others(
    deployments: Mapping[str, Deployment],
    used: set[str],
    warm_until: Mapping[str, datetime],
    now: datetime,
) -> tuple[tuple[str, ...], float | None]:
    """Which of the versions not in use go now, and in how many seconds the next one does."""
    left = {
        name: (warm_until[name] - now).total_seconds() if name in warm_until else 0.0
        for name in deployments
        if name not in used
    }
    remove = tuple(sorted(name for name, seconds in left.items() if seconds <= 0))
    return remove, min((seconds for seconds in left.values() if seconds > 0), default=None)
