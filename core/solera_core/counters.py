"""What servers count in a window of time, and how counts of several servers become one.

Everything is an integer and the only merge is addition (of unit samples: union), so the order in which
servers are asked, and how their traffic was divided, change nothing. `docs/server/recording.md` shows the
document that `GET /counters` answers.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from solera_core.units import BUCKETS, GROUPS, SAMPLE_LIMIT, ArmKey, UnitSample, merge_samples

FORMAT_VERSION = 1
Counts = npt.NDArray[np.int64]

REQUESTS, ROWS, CLIENT_ERRORS, SERVER_ERRORS, SLOW = (
    "requests",
    "rows",
    "clientErrors",
    "serverErrors",
    "slow",
)
"""By bucket of the unit: requests; rows that were predicted; answers with 4xx and with 5xx; and, one stretch
of buckets for each latency threshold, requests that took longer."""
PREDICTIONS = "predictions"
LABELS, CORRECT, ERROR, SQUARED_ERROR = "labels", "correct", "error", "squaredError"
OUTCOME_FIELDS = (LABELS, CORRECT, ERROR, SQUARED_ERROR)
ERROR_STEPS = 1 << 20
"""An error of a regression is counted in steps of clip / 2**20, its square in steps of clip**2 / 2**40."""


class CountersInvalid(ValueError):  # noqa: N818 - names the document
    """A document that is not counters. The message says where."""


class OutcomeKey(NamedTuple):
    """What outcomes belong to: the version that predicted, its arm and weight epoch, the day of prediction.

    `day` is the number of days since 1970-01-01 UTC. `clip` bounds the errors of a regression; 0 otherwise.
    """

    version: str
    arm: str
    epoch: int
    day: int
    clip: float


@dataclass(frozen=True)
class Layout:
    """Where features and predictions stand in the flat arrays: names with their number of bins, in order.

    A flat array has the bins of all names for group 0, then those for group 1, and so on.
    """

    features: tuple[tuple[str, int], ...] = ()
    predictions: tuple[tuple[str, int], ...] = ()
    thresholds: tuple[float, ...] = ()
    """Latency thresholds, seconds."""


@dataclass(frozen=True)
class Window:
    """Counts of one window, of one server or of many.

    `features` has shape (groups * bins,). `arms` maps an arm to arrays by name: PREDICTIONS of shape
    (groups * bins,), REQUESTS and the like of (buckets,), SLOW of (thresholds * buckets,). `outcomes` maps to
    arrays by OUTCOME_FIELDS of shape (buckets,). Names that are absent count as zeros.
    """

    start: int
    features: Counts | None = None
    arms: Mapping[ArmKey, Mapping[str, Counts]] = field(default_factory=dict)
    outcomes: Mapping[OutcomeKey, Mapping[str, Counts]] = field(default_factory=dict)
    units: UnitSample = field(default_factory=UnitSample)


def merge(windows: Iterable[Window], limit: int = SAMPLE_LIMIT) -> Window:
    """Return the sum of windows with one start; at least one is needed.

    Raises ValueError when starts or shapes differ.
    """
    parts = list(windows)
    if len({part.start for part in parts}) != 1:
        raise ValueError("windows of different times are not added up")
    features = [part.features for part in parts if part.features is not None]
    return Window(
        parts[0].start,
        _sum(features) if features else None,
        _added([part.arms for part in parts]),
        _added([part.outcomes for part in parts]),
        merge_samples((part.units for part in parts), limit),
    )


def _sum(arrays: Sequence[Counts]) -> Counts:
    if len({array.shape for array in arrays}) != 1:
        raise ValueError("counts of different bins are not added up")
    total: Counts = np.sum(arrays, axis=0, dtype=np.int64)
    return total


def _added(tables: Sequence[Mapping[Any, Mapping[str, Counts]]]) -> dict[Any, dict[str, Counts]]:
    gathered: dict[Any, dict[str, list[Counts]]] = {}
    for table in tables:
        for key, arrays in table.items():
            row = gathered.setdefault(key, {})
            for name, array in arrays.items():
                row.setdefault(name, []).append(array)
    return {key: {name: _sum(found) for name, found in row.items()} for key, row in gathered.items()}


# -- the document ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reported:
    """A window as a server reports it.

    `sequence` counts the windows of one boot from 0. An open window may still grow; a closed one never
    changes. `partial` says that the server began after the window did.
    """

    sequence: int
    closed: bool
    partial: bool
    window: Window


@dataclass(frozen=True)
class Report:
    """One answer of `GET /counters`: the windows of one boot of one pod, oldest first.

    `boot` is drawn when the server starts, at `started` (seconds since 1970); `pod` is the same for all
    boots of a pod.
    """

    pod: str
    boot: str
    started: int
    model: str
    version: str
    digest: str
    seconds: int
    layout: Layout
    windows: tuple[Reported, ...]


def window_to_json(reported: Reported) -> dict[str, Any]:
    """Return a window's part of the document; arrays of zeros are left out."""
    window = reported.window
    document: dict[str, Any] = {
        "sequence": reported.sequence,
        "start": window.start,
        "closed": reported.closed,
        "partial": reported.partial,
        "arms": [
            {"arm": arm, "epoch": epoch, **_lists(arrays)}
            for (arm, epoch), arrays in sorted(window.arms.items())
        ],
        "outcomes": [{**key._asdict(), **_lists(arrays)} for key, arrays in sorted(window.outcomes.items())],
        "units": {
            "halvings": window.units.halvings,
            "members": [
                {"arm": arm, "epoch": epoch, "hashes": _packed(members)}
                for (arm, epoch), members in sorted(window.units.members.items())
            ],
        },
    }
    if window.features is not None and window.features.any():
        document["features"] = window.features.tolist()
    return document


def report_to_json(report: Report, windows: Sequence[Any] | None = None) -> dict[str, Any]:
    """Return the document; `windows` may be given when they have been encoded already."""
    layout = report.layout
    if windows is None:
        windows = [window_to_json(reported) for reported in report.windows]
    return {
        "formatVersion": FORMAT_VERSION,
        "pod": report.pod,
        "boot": report.boot,
        "started": report.started,
        "model": report.model,
        "version": report.version,
        "digest": report.digest,
        "windowSeconds": report.seconds,
        "groups": GROUPS,
        "buckets": BUCKETS,
        "features": [{"name": name, "bins": bins} for name, bins in layout.features],
        "predictions": [{"name": name, "bins": bins} for name, bins in layout.predictions],
        "latencyThresholds": list(layout.thresholds),
        "windows": windows,
    }


def read_report(document: Any) -> Report:
    """Read the document of `GET /counters`.

    Raises CountersInvalid with the place.
    """
    try:
        _check_format(document)
        layout = Layout(
            tuple((_text(item["name"]), _whole(item["bins"])) for item in document["features"]),
            tuple((_text(item["name"]), _whole(item["bins"])) for item in document["predictions"]),
            tuple(float(threshold) for threshold in document["latencyThresholds"]),
        )
        return Report(
            pod=_text(document["pod"]),
            boot=_text(document["boot"]),
            started=_whole(document["started"]),
            model=_text(document["model"]),
            version=_text(document["version"]),
            digest=_text(document["digest"]),
            seconds=_whole(document["windowSeconds"]),
            layout=layout,
            windows=tuple(_reported(item, layout) for item in document["windows"]),
        )
    except CountersInvalid:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CountersInvalid(f"not a document of counters: {type(error).__name__} {error}") from error


def _check_format(document: Any) -> None:
    if document["formatVersion"] != FORMAT_VERSION:
        raise CountersInvalid(f"formatVersion is {document['formatVersion']!r}, not {FORMAT_VERSION}")
    if (document["groups"], document["buckets"]) != (GROUPS, BUCKETS):
        raise CountersInvalid(f"there are not {GROUPS} groups and {BUCKETS} buckets")


def _reported(item: Any, layout: Layout) -> Reported:
    bins = GROUPS * sum(size for _, size in layout.features)
    sizes = {
        PREDICTIONS: GROUPS * sum(size for _, size in layout.predictions),
        SLOW: BUCKETS * len(layout.thresholds),
    }
    arms = {
        (_text(arm["arm"]), _whole(arm["epoch"])): {
            name: _counts(array, sizes.get(name, BUCKETS), name)
            for name, array in arm.items()
            if name in (PREDICTIONS, REQUESTS, ROWS, CLIENT_ERRORS, SERVER_ERRORS, SLOW)
        }
        for arm in item["arms"]
    }
    outcomes = {
        OutcomeKey(
            _text(entry["version"]),
            _text(entry["arm"]),
            _whole(entry["epoch"]),
            _whole(entry["day"]),
            float(entry["clip"]),
        ): {
            name: _counts(array, BUCKETS, name, signed=name == ERROR)
            for name, array in entry.items()
            if name in OUTCOME_FIELDS
        }
        for entry in item["outcomes"]
    }
    units = item["units"]
    sample = UnitSample(
        _whole(units["halvings"]),
        {
            (_text(part["arm"]), _whole(part["epoch"])): _unpacked(_text(part["hashes"]))
            for part in units["members"]
        },
    )
    if sample.halvings > 63 or sample.below(sample.halvings) != sample:
        raise CountersInvalid("units: hashes above the threshold")
    if len(arms) != len(item["arms"]) or len(outcomes) != len(item["outcomes"]):
        raise CountersInvalid("an arm or an outcome stands there twice")
    features = item.get("features")
    counted = None if features is None else _counts(features, bins, "features")
    window = Window(_whole(item["start"]), counted, arms, outcomes, sample)
    return Reported(_whole(item["sequence"]), item["closed"] is True, item["partial"] is True, window)


def _lists(arrays: Mapping[str, Counts]) -> dict[str, list[int]]:
    return {name: array.tolist() for name, array in arrays.items() if array.any()}


def _counts(values: Any, size: int, name: str, *, signed: bool = False) -> Counts:
    if not isinstance(values, list) or len(values) != size or not all(type(v) is int for v in values):
        raise CountersInvalid(f"{name}: not {size} whole numbers")
    array = np.array(values, dtype=np.int64)
    if not signed and size and array.min() < 0:
        raise CountersInvalid(f"{name}: a count is negative")
    return array


def _packed(members: frozenset[int]) -> str:
    return base64.b64encode(np.array(sorted(members), dtype=">u8").tobytes()).decode()


def _unpacked(text: str) -> frozenset[int]:
    return frozenset(np.frombuffer(base64.b64decode(text, validate=True), dtype=">u8").tolist())


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise CountersInvalid(f"expected a whole number, got {value!r:.60}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise CountersInvalid(f"expected a text, got {value!r:.60}")
    return value
