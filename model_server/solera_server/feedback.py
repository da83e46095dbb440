"""
``POST /v1/models/NAME:feedback``: the label of a row that was predicted, with the receipt of the prediction.

Nothing is looked up: the receipt says what was predicted, for which arm, and when. A label counts for the
version in its receipt, at whichever replica of the model it arrives.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from solera_core.counters import ERROR_STEPS, OutcomeKey
from solera_core.nearest import listed
from solera_core.receipts import (
    MAX_ROWS,
    Forged,
    Malformed,
    Receipt,
    UnknownKey,
    class_hash,
    read,
)
from solera_server.batch import InputError
from solera_server.json_input import expect_object, parse, refuse_unknown, shown
from solera_server.message import (
    RECEIPT_HEADER,
    Request,
    Response,
    error_response,
    internal_error,
    json_response,
)
from solera_server.replay import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from solera_core.schema import Schema
    from solera_server.replay import ReplayTable

log = logging.getLogger(__name__)

AHEAD_SECONDS = 300
"""A receipt may be so much younger than this server's clock says."""
_DAY = 86_400
_JSON_DEPTH = 4
_MAX_NUMBER = 1e300
RETRY_SECONDS = 0.002
PATIENCE_SECONDS = 0.5
"""For so long another process may have the lock of a label's place, which it needs for microseconds."""
MAX_RETRYING = 256


@dataclass(frozen=True, slots=True)
class Label:
    """A label that counts: what it belongs to, and what it says."""

    receipt: Receipt
    row: int
    value: str | int | bool | float
    key: OutcomeKey
    correct: bool = False
    error: int = 0
    """The prediction minus the label, in steps."""


class Feedback:
    """
    Answers feedback for one model.

    ``keys`` gives the keys of today, ``now`` the seconds since 1970; ``take`` is called with each label that
    counts, and ``later`` calls a function after so many seconds. ``clip`` bounds the errors of a regression.
    """

    def __init__(
        self,
        *,
        model: str,
        version: str,
        schema: Schema,
        clip: float | None,
        max_age: int,
        keys: Callable[[], Mapping[str, bytes]],
        now: Callable[[], float],
        replay: ReplayTable,
        take: Callable[[Label], None],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._model, self._version = model, version
        self._schema, self._clip, self._max_age = schema, clip, max_age
        self._keys, self._now, self._replay, self._take = keys, now, replay, take
        self._later, self._retrying = later, 0
        self._classes = {class_hash(label): label for label in schema.target.classes or ()}

    def handle(self, request: Request) -> Response | None:
        """Answer a request; whatever is wrong is said in words. None: it is answered later."""
        try:
            label = self._label(request)
        except InputError as error:
            return error_response(error.status, error.message)
        entry = self._enter(label)
        if entry is not Entry.BUSY:
            return self._answer(label, entry)
        if self._retrying >= MAX_RETRYING:
            return _busy()
        self._retrying += 1
        self._retry_later(request, label, self._now() + PATIENCE_SECONDS)
        return None

    def _enter(self, label: Label) -> Entry:
        receipt = label.receipt
        oldest = int(self._now()) - self._max_age
        return self._replay.enter(receipt.nonce, label.row, receipt.time, oldest)

    def _answer(self, label: Label, entry: Entry) -> Response:
        if entry is Entry.SEEN:
            return error_response(409, f"row {label.row} of this receipt has its label already")
        if entry is Entry.FORGOTTEN:
            return error_response(
                410, "the receipt is too old: more labels have come since than this server remembers"
            )
        self._take(label)
        return json_response({"counted": True})

    def _retry_later(self, request: Request, label: Label, end: float) -> None:
        def retry() -> None:
            entry = Entry.BUSY
            try:
                if not request.abandoned:
                    entry = self._enter(label)
                    if entry is Entry.BUSY and self._now() < end:
                        self._later(RETRY_SECONDS, retry)
                        return
                response = _busy() if entry is Entry.BUSY else self._answer(label, entry)
            except Exception:  # nobody else would answer
                log.exception("feedback failed")
                response = internal_error()
            self._retrying -= 1
            if not request.abandoned:
                request.respond(request, response)

        self._later(RETRY_SECONDS, retry)

    def _label(self, request: Request) -> Label:
        document = expect_object(parse(request.body, _JSON_DEPTH), "body")
        field = "value" if self._schema.target.classes is None else "label"
        refuse_unknown(document, frozenset({"receipt", "row", field}), "body")
        if field not in document:
            raise InputError(f'body: the field "{field}" is missing; it is what turned out to be true')
        receipt = self._receipt(request, document.get("receipt"))
        row = document.get("row", 0)
        if type(row) is not int or not 0 <= row < receipt.rows:
            raise InputError(f"row: expected a row of the request, 0 to {receipt.rows - 1}, got {shown(row)}")
        if row >= MAX_ROWS:
            raise InputError(f"row: a receipt holds the predictions of the first {MAX_ROWS} rows")
        if field == "label":
            return self._class(receipt, row, document[field])
        return self._number(receipt, row, document[field])

    def _receipt(self, request: Request, given: Any) -> Receipt:
        header = request.headers.get(RECEIPT_HEADER)
        if given is not None and not isinstance(given, str):
            raise InputError(f"receipt: expected the text of a receipt, got {shown(given)}")
        token = header.decode("ascii", "replace") if header is not None else given
        if token is None:
            raise InputError("the receipt is missing: send it in the header X-Solera-Receipt")
        if given is not None and given != token:
            raise InputError("the receipts in the header and in the body differ")
        try:
            receipt = read(token, self._keys())
        except Malformed as error:
            raise InputError(f"receipt: {error}") from None
        except (UnknownKey, Forged) as error:
            raise InputError(f"receipt: {error}", 403) from None
        if receipt.model != self._model:
            raise InputError(
                f'receipt: it is of the model "{receipt.model}"; this server has "{self._model}"', 403
            )
        age = self._now() - receipt.time
        if age > self._max_age:
            raise InputError(f"receipt: it is older than {self._max_age} s, for which labels are taken", 410)
        if age < -AHEAD_SECONDS:
            raise InputError("receipt: it is of a time that is yet to come; is this server's clock right?")
        if receipt.of_classes != (self._schema.target.classes is not None):
            raise InputError("receipt: it is of a version that answers with another kind of value")
        return receipt

    def _class(self, receipt: Receipt, row: int, label: Any) -> Label:
        if not isinstance(label, str | int | bool):
            raise self._no_class(label)
        code, predicted = class_hash(label), receipt.predictions[row]
        # Another version may know classes that this one does not: what it predicted, at least, is one.
        foreign = receipt.version != self._version and code == predicted
        if code not in self._classes and not foreign:
            raise self._no_class(label)
        return Label(receipt, row, label, self._key(receipt, 0.0), correct=code == predicted)

    def _no_class(self, label: Any) -> InputError:
        known = listed(map(shown, self._classes.values()))
        return InputError(f"label: expected one of the model's classes ({known}), got {shown(label)}")

    def _number(self, receipt: Receipt, row: int, value: Any) -> Label:
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _MAX_NUMBER:
            bounds = f"from {-_MAX_NUMBER:g} to {_MAX_NUMBER:g}"
            raise InputError(f"value: expected a number {bounds}, got {shown(value)}")
        clip = self._clip
        if clip is None:
            raise AssertionError("a regression has a clip when it takes feedback")
        error = receipt.predictions[row] - value
        # A prediction that is no number is as wrong as can be.
        bounded = clip if math.isnan(error) else min(max(error, -clip), clip)
        steps = round(bounded / clip * ERROR_STEPS)
        # As a float: a column of the log has one type, whether a client writes 3 or 3.0.
        return Label(receipt, row, float(value), self._key(receipt, clip), error=steps)

    @staticmethod
    def _key(receipt: Receipt, clip: float) -> OutcomeKey:
        return OutcomeKey(receipt.version, receipt.arm, receipt.epoch, receipt.time // _DAY, clip)


def _busy() -> Response:
    return error_response(503, "the label cannot be counted now; try again", (b"retry-after", b"1"))
