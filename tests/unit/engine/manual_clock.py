"""A clock that stands still until the test moves it."""

import asyncio
import datetime as dt

_START = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


class ManualClock:
    def __init__(self) -> None:
        self.seconds = 100.0
        self._moved = asyncio.Event()

    def now(self) -> dt.datetime:
        return _START + dt.timedelta(seconds=self.seconds - 100.0)

    def monotonic(self) -> float:
        return self.seconds

    def move(self, seconds: float) -> None:
        self.seconds += seconds
        self._moved.set()
        self._moved = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        until = self.seconds + seconds
        while self.seconds < until:
            await self._moved.wait()

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        until = float("inf") if seconds is None else self.seconds + seconds
        while not event.is_set() and self.seconds < until:
            waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._moved.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        return event.is_set()
