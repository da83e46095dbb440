"""How serving moves from one version to another without losing a request.

The champion says what should serve; the stable Service's selector is what does. The new version is
brought to the old one's size before the Service is turned, and the old one stays for the rollback window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from solera_operator.domain.observed import Deployment


@dataclass(frozen=True, slots=True)
class Rollout:
    """What to run and where to send traffic.

    Attributes:
        target: the version that the stable Service and the route should name.
        floor: the champion's HPA minimum while it is being brought up, None when the spec's holds.
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
        now: the clock.
    """
    if not target or target == champion:
        return _settled(champion, deployments, warm_until, now)
    old = deployments.get(target)
    new = deployments.get(champion)
    needed = min(max(minimum, old.ready if old else 0), maximum)
    if new is not None and new.current and new.ready >= needed and new.updated >= needed:
        return Rollout(target=champion)
    return Rollout(target=target, floor=needed)


def _settled(
    champion: str,
    deployments: Mapping[str, Deployment],
    warm_until: Mapping[str, datetime],
    now: datetime,
) -> Rollout:
    left = {
        name: (warm_until[name] - now).total_seconds() if name in warm_until else 0.0
        for name in deployments
        if name != champion
    }
    return Rollout(
        target=champion,
        remove=tuple(sorted(name for name, seconds in left.items() if seconds <= 0)),
        again=min((seconds for seconds in left.values() if seconds > 0), default=None),
    )
