"""
The prediction log: what was predicted, and the labels that came later, as files in a store. Off by default.

The event loop hands over references and never waits: beyond a bound on what waits, records are dropped and
counted. A thread of each process writes whole files; a file is visible when it is complete.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from solera_core.failures import Failure
from solera_core.schema import encode_cell
from solera_server.batch import Layout
from solera_server.log_files import LogFile
from solera_server.shared import Field, SharedCounters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from solera_core.schema import Schema
    from solera_core.store import Store
    from solera_server.batch import Batch
    from solera_server.predictor import Outputs
    from solera_server.recording_options import LogOptions

log = logging.getLogger(__name__)

MAX_WAITING_ROWS = 20_000
MAX_WAITING_CELLS = 2_000_000
ATTEMPTS = 4
FIRST_RETRY_SECONDS = 1.0
WRITTEN, FILES, DROPPED_FULL, DROPPED_STORE, STORE_ERRORS = (
    "written",
    "files",
    "dropped_full",
    "dropped_store",
    "store_errors",
)
_NAME_PART = re.compile(r"[^A-Za-z0-9._-]+")
_TICK_SECONDS = 0.25


class Predicted(NamedTuple):
    """A predicted request. ``moment`` is in seconds since 1970; ``unit`` the hash of its unit."""

    moment: float
    request_id: str | None
    nonce: bytes | None
    arm: str
    epoch: int
    unit: int | None
    batch: Batch
    outputs: Outputs


class Labelled(NamedTuple):
    """A label that came by feedback."""

    moment: float
    nonce: bytes
    version: str
    row: int
    value: str | int | bool | float


class LogCounters:
    """What all processes' logs count; make it before the fork."""

    def __init__(self, processes: int) -> None:
        names = (WRITTEN, FILES, DROPPED_FULL, DROPPED_STORE, STORE_ERRORS)
        self._shared = SharedCounters([Field(name) for name in names], processes)

    def slot(self, process: int) -> dict[str, Any]:
        return self._shared.slot(process)

    def total(self, name: str) -> int:
        return int(self._shared.total(name)[0])


@dataclass(frozen=True)
class Origin:
    """Who writes: in the names of files."""

    model: str
    version: str
    pod: str
    boot: str
    process: int

    def path(self, moment: datetime, retention_days: int, sequence: int, suffix: str) -> str:
        """Return a file's place below the log's URL; its folder says from which day on it may be deleted."""
        end: date = moment.date() + timedelta(days=retention_days + 1)
        name = f"{moment:%Y%m%dT%H%M%SZ}-{self.pod}-{self.boot[:8]}-{self.process}-{sequence:06d}"
        parts = (self.model, f"delete-after-{end:%Y-%m-%d}", self.version, f"{name}.{suffix}")
        return "/".join(_NAME_PART.sub("_", part) for part in parts)


class PredictionLog:
    """
    The log of one process. ``predicted`` and ``labelled`` are for the event loop, and never wait.

    ``start`` after the fork; ``stop`` writes what is left, within the time that ``wait`` gives it.
    """

    def __init__(
        self, options: LogOptions, origin: Origin, schema: Schema, store: Store, counters: LogCounters
    ) -> None:
        self._options, self._origin, self._store = options, origin, store
        self._layout = Layout(schema.features)
        wanted = set(options.columns)
        self._features = [
            (index, feature)
            for index, feature in enumerate(schema.features)
            if feature.name in wanted or "*" in wanted
        ]
        self._counts = counters.slot(origin.process)
        self._waiting: deque[Predicted | Labelled] = deque()
        # Each is written by one thread only; what waits is their difference.
        self._put = [0, 0]
        self._taken = [0, 0]
        self._dropping = False
        self._wake = threading.Event()
        self._stopping = False
        self._deadline = float("inf")
        self._sequence = 0
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def predicted(self, item: Predicted) -> None:
        """Take a request for the log, or drop it when too much waits."""
        rows = item.batch.rows
        self._offer(item, rows, rows * (len(self._layout.features) + 1))

    def labelled(self, item: Labelled) -> None:
        """Take a label for the log, or drop it when too much waits."""
        self._offer(item, 1, 1)

    def stop(self, seconds: float) -> None:
        """Let the thread write what waits and end, within ``seconds``."""
        self._deadline = monotonic() + seconds
        self._stopping = True
        self._wake.set()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def _offer(self, item: Predicted | Labelled, rows: int, cells: int) -> None:
        put, taken = self._put, self._taken
        if put[0] - taken[0] + rows > MAX_WAITING_ROWS or put[1] - taken[1] + cells > MAX_WAITING_CELLS:
            self._counts[DROPPED_FULL][0] += rows
            if not self._dropping:
                self._dropping = True
                log.warning("prediction log drops records: the store is too slow, or does not answer")
            return
        self._dropping = False
        put[0] += rows
        put[1] += cells
        self._waiting.append(item)

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        file: LogFile | None = None
        while True:
            self._wake.wait(_TICK_SECONDS)
            file = self._drain(file)
            stopping = self._stopping
            old = file is not None and monotonic() - file.began >= self._options.file_seconds
            if file is not None and (stopping or old):
                self._close(file)
                file = None
            if stopping and (not self._waiting or monotonic() > self._deadline):
                self._abandon()
                return

    def _drain(self, file: LogFile | None) -> LogFile | None:
        while self._waiting and monotonic() < self._deadline:
            item = self._waiting.popleft()
            try:
                if file is None:
                    file = LogFile(self._options.format, datetime.now(UTC))
                records = self._labels(item) if isinstance(item, Labelled) else self._predictions(item)
                for record in records:
                    file.add(record)
            except Exception:
                log.exception("record of the prediction log not written")
            rows = 1 if isinstance(item, Labelled) else item.batch.rows
            cells = 1 if isinstance(item, Labelled) else rows * (len(self._layout.features) + 1)
            self._taken[0] += rows
            self._taken[1] += cells
            if file is not None and file.size >= self._options.file_bytes:
                self._close(file)
                file = None
        return file

    def _predictions(self, item: Predicted) -> Iterator[dict[str, Any]]:
        columns = self._layout.columns(item.batch) if self._features else []
        common = {
            "kind": "prediction",
            "time": _time(item.moment),
            "model": self._origin.model,
            "version": self._origin.version,
            "arm": item.arm,
            "epoch": item.epoch,
            "unit": None if item.unit is None else f"{item.unit:016x}",
            "requestId": item.request_id,
            "receipt": None if item.nonce is None else item.nonce.hex(),
        }
        outputs = {name: array.tolist() for name, array in item.outputs.items()}
        for row in range(item.batch.rows):
            record = {**common, "row": row, **{name: values[row] for name, values in outputs.items()}}
            if self._features:
                record["features"] = {
                    feature.name: encode_cell(feature, columns[index][row])
                    for index, feature in self._features
                }
            yield record

    def _labels(self, item: Labelled) -> Iterator[dict[str, Any]]:
        yield {
            "kind": "label",
            "time": _time(item.moment),
            "model": self._origin.model,
            "version": item.version,
            "receipt": item.nonce.hex(),
            "row": item.row,
            "label": item.value,
        }

    def _close(self, file: LogFile) -> None:
        """Write a file to the store; after a few failures its records are given up, and counted."""
        try:
            data = file.finish()
        except Exception:  # a table cannot hold values of several types in one column
            log.exception("file of the prediction log not made", extra={"records": file.records})
            self._counts[DROPPED_STORE][0] += file.records
            return
        path = self._origin.path(file.moment, self._options.retention_days, self._sequence, file.suffix)
        self._sequence += 1
        uri = f"{self._store.uri}/{path}"
        pause = FIRST_RETRY_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._store.write(uri, data)
            except Exception as error:  # noqa: BLE001 - the log must not end for a store's failure
                self._counts[STORE_ERRORS][0] += 1
                reason = error.message if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
                log.warning(
                    "prediction log not written",
                    extra={"uri": uri, "attempt": attempt, "of": ATTEMPTS, "reason": reason},
                )
                if attempt < ATTEMPTS and not self._pause(pause):
                    break
                pause *= 4
            else:
                self._counts[WRITTEN][0] += file.records
                self._counts[FILES][0] += 1
                return
        self._counts[DROPPED_STORE][0] += file.records

    def _pause(self, seconds: float) -> bool:
        """Wait before another attempt; False when there is no time for one."""
        end = monotonic() + seconds
        while (now := monotonic()) < end:
            if self._stopping:
                end = min(end, now + FIRST_RETRY_SECONDS)
                if end > self._deadline:
                    return False
            self._wake.clear()
            self._wake.wait(min(_TICK_SECONDS, end - now))
        return True

    def _abandon(self) -> None:
        left = sum(1 if isinstance(item, Labelled) else item.batch.rows for item in self._waiting)
        if left:
            self._counts[DROPPED_FULL][0] += left
            log.warning("prediction log ends with records that were not written", extra={"records": left})


def sampler(share: float) -> Callable[[int], bool]:
    """Return what says of a request whether it is in the sample, by a number of 64 bits that is its own."""
    bound = int(share * 2**64)
    return (lambda _number: True) if share >= 1.0 else (lambda number: number < bound)


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
