"""What Solera asks of a Gateway: whether it exists, and whether its listener speaks TLS."""

from dataclasses import dataclass

from solera_operator.api.trainedmodel import Gateway
from solera_operator.engine.client import KubeClient
from solera_operator.engine.clock import Clock
from solera_operator.engine.errors import Forbidden, NotFound
from solera_operator.engine.resource import GATEWAYS

REMEMBERED_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Listener:
    """``problem`` says why there is none; ``scheme`` is http or https, None when it may not be read."""

    scheme: str | None = None
    problem: str = ""


class Gateways:
    """Reads Gateways, which belong to somebody else and change rarely; remembers them for half a minute."""

    def __init__(self, client: KubeClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[tuple[str, str, str], tuple[float, Listener]] = {}

    async def listener(self, gateway: Gateway, namespace: str) -> Listener:
        """The listener that a route attaches to; ``namespace`` is the model's."""
        now = self._clock.monotonic()
        gateway = gateway.model_copy(update={"namespace": gateway.namespace or namespace})
        where = (gateway.namespace or namespace, gateway.name, gateway.section_name or "")
        known = self._known.get(where)
        if known is not None and now - known[0] < REMEMBERED_SECONDS:
            return known[1]
        found = await self._read(gateway)
        self._known = {k: v for k, v in self._known.items() if now - v[0] < REMEMBERED_SECONDS}
        if not found.problem:  # a Gateway that is made now is to be found now
            self._known[where] = (now, found)
        return found

    async def _read(self, gateway: Gateway) -> Listener:
        try:
            obj = await self._client.get(GATEWAYS, gateway.namespace, gateway.name)
        except (Forbidden, NotFound):
            # Not ours to read (rights in one namespace only), or no Gateway API: the route's status tells.
            return Listener()
        where = f"{gateway.namespace}/{gateway.name}"
        if obj is None:
            return Listener(problem=f"spec.serving.gateway: there is no Gateway {where}")
        listeners = {one["name"]: one["protocol"] for one in obj["spec"].get("listeners", ())}
        if gateway.section_name is None:
            secure = "HTTP" not in listeners.values()
            return Listener(scheme="https" if secure else "http")
        protocol = listeners.get(gateway.section_name)
        if protocol is None:
            have = ", ".join(listeners) or "none"
            return Listener(
                problem=f"spec.serving.gateway.sectionName: Gateway {where} has no listener "
                f"{gateway.section_name}; it has: {have}"
            )
        return Listener(scheme="http" if protocol == "HTTP" else "https")
