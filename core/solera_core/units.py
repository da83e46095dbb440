"""Units of experiments (a user, a session) as keyed 64-bit hashes: nothing that is kept names one.

The bits of a hash have fixed uses: the lowest eight are the bucket whose sums give variances, the next five
the replicate group of the drift test, and all of them decide whether the unit is in the sample that the
sample-ratio test counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

BUCKETS = 256
GROUPS = 32
GROUP_SHIFT = 8
SAMPLE_LIMIT = 8192
_BITS = 64

ArmKey = tuple[str, int]
"""An arm's name and its weight epoch: the number of the route's weights under which a request came."""


def unit_hash(unit: bytes, key: bytes) -> int:
    """Return the hash of a unit: keyed BLAKE2b of 64 bits. The key has 1 to 64 bytes."""
    return int.from_bytes(hashlib.blake2b(unit, digest_size=8, key=key).digest())


def bucket(number: int) -> int:
    """Return the bucket of a unit's hash."""
    return number % BUCKETS


def group(number: int) -> int:
    """Return the replicate group of a unit's hash."""
    return (number >> GROUP_SHIFT) % GROUPS


@dataclass(frozen=True)
class UnitSample:
    """For each arm, all units that were seen with a hash below 2**(64 - halvings).

    The threshold is the same for all arms, the largest with at most `limit` members in all. So it depends on
    the units alone, and not on their order nor on who saw them: samples merge by union.
    """

    halvings: int = 0
    members: Mapping[ArmKey, frozenset[int]] = field(default_factory=dict)

    @property
    def threshold(self) -> int:
        """Hashes below it are in the sample."""
        return 1 << (_BITS - self.halvings)

    def below(self, halvings: int) -> UnitSample:
        """Return the sample under a threshold that is as low or lower."""
        bound = 1 << (_BITS - halvings)
        kept = {arm: frozenset(unit for unit in units if unit < bound) for arm, units in self.members.items()}
        return UnitSample(halvings, {arm: units for arm, units in kept.items() if units})


def merge_samples(samples: Iterable[UnitSample], limit: int = SAMPLE_LIMIT) -> UnitSample:
    """Return the sample of all units together: the union under the lowest threshold, or a lower one."""
    parts = list(samples)
    halvings = max((part.halvings for part in parts), default=0)
    union: dict[ArmKey, frozenset[int]] = {}
    for part in parts:
        for arm, units in part.below(halvings).members.items():
            union[arm] = union.get(arm, frozenset()) | units
    merged = UnitSample(halvings, union)
    while sum(map(len, merged.members.values())) > limit:
        merged = merged.below(merged.halvings + 1)
    return merged
