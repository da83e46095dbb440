"""What is remembered of Gateways: little, for a short time, and no absence."""

from datetime import UTC, datetime

from solera_operator.api.trainedmodel import Gateway
from solera_operator.controllers.gateways import REMEMBERED_SECONDS, Gateways


class Clock:
    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 2, tzinfo=UTC)

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Cluster:
    """Answers the only request that is made: a Gateway."""

    def __init__(self) -> None:
        self.reads: list[tuple[str, str]] = []
        self.absent: set[str] = set()

    async def get(self, _: object, namespace: str, name: str) -> dict | None:
        self.reads.append((namespace, name))
        if name in self.absent:
            return None
        return {"spec": {"listeners": [{"name": "http", "protocol": "HTTP"}]}}


def gateway(name: str, hostname: str = "a.example.com", section: str | None = None) -> Gateway:
    return Gateway.model_validate(
        {"name": name, "hostname": hostname} | ({"sectionName": section} if section else {})
    )


async def test_models_with_hostnames_of_their_own_share_what_is_known_of_one_gateway():
    cluster, clock = Cluster(), Clock()
    gateways = Gateways(cluster, clock)
    for number in range(100):
        assert (
            await gateways.listener(gateway("public", f"m{number}.example.com"), "models")
        ).scheme == "http"
    assert cluster.reads == [("models", "public")]
    await gateways.listener(gateway("public", section="http"), "models")
    await gateways.listener(gateway("public"), "other")
    assert cluster.reads == [("models", "public"), ("models", "public"), ("other", "public")]


async def test_what_is_old_is_forgotten():
    cluster, clock = Cluster(), Clock()
    gateways = Gateways(cluster, clock)
    for number in range(100):
        await gateways.listener(gateway(f"g{number}"), "models")
    clock.seconds = REMEMBERED_SECONDS
    await gateways.listener(gateway("g0"), "models")
    assert len(cluster.reads) == 101
    assert len(gateways._known) == 1


async def test_an_absent_gateway_is_looked_for_each_time():
    cluster = Cluster()
    cluster.absent.add("late")
    gateways = Gateways(cluster, Clock())
    assert "there is no Gateway models/late" in (await gateways.listener(gateway("late"), "models")).problem
    cluster.absent.clear()
    assert (await gateways.listener(gateway("late"), "models")).scheme == "http"
