"""The store: whatever order lists, changes and one's own answers come in, it ends equal to the truth."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from solera_operator.engine.store import Key, Replacement, Store

NAMES = st.sampled_from(["a", "b", "c"])
PAYLOADS = st.integers(min_value=0, max_value=3)  # 0 is projected away


def obj(key: Key, version: int, payload: int) -> dict[str, Any]:
    metadata = {"namespace": key[0], "name": key[1], "resourceVersion": str(version)}
    return {"metadata": metadata, "payload": payload}


def project(found: Mapping[str, Any]) -> int | None:
    return found["payload"] or None


class StoreMachine(RuleBasedStateMachine):
    """
    A server with a history, one stream of changes that breaks, lists in pages, answers that come late.

    Changes of one object arrive in order, those of different objects in any order (as from kopf, which
    is less than what a watch guarantees).
    """

    def __init__(self) -> None:
        super().__init__()
        self.version = 10
        self.objects: dict[Key, dict[str, Any]] = {}
        self.connected = False
        self.pending: dict[Key, deque[tuple[str, dict[str, Any]]]] = {}
        self.missed: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[dict[str, Any]] = []
        self.replacement: Replacement[int] | None = None
        self.pages: deque[list[dict[str, Any]]] | None = None
        self.list_version = 0
        self.needs_list = True
        self.own_writes: dict[Key, int] = {}  # versions that we were told
        self.reported: dict[Key, int] = {}  # what the listener believes
        self.store = Store(project, self.on_change, {"payload": lambda value: [value]})

    def on_change(self, key: Key, old: int | None, new: int | None) -> None:
        assert old != new
        assert self.reported.get(key) == old, (
            f"{key}: told {old} -> {new}, but last was {self.reported.get(key)}"
        )
        if new is None:
            del self.reported[key]
        else:
            self.reported[key] = new

    # the server

    def happens(self, kind: str, found: dict[str, Any]) -> None:
        if self.connected:
            self.pending.setdefault(("ns", found["metadata"]["name"]), deque()).append((kind, found))
        else:
            self.missed.append((kind, found))

    def written(self, name: str, payload: int) -> dict[str, Any]:
        self.version += 1
        found = obj(("ns", name), self.version, payload)
        self.happens("MODIFIED" if ("ns", name) in self.objects else "ADDED", found)
        self.objects["ns", name] = found
        return found

    @rule(name=NAMES, payload=PAYLOADS)
    def write(self, name: str, payload: int) -> None:
        self.written(name, payload)

    @rule(name=NAMES, payload=PAYLOADS)
    def own_write(self, name: str, payload: int) -> None:
        self.answers.append(self.written(name, payload))

    @precondition(lambda self: self.objects)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.objects)))
        self.version += 1
        found = self.objects.pop(key)
        self.happens("DELETED", obj(key, self.version, found["payload"]))

    # what reaches the store

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def answer_arrives(self, data: st.DataObject) -> None:
        answer = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        self.store.observe(answer)
        key, version = ("ns", answer["metadata"]["name"]), int(answer["metadata"]["resourceVersion"])
        self.own_writes[key] = max(version, self.own_writes.get(key, 0))

    @precondition(lambda self: any(self.pending.values()))
    @rule(data=st.data())
    def change_arrives(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(key for key, queue in self.pending.items() if queue)))
        kind, found = self.pending[key].popleft()
        if kind == "DELETED":
            self.store.remove(found)
        else:
            self.store.observe(found)

    @precondition(lambda self: self.connected)
    @rule()
    def stream_breaks(self) -> None:
        self.connected = False

    @precondition(lambda self: not self.connected and not self.needs_list)
    @rule()
    def stream_resumes(self) -> None:
        self.connected = True
        missed, self.missed = self.missed, []
        for kind, found in missed:
            self.happens(kind, found)

    @precondition(lambda self: not self.connected)
    @rule(replayed=st.booleans())
    def stream_expires(self, replayed: bool) -> None:
        """410: the stream begins anew at the present; kopf replays what is there, a watch does not."""
        self.connected, self.needs_list, self.missed = True, True, []
        if replayed:
            for found in self.objects.values():
                self.happens("ADDED", found)

    @precondition(lambda self: self.replacement is None and self.connected)
    @rule()
    def list_is_asked_for(self) -> None:
        self.replacement, self.pages, self.needs_list = self.store.replace(), None, False

    @precondition(lambda self: self.replacement is not None and self.pages is None)
    @rule(size=st.integers(1, 3))
    def server_makes_the_list(self, size: int) -> None:
        found, self.list_version = list(self.objects.values()), self.version
        self.pages = deque(found[i : i + size] for i in range(0, len(found), size)) or deque([[]])

    @precondition(lambda self: self.pages)
    @rule()
    def page_arrives(self) -> None:
        assert self.replacement is not None
        assert self.pages
        self.replacement.page(self.pages.popleft(), str(self.list_version))
        if not self.pages:
            self.replacement.finish()
            self.replacement = self.pages = None

    # what must hold

    @invariant()
    def own_writes_are_not_read_stale(self) -> None:
        for key, told in self.own_writes.items():
            entry = self.store._entries.get(key)
            if entry is not None:
                assert entry.version >= told, f"{key}: told {told}, store has {entry.version}"

    @invariant()
    def index_and_listener_agree_with_the_store(self) -> None:
        held = dict(zip(self.store.keys(), self.store.values(), strict=True))
        assert held == self.reported
        for payload in range(1, 4):
            assert len(self.store.by_index("payload", payload)) == sum(v == payload for v in held.values())
        assert set(self.store._indexed["payload"]) == set(held.values()), "empty index entries are kept"

    def teardown(self) -> None:
        """Let everything arrive: then the store is the truth."""
        if not self.connected:
            self.stream_expires(replayed=False)
        while self.replacement is not None or self.needs_list:
            if self.replacement is None:
                self.list_is_asked_for()
            if self.pages is None:
                self.server_makes_the_list(size=2)
            while self.pages:
                self.page_arrives()
        for queue in self.pending.values():
            while queue:
                kind, found = queue.popleft()
                (self.store.remove if kind == "DELETED" else self.store.observe)(found)
        for answer in self.answers:
            self.store.observe(answer)
        truth = {key: project(found) for key, found in self.objects.items() if project(found) is not None}
        assert dict(zip(self.store.keys(), self.store.values(), strict=True)) == truth


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None, report_multiple_bugs=False
)


def test_a_list_of_one_namespace_leaves_the_others_alone():
    store = Store[int](project)
    store.observe(obj(("one", "a"), 1, 1))
    store.observe(obj(("two", "a"), 2, 2))
    replacement = store.replace("one")
    replacement.page([], "5")
    replacement.finish()
    assert list(store.keys()) == [("two", "a")]


def test_an_answer_about_what_was_deleted_meanwhile_is_not_believed():
    store = Store[int](project)
    store.observe(obj(("ns", "a"), 1, 1))
    store.remove(obj(("ns", "a"), 3, 1))
    store.observe(obj(("ns", "a"), 2, 2))
    assert store.get("ns", "a") is None
    store.observe(obj(("ns", "a"), 4, 3))
    assert store.get("ns", "a") == 3


def test_the_deletion_of_a_predecessor_does_not_remove_its_successor():
    store = Store[int](project)
    store.observe(obj(("ns", "a"), 7, 1))
    store.remove(obj(("ns", "a"), 6, 1))
    assert store.get("ns", "a") == 1


def test_after_a_restore_from_a_backup_the_list_is_believed():
    store = Store[int](project)
    store.observe(obj(("ns", "kept"), 1000, 1))
    store.observe(obj(("ns", "new"), 1001, 1))
    store.remove(obj(("ns", "deleted"), 1002, 1))
    replacement = store.replace()
    replacement.page([obj(("ns", "kept"), 400, 2), obj(("ns", "deleted"), 300, 3)], "500")
    replacement.finish()
    assert dict(zip(store.keys(), store.values(), strict=True)) == {("ns", "kept"): 2, ("ns", "deleted"): 3}


def test_one_object_that_cannot_be_projected_does_not_hide_the_others():
    def picky(found: Mapping[str, Any]) -> int:
        return 1 // found["payload"]

    store = Store[int](picky)
    store.observe(obj(("ns", "bad"), 1, 0))
    store.observe(obj(("ns", "good"), 2, 1))
    assert list(store.keys()) == [("ns", "good")]


def test_a_listener_that_fails_does_not_stop_the_stream():
    def fails(*_: object) -> None:
        raise RuntimeError("listener")

    store = Store[int](project, fails)
    store.observe(obj(("ns", "a"), 1, 1))
    assert store.get("ns", "a") == 1


def test_a_list_without_pages_is_a_mistake():
    with pytest.raises(ValueError, match="call page"):
        Store[int](project).replace().finish()


def test_unknown_indexes_are_a_mistake():
    with pytest.raises(KeyError):
        Store[int](project).by_index("nope", 1)
