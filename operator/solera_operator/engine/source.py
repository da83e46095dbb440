"""
kopf as the source of events for the operator's own kinds.

kopf runs embedded, with `on.event` handlers alone, through a session of ours that lets nothing but GET
pass: it can write no annotation, no finalizer, no event and no peering object, whatever its settings say.

kopf does not report deletions that happened while its watch was broken, nor when its first list is
complete. So each of its lists (seen in the session) is followed by one of ours, whose difference to the
store is reported; from then on the store is whole.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import aiohttp
import kopf
import structlog

from solera_operator.engine import backoff
from solera_operator.engine.client import KubeClient
from solera_operator.engine.clock import Clock, SystemClock
from solera_operator.engine.errors import ApiError
from solera_operator.engine.resource import Resource
from solera_operator.engine.store import Index, Key, Store
from solera_operator.engine.tasks import cancel_and_wait

T = TypeVar("T")

_BACKOFF_BASE, _BACKOFF_CAP = 0.5, 5.0
_FIND_SECONDS = 15.0  # kopf looks for kinds only when it starts
_SETTLED = 30.0  # kopf running this long without falling over is a fresh start

log = structlog.get_logger(__name__)


class WriteRefused(RuntimeError):  # noqa: N818 - says what happened
    """kopf wanted to write."""


class Feed(Store[T], Generic[T]):
    """A Store that kopf feeds; the same reading side as a Reflector's. Made by `KopfSource.feed`."""

    def __init__(
        self,
        resource: Resource,
        project: Callable[[Mapping[str, Any]], T | None],
        on_change: Callable[[Key, T | None, T | None], None] | None,
        indexes: Mapping[str, Index[T]] | None,
    ) -> None:
        super().__init__(project, on_change, indexes)
        self.resource = resource
        self.unlisted: set[str | None] = set()

    def take(self, kind: str | None, obj: Mapping[str, Any]) -> None:
        """Take in one of kopf's events (kind None: from a list)."""
        if kind == "DELETED":
            self.remove(obj)
        else:
            self.observe(obj)


class KopfSource:
    """
    Runs kopf for a number of kinds.

    `feed` for each kind, then `run()` in a task until cancelled. kopf is started anew, after a pause, when
    it falls over (it gives up on an API server that answers 5xx for long, for instance).
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        namespaces: Sequence[str] = (),
        install_signals: Callable[[], None] | None = None,
        page_size: int = 500,
        clock: Clock | None = None,
    ) -> None:
        """
        `namespaces` empty: all of them.

        kopf takes SIGINT and SIGTERM for itself each time it starts; `install_signals` is called right
        after, so that the program's own handlers stand.
        """
        self._client = client
        self._namespaces = tuple(namespaces)
        self._install_signals = install_signals or (lambda: None)
        self._page_size = page_size
        self._clock = clock or SystemClock()
        self._rng = random.Random()  # noqa: S311 - jitter, no secret
        self._feeds: list[Feed[Any]] = []
        self._lists = asyncio.Queue[tuple[Feed[Any], str | None]]()

    def feed(
        self,
        resource: Resource,
        *,
        project: Callable[[Mapping[str, Any]], T | None],
        on_change: Callable[[Key, T | None, T | None], None] | None = None,
        indexes: Mapping[str, Index[T]] | None = None,
    ) -> Feed[T]:
        """Declare a kind to follow; before `run`."""
        feed = Feed(resource, project, on_change, indexes)
        feed.unlisted = set(self._namespaces or (None,))
        self._feeds.append(feed)
        self._client.metrics.watch_cache(
            resource.label, objects=lambda: len(feed), synced=lambda: float(feed.synced.is_set())
        )
        return feed

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._complete_lists(), name="kopf list completion")
            group.create_task(self._supervise(), name="kopf supervisor")

    async def _supervise(self) -> None:
        failures = 0
        while True:
            began = self._clock.monotonic()
            try:
                await self._run_kopf()
                reason = "it ended"
            except Exception as failure:  # noqa: BLE001 - whatever it was, kopf is to run again
                reason = f"{type(failure).__name__}: {failure}"
            failures = 1 if self._clock.monotonic() - began > _SETTLED else failures + 1
            wait = backoff.delay(failures, base=_BACKOFF_BASE, cap=_BACKOFF_CAP, rng=self._rng)
            log.warning("kopf stopped and is started again", reason=reason, wait=wait)
            await self._clock.sleep(wait)

    async def _run_kopf(self) -> None:
        # Not kopf.operator(): at its end that cancels every task of the loop younger than itself.
        tasks = await kopf.spawn_tasks(
            registry=self._registry(),
            settings=settings(self._page_size),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
        )
        self._install_signals()
        try:
            done, _ = await asyncio.wait(tasks, timeout=_FIND_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                if missing := [feed.resource.label for feed in self._feeds if feed.unlisted]:
                    raise LookupError(f"kopf finds no {', '.join(missing)}: are the CRDs installed?")
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            await cancel_and_wait(*tasks)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()  # the bare one: no log-in handlers of kopf's own
        kopf.on.login(registry=registry)(self._login)
        for feed in self._feeds:
            self._register(registry, feed)
        return registry

    @staticmethod
    def _register(registry: kopf.OperatorRegistry, feed: Feed[Any]) -> None:
        resource = feed.resource

        async def on_event(event: kopf.RawEvent, **_: object) -> None:
            feed.take(event["type"], dict(event["object"]))

        kopf.on.event(
            resource.group, resource.version, resource.plural, registry=registry, id=f"feed-{resource.plural}"
        )(on_event)

    async def _login(self, **_: object) -> kopf.AiohttpSession:
        session = self._client.new_session(_read_only, self._notice_lists)
        return kopf.AiohttpSession(server=self._client.credentials.server, aiohttp_session=session)

    async def _notice_lists(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Count kopf's requests, and note each list of ours that it begins."""
        response = await handler(request)
        verb, label = "get", "discovery"
        for feed in self._feeds:
            for namespace in self._namespaces or (None,):
                if request.url.path == feed.resource.path(namespace):
                    verb = "watch" if "watch" in request.url.query else "list"
                    label = feed.resource.label
                    # The first page fixes the list's version: ours, asked for later, is at least as new.
                    first = verb == "list" and "continue" not in request.url.query
                    if first and response.status == HTTPStatus.OK:
                        self._lists.put_nowait((feed, namespace))
        self._client.metrics.api_requests.labels(verb, label, str(response.status)).inc()
        return response

    async def _complete_lists(self) -> None:
        while True:
            wanted = {await self._lists.get()}
            while not self._lists.empty():
                wanted.add(self._lists.get_nowait())
            for feed, namespace in wanted:
                await self._complete(feed, namespace)

    async def _complete(self, feed: Feed[Any], namespace: str | None) -> None:
        """List once, so that the store also loses what vanished unseen; try until it works."""
        failures = 0
        while True:
            replacement = feed.replace(namespace)
            pages = self._client.list_pages(feed.resource, namespace, limit=self._page_size)
            try:
                async for items, version in pages:
                    replacement.page(items, version)
                    await asyncio.sleep(0)  # a long list must not starve probes and the Lease
            except ApiError as failure:
                failures += 1
                log.debug("list failed", resource=feed.resource.label, error=str(failure))
                wait = backoff.delay(failures, base=_BACKOFF_BASE, cap=_BACKOFF_CAP, rng=self._rng)
                await self._clock.sleep(wait)
                continue
            replacement.finish()
            feed.unlisted.discard(namespace)
            if not feed.unlisted:
                feed.synced.set()
            return


async def _read_only(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    if request.method != "GET":
        raise WriteRefused(f"kopf only reads here, but wanted {request.method} {request.url.path}")
    return await handler(request)


class _NoDiffs(kopf.DiffBaseStorage):
    """Compares nothing: by default kopf copies every object twice for each event, for handlers we lack."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


class _NoProgress(kopf.ProgressStorage):
    """Remembers nothing: there are no handlers that could be half done."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass

    def purge(self, **_: Any) -> None:
        pass

    def touch(self, **_: Any) -> None:
        pass

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def settings(page_size: int) -> kopf.OperatorSettings:
    """Make kopf a reader that keeps little, waits short and leaves signals and exits to us."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.persistence.diffbase_storage = _NoDiffs()
    chosen.persistence.progress_storage = _NoProgress()
    chosen.peering.standalone = True
    chosen.scanning.disabled = True  # our kinds are there before we start, and namespaces are given
    chosen.process.ultimate_exiting_timeout = None
    chosen.watching.chunk_size = page_size
    chosen.watching.server_timeout = 300
    chosen.watching.client_timeout = 320
    chosen.watching.connect_timeout = 5
    chosen.queueing.idle_timeout = 0.1  # a task an object, gone when its events are handed over
    chosen.queueing.exit_timeout = 0.5
    chosen.networking.request_timeout = 30
    chosen.networking.connect_timeout = 5
    chosen.networking.error_backoffs = (0.2, 0.5, 1, 2, 2, 2, 2, 2)
    return chosen
