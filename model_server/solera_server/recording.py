"""
What is kept of predictions: counters always; receipts, feedback and the prediction log where asked for.

``Recording`` is what all processes share, made before the fork; each process has its ``Recorder``.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
from typing import TYPE_CHECKING

from solera_core.baseline import load_baseline
from solera_core.counters import Layout
from solera_core.failures import Failure, Reason
from solera_core.receipts import MAX_ROWS, Issuer, class_hash
from solera_core.units import bucket
from solera_server.batch import Batch
from solera_server.counter_memory import Boot, CounterMemory
from solera_server.counter_report import CounterReport
from solera_server.counters import Counters, Item, counted
from solera_server.exposition import Family
from solera_server.feedback import Feedback, Label
from solera_server.message import RECEIPT_HEADER
from solera_server.prediction_log import (
    DROPPED_FULL,
    DROPPED_STORE,
    FILES,
    STORE_ERRORS,
    WRITTEN,
    Labelled,
    LogCounters,
    Origin,
    Predicted,
    PredictionLog,
    sampler,
)
from solera_server.receipt_keys import WatchedKeys
from solera_server.replay import ReplayTable
from solera_server.router import Route
from solera_server.subjects import DRAWN, NOBODY, UNIT, Identity, Names, Subject, arm_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from solera_core.schema import Schema
    from solera_core.store import Store
    from solera_server.load import LoadedModel
    from solera_server.message import Head, Request
    from solera_server.options import Options
    from solera_server.predictor import Outputs

log = logging.getLogger(__name__)

Headers = tuple[tuple[bytes, bytes], ...]

FOLD_SECONDS = 0.25
KEYS_SECONDS = 10.0
FLUSH_SECONDS = 5.0
_PREDICTING = ("v1", "v2", "grpc")
_DECLINED = b"no"
_NONCES = 512


class Recording:
    """
    The memory, keys and settings that all processes share.

    The model is loaded from the directory that the options name. Raises Failure when they do not fit it.
    """

    def __init__(
        self,
        options: Options,
        loaded: LoadedModel,
        *,
        boot: Boot | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        directory, self.options = options.model, options.recording
        self.name, self.version = options.name, options.version_of(loaded.digest)
        self.schema: Schema = loaded.schema
        baseline = load_baseline(directory, loaded.schema)
        self.what = counted(loaded.schema, baseline, self.options.latency_thresholds)
        self.boot = boot or Boot(environ.get("SOLERA_POD_UID") or socket.gethostname())
        self.memory = CounterMemory(
            self.what.layout,
            self.boot,
            seconds=self.options.window_seconds,
            kept=self.options.windows_kept,
            processes=options.workers,
        )
        self._digest = loaded.digest
        keys = self.options.receipt_keys
        self.keys = WatchedKeys(keys) if keys is not None else None
        self.clip = self._outcome_clip(baseline.outcome_clip if baseline is not None else None)
        self.replay = ReplayTable() if self.keys is not None else None
        unit_key = self.keys.keys.unit if self.keys is not None else None
        # Without a key of its own a hash hides a unit from the eye, not from whoever guesses it.
        key = unit_key or hashlib.sha256(b"solera unit " + self.name.encode()).digest()
        header = self.options.unit_header
        self.identity = Identity(Names(unit=header.lower().encode() if header else None), key)
        self.log_store = self._log_store(environ)
        self.log_counters = LogCounters(options.workers) if self.options.log is not None else None

    def report(self, recorder: Recorder | None = None) -> CounterReport:
        """Return what answers ``/counters``; with the recorder of this process, where there is one."""
        fold = recorder.fold if recorder is not None else None
        return CounterReport(self.memory, self.name, self.version, self._digest, fold)

    def families(self) -> Iterator[Family]:
        """Yield the metrics of what is kept."""
        labels = {"model": self.name, "version": self.version}
        layout: Layout = self.what.layout
        family = Family(
            "solera_server_features", "gauge", "Features of the model, by whether they are counted."
        )
        family.add(len(layout.features), {**labels, "counted": "true"})
        yield family.add(self.what.left_out, {**labels, "counted": "false"})
        if self.replay is not None:
            text = "Places taken in the table of labels that were counted."
            yield Family("solera_server_feedback_remembered", "gauge", text).add(self.replay.entries, labels)
        counters = self.log_counters
        if counters is None:
            return
        text = "Records that the prediction log has written to its store."
        name = "solera_server_prediction_log_records_total"
        yield Family(name, "counter", text).add(counters.total(WRITTEN), labels)
        text = "Files that the prediction log has written to its store."
        name = "solera_server_prediction_log_files_total"
        yield Family(name, "counter", text).add(counters.total(FILES), labels)
        dropped = Family(
            "solera_server_prediction_log_dropped_total",
            "counter",
            "Records that the prediction log gave up: too many waited, or the store refused a file.",
        )
        dropped.add(counters.total(DROPPED_FULL), {**labels, "reason": "full"})
        yield dropped.add(counters.total(DROPPED_STORE), {**labels, "reason": "store"})
        text = "Failed attempts to write a file of the prediction log."
        name = "solera_server_prediction_log_store_errors_total"
        yield Family(name, "counter", text).add(counters.total(STORE_ERRORS), labels)

    def _outcome_clip(self, derived: float | None) -> float | None:
        if self.schema.target.classes is not None:
            return None
        clip = self.options.outcome_clip or derived
        if clip is None and self.keys is not None:
            raise Failure(
                Reason.BAD_SPEC,
                "--receipt-keys: the artifact's baseline gives no bound for this regression's errors; "
                "add --outcome-clip.",
            )
        return clip

    def _log_store(self, environ: Mapping[str, str]) -> Store | None:
        wanted = self.options.log
        if wanted is None:
            return None
        from solera_server.log_files import check_format, log_store

        check_format(wanted.format)
        known = {feature.name for feature in self.schema.features} | {"*"}
        for column in wanted.columns:
            if column not in known:
                raise Failure(
                    Reason.BAD_SPEC, f'--prediction-log-columns: the model has no feature "{column}".'
                )
        return log_store(wanted.url, environ)


class Recorder:
    """
    Records the predictions of one process. Make it on its running event loop, after the fork.

    ``record`` and ``answered`` are on the hot path: they note references, and leave the rest for later.
    """

    def __init__(self, recording: Recording, process: int = 0) -> None:
        self._loop = asyncio.get_running_loop()
        self._recording = recording
        self._boot = recording.boot
        self._identity = recording.identity
        self._counters = Counters(recording.memory, recording.what, process)
        self._note = self._counters.note
        self._scheduled = False
        self._folding = False
        self._nonces = b""
        classes = recording.schema.target.classes
        self._class_hashes = None if classes is None else {label: class_hash(label) for label in classes}
        self._issuer: Issuer | None = None
        self._refresh: asyncio.TimerHandle | None = None
        if recording.keys is not None:
            self._make_issuer(recording.keys)
            self._refresh = self._loop.call_later(KEYS_SECONDS, self._refresh_keys)
        self._log = self._make_log(process)
        if self._log is not None:
            self._log.start()

    def routes(self) -> dict[str, dict[bytes, Route]]:
        """Return what else is answered on the model port."""
        recording = self._recording
        keys, replay = recording.keys, recording.replay
        if keys is None or replay is None:
            return {}
        feedback = Feedback(
            model=recording.name,
            version=recording.version,
            schema=recording.schema,
            clip=recording.clip,
            max_age=recording.options.receipt_max_age,
            keys=lambda: keys.keys.keys,
            now=self._boot.now,
            replay=replay,
            take=self._take,
            later=self._loop.call_later,
        )
        path = f"/v1/models/{recording.name}:feedback"
        return {path: {b"POST": Route(feedback.handle, "feedback", reads_json=True)}}

    def record(self, request: Request, batch: Batch, outputs: Outputs) -> Headers:
        """Keep a prediction until its answer is sent, and return further headers of the answer."""
        head = request.head
        subject = head.subject or self._subject(head)
        headers: Headers = ()
        if self._issuer is not None or self._log is not None:
            subject, headers = self._keep(request, subject, batch, outputs)
        batch.forget_places()  # of the request's body, whose bytes count no longer
        request.recorded = (subject, batch, outputs)
        return headers

    def answered(self, request: Request, protocol: str, status: int, now: float) -> None:
        """Note that a request was answered; ``now`` is a reading of perf_counter."""
        if protocol not in _PREDICTING:
            return
        recorded = request.recorded
        taken = (now - request.received,)
        noted: Item
        if recorded is not None:
            subject, batch, outputs = recorded
            noted = ((subject,), status, taken, now, (batch.rows,), batch, outputs)
        elif request.head.method == b"POST":
            noted = ((self._subject(request.head),), status, taken, now, (0,), None, None)
        else:
            return
        self._take_note(noted)

    @property
    def plain(self) -> bool:
        """Whether predictions are counted and nothing else, so that ``turn`` is all that is needed."""
        return self._issuer is None and self._log is None

    @property
    def unit_header(self) -> bytes | None:
        return self._identity.names.unit

    def turn(
        self,
        heads: Sequence[Head],
        units: Sequence[bytes | None] | None,
        rows: Sequence[int],
        batch: Batch,
        outputs: Outputs,
        *,
        since: Sequence[float],
        now: float,
    ) -> None:
        """Note requests that were predicted and answered together, ``since`` seconds after they came."""
        if heads.count(heads[0]) == len(heads):
            subjects = [heads[0].subject or self._subject(heads[0])] * len(heads)
        else:
            subjects = [head.subject or self._subject(head) for head in heads]
        if units is not None:
            of, pairs = self._identity.of, zip(subjects, units, strict=True)
            subjects = [one if unit is None else of(one.arm, unit) for one, unit in pairs]
        self._take_note((subjects, 200, since, now, rows, batch, outputs))

    def _take_note(self, noted: Item) -> None:
        if self._note(noted):
            self._fold_some()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_later(FOLD_SECONDS, self._fold_later)

    def _subject(self, head: Head) -> Subject:
        if head.subject is None:
            head.subject = self._identity.subject(head.headers)
        return head.subject

    def fold(self) -> None:
        """Count all that was noted."""
        while self._folds():
            pass

    async def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Count what is left, and let the log write what it has, within ``seconds``."""
        if self._refresh is not None:
            self._refresh.cancel()
        self.fold()
        writing = self._log
        if writing is None:
            return
        writing.stop(seconds)
        deadline = self._loop.time() + seconds
        # A thread has no way to set an event of a loop that may be gone by then.
        while writing.running and self._loop.time() < deadline:  # noqa: ASYNC110 - so it is looked at
            await asyncio.sleep(0.01)

    # -- counters ----------------------------------------------------------------------------------

    def _fold_later(self) -> None:
        self._scheduled = False
        self._fold_some()

    def _fold_some(self) -> None:
        """Fold what was noted, and pieces of large requests in the turns that follow."""
        if self._folds() and not self._folding:
            self._folding = True
            self._loop.call_soon(self._fold_rest)

    def _folds(self) -> bool:
        """Fold once; an error costs what was to be counted, and no request."""
        try:
            return self._counters.fold()
        except Exception:
            log.exception("counting failed")
            return False

    def _fold_rest(self) -> None:
        self._folding = False
        self._fold_some()

    # -- receipts and the log ------------------------------------------------------------------------

    def _keep(
        self, request: Request, subject: Subject, batch: Batch, outputs: Outputs
    ) -> tuple[Subject, Headers]:
        moment, nonce = self._boot.now(), self._nonce()
        if subject.kind == NOBODY:
            # The bucket in the receipt must be that in which the request is counted.
            subject = Subject(subject.arm, DRAWN, int.from_bytes(nonce))
        arm, epoch = arm_key(subject.arm)
        token = None
        if not subject.arm[2]:
            token = self._issue(
                request, subject, arm=(arm, epoch), time=int(moment), nonce=nonce, outputs=outputs
            )
        if self._log is not None:
            request_id = request.head.request_id
            if token is not None or request_id is None:
                number = int.from_bytes(nonce)
            else:
                number = int.from_bytes(hashlib.blake2b(request_id, digest_size=8).digest())
            if self._sampled(number):
                item = Predicted(
                    moment,
                    None if request_id is None else request_id.decode("ascii"),
                    nonce if token is not None else None,
                    arm,
                    epoch,
                    subject.number if subject.kind == UNIT else None,
                    batch,
                    outputs,
                )
                self._log.predicted(item)
        return subject, () if token is None else ((RECEIPT_HEADER, token),)

    def _issue(
        self,
        request: Request,
        subject: Subject,
        *,
        arm: tuple[str, int],
        time: int,
        nonce: bytes,
        outputs: Outputs,
    ) -> bytes | None:
        """Return a receipt, where one is made for the request."""
        predicted = outputs.get("predict")
        issuer = self._issuer
        if issuer is None or predicted is None or not len(predicted):
            return None
        if request.head.headers.get(RECEIPT_HEADER) == _DECLINED:
            return None
        values, hashes = predicted.tolist(), self._class_hashes
        return issuer.issue(
            arm=arm[0],
            epoch=arm[1],
            bucket=bucket(subject.number),
            time=time,
            nonce=nonce,
            rows=len(values),
            classes=None if hashes is None else [hashes[value] for value in values[:MAX_ROWS]],
            numbers=values if hashes is None else None,
        ).encode("ascii")

    def _nonce(self) -> bytes:
        if not self._nonces:
            self._nonces = os.urandom(8 * _NONCES)
        nonce, self._nonces = self._nonces[:8], self._nonces[8:]
        return nonce

    def _take(self, label: Label) -> None:
        receipt = label.receipt
        self._counters.outcome(
            label.key, receipt.bucket, correct=label.correct, error=label.error, square=label.error**2
        )
        if self._log is not None and self._sampled(int.from_bytes(receipt.nonce)):
            self._log.labelled(
                Labelled(self._boot.now(), receipt.nonce, receipt.version, label.row, label.value)
            )

    def _make_issuer(self, keys: WatchedKeys) -> None:
        recording, found = self._recording, keys.keys
        try:
            self._issuer = Issuer(found.current, found.keys[found.current], recording.name, recording.version)
        except ValueError as error:
            raise Failure(Reason.BAD_SPEC, f"--receipt-keys: {error}.") from error

    def _refresh_keys(self) -> None:
        keys = self._recording.keys
        if keys is not None:
            if keys.refresh():
                self._make_issuer(keys)
            self._refresh = self._loop.call_later(KEYS_SECONDS, self._refresh_keys)

    def _make_log(self, process: int) -> PredictionLog | None:
        recording = self._recording
        options, store, counters = recording.options.log, recording.log_store, recording.log_counters
        if options is None or store is None or counters is None:
            return None
        self._sampled = sampler(options.sample)
        origin = Origin(recording.name, recording.version, self._boot.pod, self._boot.id, process)
        return PredictionLog(options, origin, recording.schema, store, counters)
