"""The largest report of counters that its bounds permit, and who waits for it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest

from solera_core.baseline import LABEL, SCORE
from solera_core.counters import Layout
from solera_server import management
from solera_server.counter_memory import Boot, CounterMemory
from solera_server.counter_report import CounterReport
from solera_server.counters import MAX_BINS
from solera_server.health import Verdict
from solera_server.http_server import HttpServer
from solera_server.limits import Limits
from solera_server.metrics import Metrics
from solera_server.run import SWITCH_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator


def filled(kept: int) -> CounterMemory:
    """Return memory in which every place of every window is taken, by large numbers."""
    features = tuple((f"x{index}", 16) for index in range(MAX_BINS // 16))
    layout = Layout(features, ((LABEL, 100), (SCORE, 12)), (0.01, 0.05, 0.1, 0.25, 0.5, 1.0))
    now = [0.0]
    made = CounterMemory(layout, Boot("pod", "b", 0.0, 0.0, lambda: now[-1]), seconds=60, kept=kept)
    random = np.random.default_rng(5)
    for number in range(kept + 1):
        region = made.region(0, number)
        region["arms"], region["outcomes"], region["units"] = 16, 48, made.unit_limit
        region["arm_names"]["arm"] = [f"a{index}".encode() for index in range(16)]
        region["outcome_names"]["version"] = [f"v{index}".encode() for index in range(48)]
        for name in ("features", "predictions", "tallies"):
            region[name][...] = random.integers(10**6, size=region[name].shape)
        region["sums"][...] = random.integers(10**6, size=region["sums"].shape)
        region["unit_hash"][:] = random.integers(2**63, size=made.unit_limit)
    now.append(kept * 60 + 30.0)
    return made


@pytest.fixture
def switching() -> Iterator[None]:
    """Have threads give way as soon as in a server."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("switching")
async def test_the_largest_report_is_made_beside_the_event_loop() -> None:
    made = filled(3)
    expected = CounterReport(made, "m", "m-v1", "sha256:0").document()
    reporter = CounterReport(made, "m", "m-v1", "sha256:0")

    class Good:
        def live(self) -> Verdict:
            return Verdict(good=True, reason="ok")

        ready = live

    probes = HttpServer(management.router(Good(), Metrics("m", "v"), lambda: reporter), Limits())
    port = await probes.listen("127.0.0.1", 0)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            reading, turns = asyncio.create_task(client.get("/counters")), 0
            while not reporter._encoded.keys() >= {0, 1, 2}:
                await asyncio.sleep(0.001)
                turns += 1
            answer = await reading
    finally:
        probes.stop_listening()
        await probes.finish(asyncio.get_running_loop().time() + 1)
    assert answer.content == expected
    assert turns >= 5, "the loop stood still meanwhile"
