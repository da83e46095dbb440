"""What is predicted together, where and in which order, and who is turned away."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_http import until
from request_bodies import NUMBERS

from solera_server.batch import Batch, InputError, Layout
from solera_server.codec import Call
from solera_server.costs import Costs, measure
from solera_server.job import Merger
from solera_server.lanes import Lanes
from solera_server.limits import Limits
from solera_server.message import Response
from solera_server.scheduler import SMALL_BODY, Scheduler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from solera_server.predictor import Outputs

LAYOUT = Layout(NUMBERS.features)


class Doubling:
    """Doubles the first number; says in which calls and threads; negative numbers are refused."""

    outputs: tuple[str, ...] = ("predict", "predict_proba")

    def __init__(self, *, kind: str = "compiled", merges: bool = True) -> None:
        self.kind = kind
        self.merges = merges
        self.calls: list[tuple[int, tuple[str, ...]]] = []
        self.threads: Counter[int] = Counter()
        self.gate = threading.Event()
        self.gate.set()
        self.row_seconds = 0.0
        self.call_seconds = 0.0

    def predict(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        self.gate.wait(10)
        if self.row_seconds or self.call_seconds:
            time.sleep(self.call_seconds + self.row_seconds * batch.rows)
        self.calls.append((batch.rows, tuple(outputs)))
        self.threads[threading.get_ident()] += 1
        values = batch.numbers[:, 0]
        bad = np.flatnonzero(values < 0)
        if bad.size:
            raise InputError(f"{batch.where(int(bad[0]), 0)}: negative")
        if (values > 1e6).any():
            raise RuntimeError("a defect")
        every = {"predict": values * 2, "predict_proba": np.stack([values, values], axis=1)}
        return {name: every[name] for name in outputs}


class Asked:
    """A job with one number a row; ``answer`` is what comes of it."""

    def __init__(
        self, *values: float, size: int = 100, outputs: tuple[str, ...] = ("predict",), decoded: bool = False
    ) -> None:
        self.size = size
        self.since = time.perf_counter()
        self.call: Call | None = None
        self.outputs: Outputs | None = None
        self.abandoned = False
        self.decodings = 0
        self.answer: Any = None
        self.order = 0
        self._wanted = outputs
        self._values = values
        if decoded:
            self.call = self.decode()

    def decode_short(self) -> Call:
        return self.decode()

    def decode(self) -> Call:
        self.decodings += 1
        if not self._values:
            raise InputError("no rows")
        numbers = np.array([[value, 0.0] for value in self._values])
        batch = Batch(len(self._values), numbers, (), lambda row, _feature: f"row {row} of {self._values}")
        return Call(batch, self._wanted, lambda outputs: Response(200, repr(outputs).encode()))

    def succeed(self, _call: Call, outputs: Outputs) -> Any:
        return {name: array.tolist() for name, array in outputs.items()}

    def fail(self, error: Exception) -> Any:
        return f"{type(error).__name__}: {error}"

    _delivered = 0

    def deliver(self, answer: Any) -> None:
        Asked._delivered += 1
        self.order = Asked._delivered
        self.answer = answer


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(asyncio.get_running_loop(), Limits(in_flight=500))
    scheduler.start()
    yield scheduler
    scheduler.stop()
    await until(lambda: not scheduler.alive)


def serving(scheduler: Scheduler, predictor: Doubling) -> Doubling:
    scheduler.serve(predictor, LAYOUT)
    predictor.calls.clear()
    predictor.threads.clear()
    return predictor


async def answered(scheduler: Scheduler, *jobs: Asked) -> list[Any]:
    for job in jobs:
        assert scheduler.submit(job) is None
    await until(lambda: all(job.answer is not None for job in jobs))
    assert scheduler.in_flight == 0
    return [job.answer for job in jobs]


async def test_what_arrives_in_one_turn_is_predicted_together_on_the_loop(scheduler: Scheduler) -> None:
    predictor = serving(scheduler, Doubling())
    found = await answered(scheduler, Asked(1, 2), Asked(3), Asked(4, 5, 6))
    assert found == [{"predict": [2, 4]}, {"predict": [6]}, {"predict": [8, 10, 12]}]
    assert predictor.calls == [(6, ("predict",))]
    assert list(predictor.threads) == [threading.get_ident()]
    await answered(scheduler, Asked(1))
    assert len(predictor.calls) == 2, "what comes later is not waited for"


async def test_outputs_are_those_that_each_request_asks_for(scheduler: Scheduler) -> None:
    predictor = serving(scheduler, Doubling())
    both = ("predict_proba", "predict")
    jobs = Asked(1), Asked(2, outputs=both), Asked(3)
    one, two, three = await answered(scheduler, *jobs)
    assert [set(job.outputs or ()) for job in jobs] == [{"predict"}, set(both), {"predict"}]
    assert (one["predict"], two["predict"], two["predict_proba"]) == ([2], [4], [[2, 2]])
    assert three["predict"] == [6]
    assert len(predictor.calls) == 1


@pytest.mark.parametrize("kind", ["compiled", "scikit-learn"])
async def test_an_error_of_one_request_touches_no_other(scheduler: Scheduler, kind: str) -> None:
    serving(scheduler, Doubling(kind=kind))
    found = await answered(scheduler, Asked(1), Asked(5, -1), Asked(2e6), Asked(), Asked(7, 8))
    assert found == [
        {"predict": [2]},
        "InputError: row 1 of (5, -1): negative",
        "RuntimeError: a defect",
        "InputError: no rows",
        {"predict": [14, 16]},
    ]


async def test_the_error_of_one_request_among_many_is_found_by_halving(scheduler: Scheduler) -> None:
    predictor = serving(scheduler, Doubling())
    values = [*range(40), -1, *range(23)]
    found = await answered(scheduler, *[Asked(value) for value in values])
    expected = [{"predict": [2 * value]} for value in values]
    assert found[:40] + found[41:] == expected[:40] + expected[41:]
    assert found[40] == "InputError: row 0 of (-1,): negative"
    assert len(predictor.calls) <= 13, "two for each of six halvings, and the first"


async def test_a_turn_of_bad_requests_lets_others_have_the_loop(scheduler: Scheduler) -> None:
    predictor = serving(scheduler, Doubling())
    predictor.call_seconds = 0.001  # a machine that is slower makes more turns of it, never fewer
    jobs = [Asked(value if value % 50 == 0 else -1) for value in range(200)]
    for job in jobs:
        assert scheduler.submit(job) is None
    turns, late = 0, Asked(7)
    while jobs[-1].answer is None:
        turns += 1
        await asyncio.sleep(0)
        if turns == 2:
            assert scheduler.submit(late) is None
    assert turns >= 20, "200 ms of calls in turns of about 5 ms"
    await until(lambda: scheduler.in_flight == 0)
    assert [job.answer for job in jobs[::50]] == [{"predict": [2 * value]} for value in range(0, 200, 50)]
    assert sum(job.answer == "InputError: row 0 of (-1,): negative" for job in jobs) == 196
    assert [job.order for job in jobs] == sorted(job.order for job in jobs), (
        "who came first is answered first"
    )
    assert late.answer == {"predict": [14]}
    assert list(predictor.threads) == [threading.get_ident()]


@pytest.mark.parametrize("kind", ["compiled", "scikit-learn"])
async def test_an_answer_that_cannot_be_delivered_stops_nothing(
    scheduler: Scheduler, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving(scheduler, Doubling(kind=kind))
    broken, *others = [Asked(1), Asked(2), Asked(3)]

    def fail(_answer: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(broken, "deliver", fail)
    assert scheduler.submit(broken) is None
    assert await answered(scheduler, *others) == [{"predict": [4]}, {"predict": [6]}]
    assert await answered(scheduler, Asked(4)) == [{"predict": [8]}]


async def test_scikit_learn_predicts_in_the_thread_and_one_by_one_unless_it_merges(
    scheduler: Scheduler,
) -> None:
    predictor = serving(scheduler, Doubling(kind="scikit-learn", merges=False))
    await answered(scheduler, *(Asked(value) for value in range(1, 6)))
    assert [rows for rows, _ in predictor.calls] == [1] * 5
    assert threading.get_ident() not in predictor.threads


async def test_small_requests_that_wait_for_the_thread_are_merged(scheduler: Scheduler) -> None:
    predictor = serving(scheduler, Doubling(kind="scikit-learn"))
    predictor.gate.clear()
    jobs = [Asked(value) for value in range(20)]
    for job in jobs:
        scheduler.submit(job)
    await until(lambda: scheduler.busy_seconds() > 0)
    assert (scheduler.in_flight, scheduler.queued) == (20, 20 - (20 - scheduler.queued))
    jobs[15].abandoned = True
    predictor.gate.set()
    await until(lambda: scheduler.in_flight == 0)
    assert [job.answer for job in jobs if job is not jobs[15]] == [
        {"predict": [2 * value]} for value in range(20) if value != 15
    ]
    assert len(predictor.calls) <= 3


async def test_a_large_request_is_cut_and_small_ones_go_between(scheduler: Scheduler) -> None:
    predictor = Doubling()
    predictor.row_seconds = 0.002
    serving(scheduler, predictor)
    large = Asked(*range(1, 101), size=SMALL_BODY + 1)
    assert scheduler.submit(large) is None
    await until(lambda: len(predictor.calls) > 5)
    small = Asked(5, size=10)
    assert scheduler.submit(small) is None
    await until(lambda: large.answer is not None and small.answer is not None)
    assert large.answer == {"predict": [2 * value for value in range(1, 101)]}
    assert small.order < large.order, "it need not wait for the whole of the large one"
    assert max(rows for rows, _ in predictor.calls) < 10


async def test_an_error_in_a_slice_is_the_error_of_its_request(scheduler: Scheduler) -> None:
    predictor = Doubling()
    predictor.row_seconds = 0.002
    serving(scheduler, predictor)
    values = [1.0] * 20 + [-1.0] + [1.0] * 20
    [found] = await answered(scheduler, Asked(*values, size=SMALL_BODY + 1))
    assert found.startswith("InputError: row 20 of ")
    assert sum(rows for rows, _ in predictor.calls) < 41, "nothing is predicted after that"


async def test_a_decoded_request_that_is_long_goes_to_the_thread(scheduler: Scheduler) -> None:
    predictor = Doubling()
    predictor.row_seconds = 0.0005
    serving(scheduler, predictor)
    await answered(scheduler, Asked(*range(30)))
    assert threading.get_ident() not in predictor.threads


async def test_an_answer_may_bring_the_next_request(scheduler: Scheduler) -> None:
    """As it does on a connection whose client sends ahead."""
    predictor = Doubling()
    predictor.row_seconds = 0.0008
    serving(scheduler, predictor)
    answers: list[Any] = []

    class Chained(Asked):
        def deliver(self, answer: Any) -> None:
            answers.append(answer)
            if len(answers) < 200:
                assert scheduler.submit(Chained(len(answers))) is None

    for value in range(20):
        assert scheduler.submit(Chained(value)) is None
    await until(lambda: scheduler.in_flight == 0)
    assert len(answers) == 219
    assert max(rows for rows, _ in predictor.calls) < 20, "a turn does not last long"


async def test_on_the_loop_too_who_would_wait_too_long_is_turned_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What rows cost is said, not measured: on a busy machine they cost more, and belong into the thread."""
    monkeypatch.setattr("solera_server.scheduler.measure", lambda *_: Costs(0.0, 0.0008, 100.0))
    monkeypatch.setattr(Costs, "observe", lambda *_: None)
    scheduler = Scheduler(asyncio.get_running_loop(), Limits(wait_seconds=0.1))
    scheduler.start()
    predictor = Doubling()
    serving(scheduler, predictor)
    jobs = [Asked(1) for _ in range(1000)]
    refused = [scheduler.submit(job) for job in jobs]
    taken = refused.index(1)
    assert 60 <= taken <= 140, f"{taken} of 0.0008 s each fit into 0.1 s"
    assert sum(job.decodings for job in jobs[taken:]) == 0
    await until(lambda: scheduler.in_flight == 0)
    assert list(predictor.threads) == [threading.get_ident()]
    assert max(rows for rows, _ in predictor.calls) <= 30, "turns stay short"
    assert scheduler.submit(Asked(1)) is None, "all is well again"
    await until(lambda: scheduler.in_flight == 0)
    scheduler.stop()
    await until(lambda: not scheduler.alive)


async def test_too_many_are_turned_away_before_they_are_decoded() -> None:
    scheduler = Scheduler(asyncio.get_running_loop(), Limits(in_flight=3))
    scheduler.start()
    predictor = serving(scheduler, Doubling(kind="scikit-learn"))
    predictor.gate.clear()
    jobs = [Asked(1) for _ in range(4)]
    assert [scheduler.submit(job) for job in jobs] == [None, None, None, 1]
    assert jobs[3].decodings == 0
    predictor.gate.set()
    await until(lambda: scheduler.in_flight == 0)
    assert scheduler.submit(Asked(1)) is None
    scheduler.stop()
    await until(lambda: not scheduler.alive)


async def test_who_would_wait_too_long_is_turned_away_and_told_when_to_come_again() -> None:
    scheduler = Scheduler(asyncio.get_running_loop(), Limits(wait_seconds=0.2))
    scheduler.start()
    predictor = Doubling(kind="scikit-learn", merges=False)
    predictor.row_seconds = 0.02
    serving(scheduler, predictor)
    jobs = [Asked(1, size=30) for _ in range(100)]
    refused = [scheduler.submit(job) for job in jobs]
    taken = refused.index(next(wait for wait in refused if wait is not None))
    assert 6 <= taken <= 15, f"{taken} of 0.02 s each fit into 0.2 s"
    assert set(refused[taken:]) == {1}
    assert sum(job.decodings for job in jobs[taken:]) == 0
    large = Asked(1, size=SMALL_BODY + 1)
    assert scheduler.submit(large) is None, "the large have a lane of their own"
    started = time.perf_counter()
    await until(lambda: scheduler.in_flight == 0)
    assert time.perf_counter() - started < 100 * 0.02, "what all of them would have taken"
    assert all(job.answer == {"predict": [2]} for job in jobs[:taken])
    scheduler.stop()
    await until(lambda: not scheduler.alive)


@pytest.mark.parametrize("kind", ["compiled", "scikit-learn"])
@pytest.mark.parametrize("merges", [True, False])
async def test_no_answer_depends_on_what_comes_beside_it(
    scheduler: Scheduler, kind: str, *, merges: bool
) -> None:
    generator = random.Random(5)
    serving(scheduler, Doubling(kind=kind, merges=merges))
    jobs, expected = [], []
    for _ in range(300):
        values = [float(generator.randrange(-1, 40)) for _ in range(generator.randrange(1, 6))]
        size = generator.choice([10, SMALL_BODY + 1])
        jobs.append(Asked(*values, size=size, decoded=generator.random() < 0.3))
        bad = next((row for row, value in enumerate(values) if value < 0), None)
        fine = {"predict": [2 * value for value in values]}
        expected.append(fine if bad is None else f"InputError: row {bad} of {tuple(values)}: negative")
    for job in jobs:
        scheduler.submit(job)
        if generator.random() < 0.1:
            await asyncio.sleep(0)
    await until(lambda: all(job.answer is not None for job in jobs))
    assert [job.answer for job in jobs] == expected


# -- bad requests among others -----------------------------------------------------------------------


def predicted_in_turns(merger: Merger, predictor: Doubling, jobs: list[Asked], deadline: float) -> list[Any]:
    answers: list[Any] = []
    while len(answers) < len(jobs):
        answers += merger.predict(predictor, jobs[len(answers) :], deadline)
    return answers


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.sampled_from([0.0, float("inf")]))
def test_each_gets_its_own_answer_however_short_turns_are(good: list[bool], deadline: float) -> None:
    jobs = [Asked(index + 1 if one else -index - 1, decoded=True) for index, one in enumerate(good)]
    merger, predictor = Merger(), Doubling()
    answers = predicted_in_turns(merger, predictor, jobs, deadline)
    assert answers == [
        {"predict": [2 * index + 2]} if one else f"InputError: row 0 of ({-index - 1},): negative"
        for index, one in enumerate(good)
    ]
    bad, depth = good.count(False), len(good).bit_length()
    assert len(predictor.calls) <= 1 + min(2 * len(good), 3 * depth * bad)


def test_where_all_are_bad_each_costs_one_call() -> None:
    predictor = Doubling()
    Merger().predict(predictor, [Asked(-1, decoded=True) for _ in range(500)])
    assert len(predictor.calls) <= 500 + 9


def test_a_turn_that_is_over_begins_no_call_but_its_first() -> None:
    merger, predictor = Merger(), Doubling()
    jobs = [Asked(-1, decoded=True) for _ in range(64)]
    assert merger.predict(predictor, jobs, 0.0) == []
    assert not merger.whole
    assert merger.predict(predictor, jobs, 0.0) == []
    assert [rows for rows, _ in predictor.calls] == [64, 32], "the next turn begins where this one ended"
    fine = [Asked(1, decoded=True) for _ in range(16)]
    assert len(merger.predict(predictor, fine, 0.0)) == 16
    assert merger.whole


# -- lanes and costs -------------------------------------------------------------------------------


def test_lanes_share_the_time() -> None:
    lanes: Lanes[str] = Lanes()
    for index in range(40):
        lanes.put(f"small {index}", large=False)
    for index in range(10):
        lanes.put(f"large {index}", large=True)
    spent = {False: 0.0, True: 0.0}
    order = []
    while len(lanes):
        taken = lanes.take(lambda _items: 1)
        assert taken is not None
        [item], large = taken
        order.append(item)
        seconds = 1.0 if large else 0.25
        spent[large] += seconds
        lanes.spent(seconds, large=large)
        if lanes._lanes[0].items and lanes._lanes[1].items:
            assert abs(spent[False] - spent[True]) <= 1.0
    assert [item for item in order if item.startswith("large")] == [f"large {index}" for index in range(10)]
    lanes.put("late", large=False)
    lanes.put("late large", large=True)
    assert lanes.take(len) == (["late"], False), "who was away has saved up nothing, and owes nothing"
    lanes.close()
    assert lanes.take(len) == (["late large"], True)
    assert lanes.take(len) is None


@given(st.floats(1e-6, 1e-2), st.floats(1e-8, 1e-3), st.floats(0.2, 5))
def test_costs_follow_the_load(fixed: float, per_row: float, factor: float) -> None:
    costs = Costs(fixed, per_row, 10.0)
    assert costs.of_rows(7) == pytest.approx(fixed + 7 * per_row)
    for rows in range(1, 200):
        costs.observe(rows, factor * (fixed + rows * per_row))
    assert costs.of_rows(10) == pytest.approx(factor * (fixed + 10 * per_row), rel=0.01)
    rows = costs.rows_within(0.005)
    assert rows == 1 or costs.of_rows(rows) <= 0.005 * 1.001


def test_one_stall_does_not_change_the_costs_much() -> None:
    costs = Costs(0.001, 0.0, 10.0)
    costs.observe(1, 5.0)
    assert costs.of_rows(1) < 0.0015


def test_costs_are_measured() -> None:
    predictor = Doubling()
    predictor.row_seconds = 0.0005
    costs = measure(predictor, LAYOUT)
    assert costs.of_rows(40) == pytest.approx(0.02, rel=0.5)
    quick = measure(Doubling(), LAYOUT)
    assert quick.of_rows(1) < 0.0005


class Refusing(Doubling):
    def predict(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        raise InputError(f"{batch.rows} {outputs}")


async def test_a_model_that_does_not_take_the_rows_of_the_measurement_is_served(scheduler: Scheduler) -> None:
    serving(scheduler, Refusing())
    assert await answered(scheduler, Asked(1)) == ["InputError: 1 ('predict',)"]
