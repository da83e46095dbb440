"""Exponential back-off with jitter."""

import random


def delay(failures: int, *, base: float, cap: float, rng: random.Random) -> float:
    """
    Seconds to wait after so many failures in a row (1 or more): base, 2 base, 4 base … up to the cap.

    The last half is drawn at random, so that what failed together does not come back together.
    """
    whole = min(cap, base * 2.0 ** min(failures - 1, 30))
    return whole * rng.uniform(0.5, 1.0)
