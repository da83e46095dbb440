"""Reflector: a store that is kept equal to a collection of the API server by list and watch."""

import asyncio
import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from solera_operator.engine import backoff
from solera_operator.engine.client import KubeClient
from solera_operator.engine.clock import Clock, SystemClock
from solera_operator.engine.errors import ApiError, Gone, NotFound, Unavailable
from solera_operator.engine.resource import Resource
from solera_operator.engine.store import Index, Key, Reader, Store

__all__ = ["Index", "Key", "Reader", "Reflector", "Store"]

T = TypeVar("T")

_BACKOFF_BASE = 0.2
_BACKOFF_CAP = 5.0
_ABSENT = 30.0  # between two looks for a kind that is not installed
_HASTY = 1.0  # a watch that ends sooner than this counts as a failure

log = structlog.get_logger(__name__)


class Reflector(Store[T]):
    """
    A Store fed by paged list and watch with bookmarks.

    A broken watch goes on where it stopped; one that is too old (410) is followed by a new list, whose
    difference to the store is reported like any change, deletions included. Call `run()` in a task; it
    ends only by cancellation. `synced` is set after the first full list of every namespace.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        *,
        project: Callable[[Mapping[str, Any]], T | None],
        on_change: Callable[[Key, T | None, T | None], None] | None = None,
        namespaces: Sequence[str] = (),
        label_selector: str | None = None,
        field_selector: str | None = None,
        indexes: Mapping[str, Index[T]] | None = None,
        optional: bool = False,
        page_size: int = 500,
        watch_seconds: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        """
        `namespaces` empty: all of them, in one list and watch.

        `optional`: the kind need not be installed. Until it is there are no objects, and `synced` is set.
        """
        super().__init__(project, on_change, indexes)
        self.resource = resource
        self._client = client
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._collection = _Collection(
            client,
            resource,
            label_selector,
            field_selector,
            page_size,
            watch_seconds,
            clock or SystemClock(),
            optional=optional,
        )
        self._unlisted = set(self._namespaces)
        client.metrics.watch_cache(
            resource.label, objects=lambda: len(self), synced=lambda: float(self.synced.is_set())
        )

    async def run(self) -> None:
        """Follow the collection until cancelled."""
        async with asyncio.TaskGroup() as group:
            for namespace in self._namespaces:
                follower = _Follower(self._collection, namespace, self, self._on_listed)
                group.create_task(follower.run(), name=f"reflector {self.resource.label} {namespace or ''}")

    def _on_listed(self, namespace: str | None) -> None:
        self._unlisted.discard(namespace)
        if not self._unlisted:
            self.synced.set()


@dataclasses.dataclass(frozen=True, slots=True)
class _Collection:
    """What is followed, and how."""

    client: KubeClient
    resource: Resource
    labels: str | None
    fields: str | None
    page_size: int
    watch_seconds: float | None
    clock: Clock
    optional: bool


class _Follower:
    """List and watch of one namespace (or of all)."""

    def __init__(
        self,
        collection: _Collection,
        namespace: str | None,
        store: Store[Any],
        on_listed: Callable[[str | None], None],
    ) -> None:
        self._collection = collection
        self._namespace = namespace
        self._store = store
        self._on_listed = on_listed
        self._position: str | None = None  # version up to which we know everything; None: list first
        self._failures = 0  # in a row, without anything in between
        self._expired = 0  # likewise
        self._absent = False  # the kind was not installed when we looked last
        self._rng = random.Random()  # noqa: S311 - jitter, no secret

    async def run(self) -> None:
        clock, collection = self._collection.clock, self._collection
        while True:
            began = clock.monotonic()
            try:
                await self._step()
                self._failures = self._failures + 1 if clock.monotonic() - began < _HASTY else 0
                reason = "ended"
            except ApiError as failure:
                if collection.optional and isinstance(failure, NotFound):
                    await self._await_kind()
                    continue
                reason = self._recover(failure)
            collection.client.metrics.watch_restarts.labels(collection.resource.label, reason).inc()
            if self._failures:
                wait = backoff.delay(self._failures, base=_BACKOFF_BASE, cap=_BACKOFF_CAP, rng=self._rng)
                await clock.sleep(wait)

    async def _await_kind(self) -> None:
        """The kind is not installed: say so once, and look again later."""
        if not self._absent:
            log.info("kind is not installed", resource=self._collection.resource.label, again=_ABSENT)
        self._absent = True
        self._position = None
        self._failures = 0
        self._on_listed(self._namespace)
        await self._collection.clock.sleep(_ABSENT)

    def _recover(self, failure: ApiError) -> str:
        """Decide where to go on after a failure: at the same place, or with a new list."""
        stale = isinstance(failure, Gone) or failure.caused_by("ResourceVersionTooLarge")
        if stale:  # the server is well: list soon, whatever the failures before
            self._expired += 1
            self._failures = self._expired
        else:
            self._failures += 1
        if stale or not isinstance(failure, Unavailable):
            self._position = None
        quiet = stale or (isinstance(failure, Unavailable) and self._failures < 3)
        (log.debug if quiet else log.warning)(
            "watch interrupted",
            resource=self._collection.resource.label,
            namespace=self._namespace,
            failures=self._failures,
            error=str(failure),
        )
        return "expired" if stale else "error"

    async def _step(self) -> None:
        if self._position is None:
            self._position = await self._list()
            self._failures = 0
        await self._watch(self._position)

    async def _list(self) -> str:
        collection, replacement = self._collection, self._store.replace(self._namespace)
        version = ""
        pages = collection.client.list_pages(
            collection.resource,
            self._namespace,
            collection.labels,
            field_selector=collection.fields,
            limit=collection.page_size,
        )
        async for items, version in pages:
            replacement.page(items, version)
            await asyncio.sleep(0)  # a long list must not starve probes and the Lease
        replacement.finish()
        self._absent = False
        self._on_listed(self._namespace)
        return version

    async def _watch(self, position: str) -> None:
        collection = self._collection
        changes = collection.client.watch(
            collection.resource,
            self._namespace,
            collection.labels,
            resource_version=position,
            field_selector=collection.fields,
            timeout=collection.watch_seconds,
        )
        async for kind, obj in changes:
            if kind == "DELETED":
                self._store.remove(obj)
            elif kind != "BOOKMARK":
                self._store.observe(obj)
            self._position = obj["metadata"]["resourceVersion"]
            self._failures = self._expired = 0
