"""
Counting what a process answers, off the hot path: requests are noted one by one and folded in bulk.

Folding runs on the event loop, a few hundred requests at a time and at least four times a second; rows of
large requests are folded in pieces, one a turn of the loop.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from solera_core.baseline import LABEL, SCORE, Baseline, score
from solera_core.counters import CORRECT, ERROR, LABELS, OUTCOME_FIELDS, SQUARED_ERROR, Layout, OutcomeKey
from solera_core.histogram import CategoricalBins
from solera_core.units import BUCKETS, GROUP_SHIFT, GROUPS
from solera_server.counter_memory import (
    GRACE_SECONDS,
    MAX_ARMS,
    MAX_OUTCOMES,
    TALLIES,
    CounterMemory,
    arm_names,
    outcome_names,
)
from solera_server.subjects import MORE_ARMS, NOBODY, UNIT, arm_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from solera_core.histogram import Bins
    from solera_core.schema import Schema
    from solera_server.batch import Batch
    from solera_server.predictor import Outputs
    from solera_server.subjects import Arm, Subject

MAX_BINS = 4096
"""Features are counted in the schema's order as far as this many bins go."""
MAX_NOTED = 512
"""Requests that may wait to be folded."""
MAX_GROUPS = 256
"""Groups of them that may: what came one by one takes longer to fold, and holds up what comes then."""
MAX_CELLS = 65_536
"""Rows times columns that are folded in one turn of the loop."""
_MAX_CLASSES = 100


@dataclass(frozen=True, slots=True)
class Counted:
    """Which columns of a batch and which outputs are counted, in which bins, beginning at which offset."""

    layout: Layout
    numbers: tuple[tuple[int, int, Bins], ...]
    """Column of ``Batch.numbers``, offset, bins."""
    texts: tuple[tuple[int, int, CategoricalBins], ...]
    """Position in ``Batch.texts``, offset, bins."""
    outputs: tuple[tuple[str, int, Bins], ...]
    left_out: int
    """Features that have no counters."""


def counted(schema: Schema, baseline: Baseline | None, thresholds: Sequence[float]) -> Counted:
    """Return what is counted for a model; without a baseline no features, and labels only."""
    features, numbers, texts = [], [], []
    offset = number = text = 0
    for feature in schema.features if baseline is not None else ():
        bins = baseline.features[feature.name].bins if baseline is not None else CategoricalBins(())
        if offset + bins.size > MAX_BINS:
            break
        if isinstance(bins, CategoricalBins):  # as baseline.py has checked
            texts.append((text, offset, bins))
            text += 1
        else:
            numbers.append((number, offset, bins))
            number += 1
        features.append((feature.name, bins.size))
        offset += bins.size
    outputs, predictions = [], []
    offset = 0
    for name, bins in _prediction_bins(schema, baseline):
        outputs.append((name, offset, bins))
        predictions.append((name, bins.size))
        offset += bins.size
    layout = Layout(tuple(features), tuple(predictions), tuple(thresholds))
    left_out = len(schema.features) - len(features)
    return Counted(layout, tuple(numbers), tuple(texts), tuple(outputs), left_out)


def _prediction_bins(schema: Schema, baseline: Baseline | None) -> list[tuple[str, Bins]]:
    if baseline is not None and baseline.predictions:
        return [(name, histogram.bins) for name, histogram in baseline.predictions.items()]
    classes = schema.target.classes
    return [] if classes is None else [(LABEL, CategoricalBins(classes[:_MAX_CLASSES]))]


class Noted(NamedTuple):
    """
    Requests that were answered alike at one ``moment``, a reading of the steady clock.

    Sequences have an item for each request; their rows follow each other in the batch and the outputs.
    """

    subjects: Sequence[Subject]
    status: int
    seconds: Sequence[float]
    moment: float
    rows: Sequence[int]
    batch: Batch | None
    outputs: Outputs | None

    def apart(self) -> Iterator[Noted]:
        """Yield each request by itself."""
        stop = 0
        for subject, taken, rows in zip(self.subjects, self.seconds, self.rows, strict=True):
            start, stop = stop, stop + rows
            batch = None if self.batch is None else self.batch.slice(start, stop)
            outputs = self.outputs and {name: array[start:stop] for name, array in self.outputs.items()}
            yield Noted((subject,), self.status, (taken,), self.moment, (rows,), batch, outputs)


Item = tuple[
    "Sequence[Subject]",
    int,
    "Sequence[float]",
    float,
    "Sequence[int]",
    "Batch | None",
    "Outputs | None",
]
"""What Noted holds: a plain tuple is made faster."""


class _Open:
    """A window that this process counts in, with what a fold needs at hand."""

    def __init__(self, region: Any, limit: int) -> None:
        self.region = region
        self._limit = limit
        self._arms = {name: index for index, name in enumerate(arm_names(region))}
        self.places: dict[Arm, int] = {}
        """Where arms stand, by the headers that name them."""
        self._outcomes = {name: index for index, name in enumerate(outcome_names(region))}
        count = int(region["units"])
        self._units = count
        self._known: dict[int, set[int]] = {}
        for arm, number in zip(
            region["unit_arm"][:count].tolist(), region["unit_hash"][:count].tolist(), strict=True
        ):
            self._known.setdefault(arm, set()).add(number)

    @property
    def arms(self) -> int:
        return len(self._arms)

    def arm(self, raw: Arm) -> int:
        """Return the place of an arm."""
        index = self.places.get(raw)
        if index is None:
            index = self._arm(arm_key(raw))
            if len(self.places) < 1024:
                self.places[raw] = index
        return index

    def _arm(self, key: tuple[str, int]) -> int:
        index = self._arms.get(key)
        if index is None:
            if len(self._arms) >= MAX_ARMS - 1 and key[0] != MORE_ARMS:
                return self._arm((MORE_ARMS, 0))
            index = self._arms[key] = len(self._arms)
            self.region["arm_names"][index] = (key[0].encode(), key[1])
            self.region["arms"] = index + 1
        return index

    def outcome(self, key: OutcomeKey) -> Any:
        """Return the sums of an outcome; shape (fields, buckets)."""
        index = self._outcomes.get(key)
        if index is None:
            if len(self._outcomes) >= MAX_OUTCOMES - 1 and key.arm != MORE_ARMS:
                return self.outcome(OutcomeKey(MORE_ARMS, MORE_ARMS, 0, 0, 0.0))
            index = self._outcomes[key] = len(self._outcomes)
            values = (key.version.encode(), key.arm.encode(), key.epoch, key.day, key.clip)
            self.region["outcome_names"][index] = values
            self.region["outcomes"] = index + 1
        return self.region["sums"][index]

    def add_units(self, arms: NDArray[np.intp], hashes: NDArray[np.uint64]) -> None:
        """Take units into the sample, and lower its threshold while it has too many."""
        region = self.region
        halvings = int(region["halvings"])
        if halvings:
            below = hashes < np.uint64(1 << (64 - halvings))
            arms, hashes = arms[below], hashes[below]
        for arm in np.unique(arms).tolist():
            known = self._known.setdefault(arm, set())
            new = set(hashes[arms == arm].tolist()) - known
            known |= new
            room = len(new) <= self._limit - self._units
            self._units += len(new)
            if new and room:
                self._write(self._units - len(new), [(arm, number) for number in new])
        if self._units > self._limit:
            self._lower(halvings)

    def _lower(self, halvings: int) -> None:
        """Lower the threshold of the sample until it has no more units than it may."""
        while self._units > self._limit:
            halvings += 1
            bound = 1 << (64 - halvings)
            self._known = {
                arm: {number for number in units if number < bound} for arm, units in self._known.items()
            }
            self._units = sum(map(len, self._known.values()))
        self.region["halvings"] = halvings
        self._write(0, [(arm, number) for arm, units in self._known.items() for number in units])

    def _write(self, start: int, items: list[tuple[int, int]]) -> None:
        region, stop = self.region, start + len(items)
        if items:
            region["unit_arm"][start:stop] = [arm for arm, _ in items]
            region["unit_hash"][start:stop] = np.array([number for _, number in items], dtype=np.uint64)
        region["units"] = stop


class Counters:
    """
    The counters of one process. ``note`` is for the hot path; ``fold`` is to be called now and then.

    What is noted more than a second after its window's end counts in the window that is open then, since
    the other may have been read.
    """

    def __init__(self, memory: CounterMemory, what: Counted, process: int = 0) -> None:
        self._memory, self._what, self._process = memory, what, process
        self._noted: list[Item] = []
        self._large: deque[tuple[Noted, int]] = deque()
        self._windows: dict[int, _Open] = {}
        self._thresholds = what.layout.thresholds
        self._columns = max(1, len(what.numbers) + len(what.texts) + len(what.outputs))
        self._piece = max(1, MAX_CELLS // self._columns)
        self._requests = self._cells = 0
        self._random = np.random.default_rng()

    def note(self, noted: Item) -> bool:
        """Note answered requests; True when it is time to fold."""
        batch = noted[5]
        if batch is not None:
            self._cells += batch.rows
            if batch.rows > self._piece and len(noted[0]) > 1:
                self._noted.extend(Noted(*noted).apart())
                return True
        self._noted.append(noted)
        self._requests += len(noted[0])
        return self._requests >= MAX_NOTED or len(self._noted) >= MAX_GROUPS or self._cells >= self._piece

    def fold(self) -> bool:
        """Count what was noted, and one piece of a large request; True while there is more to fold."""
        noted, self._noted, self._requests, self._cells = self._noted, [], 0, 0
        start = 0
        while start < len(noted):
            number = self._number(noted[start][3])
            stop = len(noted)
            if self._number(noted[-1][3]) != number:
                stop = next(i for i in range(start, stop) if self._number(noted[i][3]) != number)
            self._fold(noted[start:stop], self._window(number))
            start = stop
        if self._large:
            self._fold_piece()
        return bool(self._large)

    def finish(self) -> None:
        """Fold all there is."""
        while self.fold():
            pass

    def outcome(
        self, key: OutcomeKey, bucket: int, *, correct: bool = False, error: int = 0, square: int = 0
    ) -> None:
        """Count a label that arrived for a prediction; error and square in steps."""
        now = self._memory.boot.now()
        sums = self._window(self._memory.number(now)).outcome(key)
        for name, value in ((LABELS, 1), (CORRECT, int(correct)), (ERROR, error), (SQUARED_ERROR, square)):
            sums[OUTCOME_FIELDS.index(name), bucket] += value

    def _number(self, moment: float) -> int:
        """Return the window in which something that happened at a moment can still be counted."""
        memory = self._memory
        number = memory.number(memory.boot.at(moment))
        now = memory.boot.now()
        if now > (number + 1) * memory.seconds + GRACE_SECONDS:
            return memory.number(now)
        return number

    def _window(self, number: int) -> _Open:
        window = self._windows.get(number)
        if window is None:
            for old in [other for other in self._windows if other < number - 1]:
                del self._windows[old]
            region = self._memory.region(self._process, number)
            window = self._windows[number] = _Open(region, self._memory.unit_limit)
        return window

    def _fold(self, noted: list[Item], window: _Open) -> None:
        subjects, statuses, seconds, moments, sizes, batches, outputs = zip(*noted, strict=True)
        place = np.repeat(np.arange(len(noted)), [len(one) for one in subjects])
        arm, number, has_unit = self._subjects(subjects, window)
        bucket = (number % np.uint64(BUCKETS)).astype(np.intp)
        rows = np.array([*chain.from_iterable(sizes)], np.intp)
        index = arm * BUCKETS + bucket
        taken = np.array([*chain.from_iterable(seconds)], np.float64)
        self._tally(window, index, rows, np.array(statuses, np.intp)[place], taken)
        if has_unit.any():
            window.add_units(arm[has_unit], number[has_unit])
        if not rows.any():
            return
        group = ((number >> np.uint64(GROUP_SHIFT)) % np.uint64(GROUPS)).astype(np.intp)
        if not has_unit.all():
            group = np.where(has_unit, group, self._subwindows(np.array(moments)[place]))
        large = rows > self._piece  # and so a request by itself: ``note`` sees to that
        for request in np.flatnonzero(large).tolist():
            self._large.append((Noted(*noted[place[request]]), int(group[request])))
        chosen = (rows > 0) & ~large
        if not chosen.all():
            kept, place = np.unique(place[chosen], return_inverse=True)
            batches = tuple(batches[index] for index in kept.tolist())
            outputs = tuple(outputs[index] for index in kept.tolist())
            rows, arm, group = rows[chosen], arm[chosen], group[chosen]
        if len(rows):
            self._count(window, batches, outputs, of=place, rows=rows, arm=arm, group=group)

    def _subjects(
        self, groups: Sequence[Sequence[Subject]], window: _Open
    ) -> tuple[NDArray[np.intp], NDArray[np.uint64], NDArray[np.bool_]]:
        """Return for each request the place of its arm, its number, and whether that is a unit's."""
        subjects, lengths = _runs(groups)
        raw, kinds, numbers = zip(*subjects, strict=True)
        get = window.places.get
        places = [get(one) for one in raw]
        if None in places:
            places = [window.arm(one) for one in raw]
        kind, number = np.array(kinds, np.int8).repeat(lengths), np.array(numbers, np.uint64).repeat(lengths)
        if NOBODY in kinds:
            drawn = self._random.integers(2**64, size=len(number), dtype=np.uint64)
            number = np.where(kind == NOBODY, drawn, number)
        return np.array(places, np.intp).repeat(lengths), number, kind == UNIT

    def _subwindows(self, moments: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return groups for requests without a unit: by time, since what comes together is alike."""
        seconds, boot = self._memory.seconds, self._memory.boot
        found = ((moments + boot.at(0.0)) % seconds * GROUPS / seconds).astype(np.intp)
        return np.minimum(found, GROUPS - 1)

    def _tally(
        self,
        window: _Open,
        index: NDArray[np.intp],
        rows: NDArray[np.intp],
        status: NDArray[np.intp],
        seconds: NDArray[np.float64],
    ) -> None:
        size = window.arms * BUCKETS
        tallies = window.region["tallies"][: window.arms]

        def add(place: int, found: NDArray[Any]) -> None:
            tallies[:, place] += found.reshape(-1, BUCKETS).astype(np.uint32)

        add(0, np.bincount(index, minlength=size))
        add(1, np.bincount(index, weights=rows, minlength=size))
        if status.max() >= 400:
            add(2, np.bincount(index[(status >= 400) & (status < 500)], minlength=size))
            add(3, np.bincount(index[status >= 500], minlength=size))
        longest = seconds.max()
        for place, threshold in enumerate(self._thresholds):
            if longest > threshold:
                add(len(TALLIES) + place, np.bincount(index[seconds > threshold], minlength=size))

    def _count(
        self,
        window: _Open,
        batches: Sequence[Batch],
        outputs: Sequence[Outputs],
        *,
        of: NDArray[np.intp],
        rows: NDArray[np.intp],
        arm: NDArray[np.intp],
        group: NDArray[np.intp],
    ) -> None:
        """
        Count features and predictions of requests.

        Arrays have an item for each request; ``of`` says in which of the batches its rows are.
        """
        what, single = self._what, bool((rows == 1).all())
        group_of_row = group if single else np.repeat(group, rows)
        base = group_of_row * self._memory.bins
        found = []
        if what.numbers:
            numbers = np.concatenate([batch.numbers for batch in batches])
            found += [base + offset + bins.codes(numbers[:, column]) for column, offset, bins in what.numbers]
        for position, offset, bins in what.texts:
            texts = list(chain.from_iterable(batch.texts[position] for batch in batches))
            found.append(base + offset + bins.codes(texts))
        if found:
            features = window.region["features"]
            features += np.bincount(np.concatenate(found), minlength=len(features)).astype(np.uint32)
        for name, start, kind in what.outputs:
            cell = arm * GROUPS + group
            self._count_output(window, (name, start, kind), outputs, of=of, rows=rows, cell=cell)

    def _count_output(
        self,
        window: _Open,
        output: tuple[str, int, Bins],
        outputs: Sequence[Outputs],
        *,
        of: NDArray[np.intp],
        rows: NDArray[np.intp],
        cell: NDArray[np.intp],
    ) -> None:
        name, offset, bins = output
        source = "predict_proba" if name == SCORE else "predict"
        try:
            found = [arrays[source] for arrays in outputs]
        except KeyError:  # not every request asked for it
            have = np.array([source in arrays for arrays in outputs])
            if not have.any():
                return
            found = [arrays[source] for arrays in outputs if source in arrays]
            rows, cell = rows[have[of]], cell[have[of]]
        values = np.concatenate(found)
        if name == SCORE:
            values = score(values)
        size = self._memory.prediction_bins
        if len(values) != len(cell):
            cell = np.repeat(cell, rows)
        index = cell * size + offset + bins.codes(values)
        arms = window.arms
        counts = np.bincount(index, minlength=arms * GROUPS * size).astype(np.uint32)
        window.region["predictions"][:arms] += counts.reshape(arms, -1)

    def _fold_piece(self) -> None:
        noted, group = self._large.popleft()
        batch, outputs = noted.batch, noted.outputs
        if batch is None or outputs is None:
            raise AssertionError("a request without rows is not large")
        stop = min(self._piece, batch.rows)
        piece = {name: array[:stop] for name, array in outputs.items()}
        window = self._window(self._number(noted.moment))
        # The window may have changed meanwhile: its places are its own.
        arm = window.arm(noted.subjects[0].arm)
        of, rows = np.array([0]), np.array([stop])
        self._count(
            window,
            [batch.slice(0, stop)],
            [piece],
            of=of,
            rows=rows,
            arm=np.array([arm]),
            group=np.array([group]),
        )
        if stop < batch.rows:
            rest = {name: array[stop:] for name, array in outputs.items()}
            left = noted._replace(
                rows=(batch.rows - stop,), batch=batch.slice(stop, batch.rows), outputs=rest
            )
            self._large.appendleft((left, group))


def _runs(groups: Sequence[Sequence[Subject]]) -> tuple[list[Subject], list[int]]:
    """Return subjects, and how many requests in a row each has: mostly all of a group, or of all groups."""
    every = [*chain.from_iterable(groups)]
    if every.count(every[0]) == len(every):
        return every[:1], [len(every)]
    subjects, lengths = [], []
    for group in groups:
        length = len(group)
        if length == 1 or group.count(group[0]) == length:
            subjects.append(group[0])
            lengths.append(length)
        else:
            subjects += group
            lengths += [1] * length
    return subjects, lengths
