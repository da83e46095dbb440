"""The queue of the prediction thread: small and large requests in lanes that share its time."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class _Lane(Generic[T]):
    def __init__(self) -> None:
        self.items: deque[T] = deque()
        self.clock = 0.0
        """Seconds that were spent on this lane; the one with fewer is next."""


class Lanes(Generic[T]):
    """
    Two queues. While both have something, each gets half of the time.

    A lane that was empty begins level with the other one: nobody saves up time. ``put`` and ``close`` are
    called on one thread, the rest on another.
    """

    def __init__(self) -> None:
        self._lanes: tuple[_Lane[T], _Lane[T]] = (_Lane(), _Lane())
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: T, *, large: bool) -> None:
        lane, other = self._lanes[large], self._lanes[not large]
        with self._changed:
            if not lane.items:
                lane.clock = max(lane.clock, other.clock)
            lane.items.append(item)
            self._changed.notify()

    def take(self, many: Callable[[deque[T]], int]) -> tuple[list[T], bool] | None:
        """
        Wait for items; return those that are next and whether they are large, or None when closed and empty.

        Of small items come as many at once as ``many`` says, of large ones a single one.
        """
        with self._changed:
            while not (self._lanes[False].items or self._lanes[True].items):
                if self._closed:
                    return None
                self._changed.wait()
            large = self._next_is_large()
            items = self._lanes[large].items
            return [items.popleft() for _ in range(1 if large else many(items))], large

    def put_back(self, item: T) -> None:
        """Let a large item go on when it is the turn of its lane again."""
        with self._changed:
            self._lanes[True].items.appendleft(item)

    def spent(self, seconds: float, *, large: bool) -> None:
        self._lanes[large].clock += seconds

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def __len__(self) -> int:
        return len(self._lanes[False].items) + len(self._lanes[True].items)

    def _next_is_large(self) -> bool:
        small, large = self._lanes
        if not small.items or not large.items:
            return bool(large.items)
        return large.clock < small.clock
