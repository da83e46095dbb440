from __future__ import annotations

import fcntl
import os
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solera_server.replay import Entry, ReplayTable


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3), st.integers(1, 40)), max_size=120),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_no_label_is_counted_twice_however_small_the_table(steps, buckets, ways):
    """Time goes on by a step each; receipts are of moments before. Those beyond the age are not entered."""
    table = ReplayTable(buckets, ways)
    taken = set()
    issued = {}
    for now, (number, row, age) in enumerate(steps, start=100):
        time = issued.setdefault(number, now - age)
        oldest = now - 30
        if time < oldest:
            continue
        entry = table.enter(number.to_bytes(8, "big"), row, time, oldest)
        if entry is Entry.NEW:
            assert (number, row) not in taken
            taken.add((number, row))
        elif entry is Entry.SEEN:
            assert (number, row) in taken


@given(st.lists(st.tuples(st.binary(min_size=8, max_size=8), st.integers(0, 63)), max_size=60, unique=True))
@settings(max_examples=30, deadline=None)
def test_while_there_is_room_every_label_is_taken_once(labels):
    table = ReplayTable()
    for nonce, row in labels:
        assert table.enter(nonce, row, 1000, 500) is Entry.NEW
    for nonce, row in labels:
        assert table.enter(nonce, row, 1000, 500) is Entry.SEEN
    assert table.entries == len(labels)


def test_a_full_table_takes_younger_receipts_and_refuses_older_ones():
    table = ReplayTable(1, 4)
    for number in range(4):
        assert table.enter(bytes([number] * 8), 0, 1000 + number, 0) is Entry.NEW
    assert table.enter(b"younger!", 0, 2000, 0) is Entry.NEW
    assert table.enter(bytes([0] * 8), 0, 1000, 0) is Entry.FORGOTTEN
    assert table.enter(b"older!!!", 0, 1000, 0) is Entry.FORGOTTEN
    assert table.enter(b"between!", 0, 1002, 0) is Entry.NEW
    assert table.enter(bytes([3] * 8), 0, 1003, 0) is Entry.SEEN


def test_what_is_too_old_to_be_taken_makes_room():
    table = ReplayTable(1, 2)
    assert table.enter(b"first...", 0, 100, 50) is Entry.NEW
    assert table.enter(b"second..", 0, 110, 50) is Entry.NEW
    assert table.enter(b"third...", 0, 300, 200) is Entry.NEW
    assert table.enter(b"fourth..", 0, 200, 200) is Entry.NEW
    assert table.enter(b"third...", 0, 300, 200) is Entry.SEEN


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_processes_share_it_and_one_that_is_killed_holds_up_nobody():
    table = ReplayTable(4, 4)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        table.enter(b"12345678", 3, 1000, 0)
        fcntl.lockf(table._lock, fcntl.LOCK_EX)  # every stripe of it
        os.write(writing, b"x")
        signal.pause()
    os.read(reading, 1)
    assert table.enter(b"12345678", 3, 1000, 0) is Entry.BUSY, "who waited for the lock would hang here"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert table.enter(b"12345678", 3, 1000, 0) is Entry.SEEN
    assert table.enter(b"12345678", 4, 1000, 0) is Entry.NEW
