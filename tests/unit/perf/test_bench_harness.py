"""The benchmark harness against our own server, smallest case: what it measures is there, and wrong is noticed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from serving_bench import models
from serving_bench.cases import CASES, bodies
from serving_bench.open_loop import Phase, play
from serving_bench.overload_figures import counts, goodput, windows
from serving_bench.process_tree import ProcessTree
from serving_bench.running import NotCorrect, Running
from serving_bench.servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IRIS = next(case for case in CASES if case.name == "iris")
V1 = next(case for case in CASES if case.name == "iris-v1")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def running(build: Path) -> Iterator[Running]:
    one = Running(SERVERS["solera"], models.model("iris", build), build, cpu=None)
    yield one
    one.tree.stop()
    assert not one.tree.pids()


def test_it_answers_as_scikit_learn_in_both_protocols(running: Running) -> None:
    for case in (IRIS, V1):
        path, form = running.where(case)
        running.check(path, bodies(running.model, form, 1)[:8])
    assert 0 < running.cold_start < 60


def test_a_wrong_answer_is_noticed(running: Running) -> None:
    path, form = running.where(IRIS)
    body, labels = bodies(running.model, form, 1)[0]
    with pytest.raises(NotCorrect, match="expected \\['tulip'\\]"):
        running.check(path, [(body, ["tulip"] * len(labels))])


def test_cpu_and_memory_of_the_tree_are_read(running: Running) -> None:
    path, form = running.where(IRIS)
    before = running.tree.cpu_seconds()
    running.exercise(path, [body for body, _ in bodies(running.model, form, 1)], 0.5)
    assert running.tree.cpu_seconds() > before
    assert 20 < running.tree.memory_mb() < 1000


def test_a_frozen_server_does_not_run_and_wakes(running: Running) -> None:
    running.tree.freeze()
    # A signal and the kernel's accounts take a moment; a server that runs takes a tick in every second.
    until, before = time.monotonic() + 10, -1.0
    while running.tree.cpu_seconds() != before:
        assert time.monotonic() < until, "it goes on running"
        before = running.tree.cpu_seconds()
        time.sleep(0.2)
    running.tree.thaw()
    path, form = running.where(IRIS)
    running.check(path, bodies(running.model, form, 1)[:1])


def test_open_loop_sends_what_was_planned(running: Running) -> None:
    path, form = running.where(IRIS)
    asked = [body for body, _ in bodies(running.model, form, 1)][:16]
    played = play(running.port, path, [*asked, b"{}"], [Phase(100, 0.5), Phase(200, 0.5)], deadline=5)
    found = counts(played.outcomes)
    assert set(found) == {"200", "400"}, found
    assert 100 < sum(found.values()) < 210
    assert goodput(played.outcomes, 0, 60) == found["200"] / 60
    assert sum(window.good + window.bad for window in windows(played.outcomes, 0, 1)) == len(played.outcomes)
    assert all(one.latency >= 0 for one in played.outcomes)


def test_open_loop_gives_up_at_the_deadline(running: Running) -> None:
    path, form = running.where(IRIS)
    asked = [bodies(running.model, form, 1)[0][0]]
    running.tree.freeze()
    try:
        played = play(running.port, path, asked, [Phase(50, 0.3)], deadline=0.3, most=3)
    finally:
        running.tree.thaw()
    found = counts(played.outcomes)
    assert set(found) <= {"gave up", "unsent"}, found
    assert found["unsent"] > 0


def test_a_server_that_ends_is_told_with_its_words(build: Path) -> None:
    tree = ProcessTree(
        ["sh", "-c", "echo no such model; exit 3"], {}, build / "log", cpu=None, folder=build / "folder"
    )
    tree.wait(10)  # Stopped at once, it would say nothing.
    tree.stop()
    assert "no such model" in tree.output()


@pytest.mark.parametrize("rows", [1, 32])
def test_bodies_differ_and_name_their_answers(rows: int, build: Path) -> None:
    made = bodies(models.model("iris", build), SERVERS["solera"].body, rows)
    assert len({body for body, _ in made}) == len(made) >= 64
    assert all(len(labels) == rows for _, labels in made)
    assert all(json.loads(body)["inputs"][0]["shape"] == [rows, 4] for body, _ in made)
