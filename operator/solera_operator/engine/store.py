"""
A projected copy of a collection that never goes back in time.

Three sources feed a store: full lists, a stream of changes, and the answers to one's own writes. They
arrive in any order, so every change is judged by its resourceVersion (a growing integer, which the API
guarantees to be comparable within one resource).
"""

import asyncio
import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import structlog

from solera_operator.engine.resource import names

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Key = tuple[str, str]  # namespace ("" where there is none), name
Index = Callable[[T], Iterable[Hashable]]

_TOMBSTONES = 10_000  # deletions remembered, against answers that arrive after them
_EVERYWHERE = ""

log = structlog.get_logger(__name__)


class Reader(Protocol[T_co]):
    """What controllers see of a cache, wherever it is fed from."""

    synced: asyncio.Event

    def get(self, namespace: str, name: str) -> T_co | None: ...

    def by_index(self, index: str, value: Hashable) -> Sequence[T_co]: ...

    def values(self) -> Iterator[T_co]: ...

    def keys(self) -> Iterator[Key]: ...

    def observe(self, obj: Mapping[str, Any]) -> None: ...

    def __len__(self) -> int: ...


@dataclasses.dataclass(slots=True)
class _Entry(Generic[T]):
    version: int
    value: T


class Store(Generic[T]):
    """
    Keeps `project(object)` by key; `on_change(key, old, new)` is called when the projection changed.

    `project` returns None for objects that are of no interest. `indexes` maps a name to a function that
    gives the values under which a projection is found. All methods are synchronous; the store belongs to
    one event loop.
    """

    def __init__(
        self,
        project: Callable[[Mapping[str, Any]], T | None],
        on_change: Callable[[Key, T | None, T | None], None] | None = None,
        indexes: Mapping[str, Index[T]] | None = None,
    ) -> None:
        self.synced = asyncio.Event()
        self._project = project
        self._on_change = on_change
        self._indexes = dict(indexes or {})
        self._entries: dict[Key, _Entry[T]] = {}
        self._indexed: dict[str, dict[Hashable, dict[Key, None]]] = {name: {} for name in self._indexes}
        self._complete_at: dict[str, int] = {}  # namespace (or everywhere) -> version of its last full list
        self._deleted_at: dict[Key, int] = {}
        self._highest = -1  # of all versions seen; a list requested later cannot be older

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, namespace: str, name: str) -> T | None:
        entry = self._entries.get((namespace, name))
        return None if entry is None else entry.value

    def keys(self) -> Iterator[Key]:
        return iter(list(self._entries))

    def values(self) -> Iterator[T]:
        return iter([entry.value for entry in self._entries.values()])

    def by_index(self, index: str, value: Hashable) -> list[T]:
        """Find all projections under this value. Raises KeyError for an index that was not declared."""
        return [self._entries[key].value for key in self._indexed[index].get(value, ())]

    def observe(self, obj: Mapping[str, Any]) -> None:
        """
        Take in an object that the API server has just answered with, or that a watch has brought.

        Nothing happens when the store knows better: a newer version, or a later deletion.
        """
        key, version = names(obj), version_of(obj)
        self._highest = max(self._highest, version)
        entry = self._entries.get(key)
        if version <= (entry.version if entry is not None else self._gone_at(key)):
            return
        value = self._projected(key, obj)
        if value is None:  # as good as deleted, so its version must be remembered likewise
            self._bury(key, version)
        else:
            self._deleted_at.pop(key, None)
            self._set(key, version, value)

    def remove(self, obj: Mapping[str, Any]) -> None:
        """Take in a deletion; `obj` carries the version of the deletion."""
        key, version = names(obj), version_of(obj)
        self._highest = max(self._highest, version)
        entry = self._entries.get(key)
        if version < (entry.version if entry is not None else self._gone_at(key)):
            return  # we know something newer: another object of that name has come since
        self._bury(key, version)

    def replace(self, scope: str | None = None) -> "Replacement[T]":
        """Begin a full list of one namespace (None: of all). Call it before the list is requested."""
        return Replacement(self, scope or _EVERYWHERE, self._highest)

    def sweep(self, scope: str, seen: set[Key], version: int) -> None:
        """Remove what a full list at this version did not have, unless it has come since."""
        for key, entry in list(self._entries.items()):
            if _covers(scope, key) and key not in seen and entry.version <= version:
                self._set(key, version, None)
        self._complete_at[scope] = version
        for key, deleted in list(self._deleted_at.items()):
            if _covers(scope, key) and deleted <= version:
                del self._deleted_at[key]

    def rewind(self, scope: str) -> None:
        """Believe whatever comes next: the cluster was restored from a backup, versions start lower again."""
        self._highest = -1
        self._complete_at.pop(scope, None)
        for key, entry in self._entries.items():
            if _covers(scope, key):
                entry.version = -1
        for key in [key for key in self._deleted_at if _covers(scope, key)]:
            del self._deleted_at[key]

    def _gone_at(self, key: Key) -> int:
        """Find the version up to which this key, absent now, is known to be absent."""
        everywhere = self._complete_at.get(_EVERYWHERE, -1)
        namespace = self._complete_at.get(key[0], -1)
        return max(self._deleted_at.get(key, -1), everywhere, namespace)

    def _projected(self, key: Key, obj: Mapping[str, Any]) -> T | None:
        try:
            return self._project(obj)
        except Exception:  # one object that cannot be read must not blind us to the others
            log.exception("object cannot be projected", namespace=key[0], name=key[1])
            return None

    def _bury(self, key: Key, version: int) -> None:
        self._deleted_at.pop(key, None)
        self._deleted_at[key] = version
        if len(self._deleted_at) > _TOMBSTONES:
            del self._deleted_at[next(iter(self._deleted_at))]
        self._set(key, version, None)

    def _set(self, key: Key, version: int, value: T | None) -> None:
        before = self._entries.get(key)
        old = None if before is None else before.value
        if value is None:
            self._entries.pop(key, None)
        elif before is None:
            self._entries[key] = _Entry(version, value)
        else:
            before.version, before.value = version, value
        if old == value:
            return
        self._reindex(key, old, value)
        if self._on_change is not None:
            try:
                self._on_change(key, old, value)
            except Exception:  # a listener's mistake must not stop the watch
                log.exception("change listener failed", namespace=key[0], name=key[1])

    def _reindex(self, key: Key, old: T | None, new: T | None) -> None:
        for name, values_of in self._indexes.items():
            found = self._indexed[name]
            before = set(values_of(old)) if old is not None else set()
            after = set(values_of(new)) if new is not None else set()
            for value in before - after:
                found[value].pop(key)
                if not found[value]:
                    del found[value]
            for value in after - before:
                found.setdefault(value, {})[key] = None


class Replacement(Generic[T]):
    """A full list on its way into a store, page by page: `page(items, version)` …, then `finish()`."""

    def __init__(self, store: Store[T], scope: str, floor: int) -> None:
        self._store = store
        self._scope = scope
        self._floor = floor
        self._version: int | None = None
        self._seen: set[Key] = set()

    def page(self, items: Iterable[Mapping[str, Any]], version: str) -> None:
        """Take in one page. `version` is the list's, the same on all pages."""
        if self._version is None:
            self._version = int(version)
            if self._version < self._floor:
                self._store.rewind(self._scope)
        for item in items:
            self._seen.add(names(item))
            self._store.observe(item)

    def finish(self) -> None:
        """Remove from the store what the list did not have."""
        if self._version is None:
            raise ValueError("a full list has at least one page: call page() before finish()")
        self._store.sweep(self._scope, self._seen, self._version)


def _covers(scope: str, key: Key) -> bool:
    return scope in (_EVERYWHERE, key[0])


def version_of(obj: Mapping[str, Any]) -> int:
    """Read an object's resourceVersion as a number. Raises ValueError when it is none."""
    return int(obj["metadata"]["resourceVersion"])
