"""Kubernetes Events for transitions: best effort, deduplicated, limited; they never disturb a reconcile."""

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

import structlog

from solera_operator.engine.client import KubeClient, Object
from solera_operator.engine.clock import Clock, SystemClock, rfc3339
from solera_operator.engine.errors import ApiError
from solera_operator.engine.resource import EVENTS, names

_NOTE_LIMIT = 1024  # bytes
_ELLIPSIS = "…"
_QUEUE_LIMIT = 1000
_SAME_WITHIN = 300.0  # seconds in which the same event about an object is said once
_REMEMBERED = 5000
_BURST, _PER_SECOND = 50.0, 10.0

log = structlog.get_logger(__name__)


class EventRecorder:
    """`emit` from anywhere; `run()` in a task posts."""

    def __init__(
        self,
        client: KubeClient,
        *,
        controller: str = "solera.dev/operator",
        instance: str,
        clock: Clock | None = None,
    ) -> None:
        """`instance` is this process (the pod's name)."""
        self._client = client
        self._controller = controller
        self._instance = instance[:128]
        self._clock = clock or SystemClock()
        self._pending: asyncio.Queue[Object] = asyncio.Queue(_QUEUE_LIMIT)
        self._said: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._tokens = _BURST
        self._tokens_at = self._clock.monotonic()
        self._count = client.metrics.events

    def emit(
        self,
        regarding: Mapping[str, Any],
        *,
        reason: str,
        note: str,
        action: str,
        kind: Literal["Normal", "Warning"] = "Normal",
        related: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Say that something happened to an object (apiVersion, kind, metadata are needed).

        `reason` is why, `action` what was done about it, both PascalCase; `note` is for people (cut at
        1024 bytes). Returns at once; drops what was said lately or comes too fast.
        """
        said = (str(regarding["metadata"].get("uid")), reason, note)
        now = self._clock.monotonic()
        if now - self._said.get(said, float("-inf")) < _SAME_WITHIN:
            self._count.labels("duplicate").inc()
            return
        if not self._take_token(now) or self._pending.full():
            self._count.labels("limited").inc()
            return
        self._said[said] = now
        self._said.move_to_end(said)
        if len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        namespace, name = names(regarding)
        event: Object = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {
                "namespace": namespace or "default",
                "name": f"{name[:200]}.{uuid.uuid4().hex[:16]}",
            },
            "eventTime": rfc3339(self._clock.now(), micro=True),
            "reportingController": self._controller,
            "reportingInstance": self._instance,
            "action": action,
            "reason": reason,
            "type": kind,
            "note": _cut(note),
            "regarding": _reference(regarding),
        }
        if related is not None:
            event["related"] = _reference(related)
        self._pending.put_nowait(event)

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            event = await self._pending.get()
            try:
                await self._client.create(event)
            except ApiError as failure:
                self._count.labels("failed").inc()
                log.debug("event not posted", reason=event["reason"], error=str(failure))
            else:
                self._count.labels("posted").inc()
            finally:
                self._pending.task_done()

    async def drain(self, seconds: float = 2.0) -> None:
        """Give pending events some time to get out, at the end of the process."""
        try:
            async with asyncio.timeout(seconds):
                await self._pending.join()
        except TimeoutError:
            log.debug("events not posted before the end", pending=self._pending.qsize())

    def _take_token(self, now: float) -> bool:
        self._tokens = min(_BURST, self._tokens + (now - self._tokens_at) * _PER_SECOND)
        self._tokens_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def _cut(note: str) -> str:
    """Cut at the API's limit, which it says is in characters but counts in bytes."""
    whole = note.encode()
    if len(whole) <= _NOTE_LIMIT:
        return note
    return whole[: _NOTE_LIMIT - len(_ELLIPSIS.encode())].decode(errors="ignore") + _ELLIPSIS


def _reference(obj: Mapping[str, Any]) -> Object:
    metadata = obj["metadata"]
    fields = {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "namespace": metadata.get("namespace"),
        "name": metadata["name"],
        "uid": metadata.get("uid"),
        "resourceVersion": metadata.get("resourceVersion"),
    }
    return {field: value for field, value in fields.items() if value}
