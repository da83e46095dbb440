"""
Leadership by a Lease: one process writes, the others stand by with warm caches.

A Lease does not fence: a process that was stopped may wake up after its Lease ran out and write once more
before it notices. Preconditions and idempotent writes make that harmless; this module makes it rare.
"""

import asyncio
import os
import random
import uuid
from collections.abc import Callable
from typing import Any

import structlog

from solera_operator.engine.client import KubeClient, Object
from solera_operator.engine.clock import Clock, SystemClock, rfc3339
from solera_operator.engine.errors import AlreadyExists, ApiError, Conflict, Unavailable
from solera_operator.engine.resource import LEASES

RELEASES = 5  # attempts to release a Lease that changes under our hands
EXIT_LOST = 75  # EX_TEMPFAIL: the kubelet starts us again, as a candidate

log = structlog.get_logger(__name__)


def exit_at_once() -> None:
    """End the process without any clean-up: whatever still ran could still write."""
    os._exit(EXIT_LOST)


def new_identity() -> str:
    """Name this process: the pod's name and something that a restarted container does not share."""
    return f"{os.environ.get('POD_NAME') or os.uname().nodename}_{uuid.uuid4()}"


class Leadership:
    """
    Candidate for a Lease.

    `run()` (in a task) acquires and renews. `leading` is set while we lead. When the Lease cannot be
    renewed in time, or somebody else has it, `on_lost` is called, by default the end of the process.
    Give it a KubeClient of its own, so that no other request stands before its.
    """

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        *,
        identity: str | None = None,
        duration: float = 6.0,
        renew_every: float = 2.0,
        deadline: float = 4.5,
        clock: Clock | None = None,
        on_lost: Callable[[], None] = exit_at_once,
    ) -> None:
        """`duration` is the Lease's; without a renewal for `deadline` seconds, which is less, we give up."""
        if not 0 < renew_every < deadline < duration:
            raise ValueError(
                "Lease times must be renew_every < deadline < duration, "
                f"not {renew_every}, {deadline}, {duration}"
            )
        self.identity = identity or new_identity()
        self.leading = asyncio.Event()
        self._client = client
        self._namespace = namespace
        self._name = name
        self._duration = duration
        self._renew_every = renew_every
        self._deadline = deadline
        self._clock = clock or SystemClock()
        self._on_lost = on_lost
        self._rng = random.Random()  # noqa: S311 - jitter, no secret
        self._seen: tuple[Any, ...] = ()  # what the Lease said, and
        self._seen_at = 0.0  # since when it has said so, by our clock: clocks of other machines do not count
        self._contact_at = float("-inf")
        self._renewed_at = 0.0
        self._lease: Object | None = None
        self._stopping = False

    @property
    def standing_by(self) -> bool:
        """Whether we do not lead, but could read the Lease lately and so would notice its end."""
        since_contact = self._clock.monotonic() - self._contact_at
        return not self.leading.is_set() and since_contact < 3 * self._duration

    async def run(self) -> None:
        """Acquire, renew, and return after a loss (if `on_lost` returned) or a release."""
        while not self._stopping and not await self._acquire():
            await self._clock.sleep(self._pause())
        if self._stopping:
            return
        log.info("leading", lease=self._name, identity=self.identity)
        self.leading.set()
        self._client.metrics.leader.set(1)
        while not self._stopping:
            await self._clock.sleep(self._renew_every)
            if not self._stopping and not await self._renew():
                break
        if not self._stopping:
            self.leading.clear()
            self._client.metrics.leader.set(0)
            self._on_lost()

    async def release(self) -> None:
        """Give the Lease up after everything else has stopped, so that a successor need not wait."""
        self._stopping = True
        was_leading = self.leading.is_set()
        self.leading.clear()
        self._client.metrics.leader.set(0)
        if not was_leading or self._lease is None:
            return
        try:
            await self._give_up(self._lease)
        except ApiError as failure:
            log.warning("lease not released; it will run out", lease=self._name, error=str(failure))

    async def _give_up(self, lease: Object) -> None:
        """Clear the holder; a renewal of ours that was under way may have changed the Lease meanwhile."""
        for _ in range(RELEASES):
            try:
                await self._client.replace(self._claim(lease, holder="", duration=1.0))
            except Conflict:
                found = await self._client.get(LEASES, self._namespace, self._name)
                holder = ((found or {}).get("spec") or {}).get("holderIdentity")
                if found is None or holder != self.identity:
                    log.info("lease is not ours any more: not released", lease=self._name, holder=holder)
                    return
                lease = found
            else:
                log.info("lease released", lease=self._name)
                return
        log.warning("lease not released, as it kept changing; it will run out", lease=self._name)

    def _pause(self) -> float:
        """Wait until the Lease could run out, but look at least every two seconds for a release."""
        left = self._duration - (self._clock.monotonic() - self._seen_at)
        return min(max(left, 0.1), self._renew_every) * self._rng.uniform(0.8, 1.0)

    async def _acquire(self) -> bool:
        try:
            async with asyncio.timeout(self._deadline):
                lease = await self._client.get(LEASES, self._namespace, self._name)
                self._contact_at = self._clock.monotonic()
                if lease is not None and not self._free(lease):
                    return False
                asked = self._clock.monotonic()
                self._lease = await self._take(lease)
        except (Conflict, AlreadyExists) as failure:
            log.debug("somebody else was faster", lease=self._name, error=str(failure))
        except (ApiError, TimeoutError) as failure:
            quiet = isinstance(failure, (Unavailable, TimeoutError))
            (log.debug if quiet else log.warning)("lease not acquired", lease=self._name, error=str(failure))
        else:
            self._renewed_at = asked
            return True
        return False

    def _free(self, lease: Object) -> bool:
        """Whether the Lease is nobody's, or was not renewed for its duration while we looked on."""
        spec = lease.get("spec") or {}
        said = (spec.get("holderIdentity"), spec.get("renewTime"), lease["metadata"]["resourceVersion"])
        now = self._clock.monotonic()
        if said != self._seen:
            self._seen, self._seen_at = said, now
        if not spec.get("holderIdentity"):
            return True
        return now - self._seen_at >= float(spec.get("leaseDurationSeconds") or self._duration)

    async def _take(self, lease: Object | None) -> Object:
        if lease is not None:
            return await self._client.replace(
                self._claim(lease, holder=self.identity, duration=self._duration)
            )
        metadata = {"namespace": self._namespace, "name": self._name}
        bare: Object = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata}
        return await self._client.create(self._claim(bare, holder=self.identity, duration=self._duration))

    async def _renew(self) -> bool:
        """Renew; try again until the deadline. False: the Lease is lost, or we are giving it up."""
        while not self._stopping:
            left = self._renewed_at + self._deadline - self._clock.monotonic()
            if left <= 0:
                log.critical("lease lost: not renewed in time", lease=self._name, deadline=self._deadline)
                return False
            try:
                async with asyncio.timeout(left):
                    asked = self._clock.monotonic()
                    self._lease = await self._renew_once()
            except (ApiError, TimeoutError) as failure:
                log.warning("lease not renewed yet", lease=self._name, error=str(failure))
            else:
                if self._lease is None:
                    return False
                self._renewed_at = asked
                return True
            await self._clock.sleep(0.2)
        return False

    async def _renew_once(self) -> Object | None:
        """Renew what we hold; None when somebody else holds it now."""
        assert self._lease is not None  # noqa: S101 - only called after _acquire
        claim = self._claim(self._lease, holder=self.identity, duration=self._duration)
        try:
            return await self._client.replace(claim)
        except Conflict:  # a lost answer of ours, somebody's label, or another holder
            lease = await self._client.get(LEASES, self._namespace, self._name)
            holder = ((lease or {}).get("spec") or {}).get("holderIdentity")
            if self._stopping:  # it is ours to release, not to renew
                return None
            if lease is None or holder != self.identity:
                log.critical("lease lost: somebody else has it", lease=self._name, holder=holder)
                return None
            return await self._client.replace(
                self._claim(lease, holder=self.identity, duration=self._duration)
            )

    def _claim(self, lease: Object, *, holder: str, duration: float) -> Object:
        before = lease.get("spec") or {}
        now = rfc3339(self._clock.now(), micro=True)
        transitions = int(before.get("leaseTransitions") or 0)
        changed = before.get("holderIdentity") != holder
        spec: Object = {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(duration)),
            "acquireTime": now if changed else before.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": transitions + 1 if changed and holder and before else transitions,
        }
        return {**lease, "spec": spec}
