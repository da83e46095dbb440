"""The failures that a Job or a server reports, and the exit code of each."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a Job failed. Stable names: status, events and alerts use them."""

    BAD_SPEC = "BadSpec"
    BAD_ESTIMATOR = "BadEstimator"
    BAD_PARAMETER = "BadParameter"
    BAD_METRIC = "BadMetric"
    HOST_NOT_ALLOWED = "HostNotAllowed"
    DATA_NOT_FOUND = "DataNotFound"
    DATA_UNREADABLE = "DataUnreadable"
    TARGET_COLUMN_MISSING = "TargetColumnMissing"
    COLUMN_MISSING = "ColumnMissing"
    TOO_FEW_ROWS = "TooFewRows"
    TOO_MANY_MISSING = "TooManyMissing"
    SINGLE_CLASS = "SingleClass"
    SPLIT_EMPTY = "SplitEmpty"
    SPLIT_CHANGED = "SplitChanged"
    FIT_FAILED = "FitFailed"
    ARTIFACT_CORRUPT = "ArtifactCorrupt"
    RUNTIME_MISMATCH = "RuntimeMismatch"
    PARITY_FAILED = "ParityFailed"
    ADDRESS_UNAVAILABLE = "AddressUnavailable"
    RESULT_NOT_FOUND = "ResultNotFound"
    STORE_UNAVAILABLE = "StoreUnavailable"
    STORE_DENIED = "StoreDenied"
    INTERRUPTED = "Interrupted"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    OUT_OF_MEMORY = "OutOfMemory"
    INTERNAL_ERROR = "InternalError"


EXIT_OK = 0
EXIT_BAD_SPEC = 64
EXIT_BAD_DATA = 65
EXIT_STORE_UNAVAILABLE = 69
EXIT_BUG = 70
EXIT_TEMPORARY = 75
EXIT_DEADLINE = 76
EXIT_STORE_DENIED = 77

EXIT_CODES: dict[Reason, int] = {
    Reason.BAD_SPEC: EXIT_BAD_SPEC,
    Reason.BAD_ESTIMATOR: EXIT_BAD_SPEC,
    Reason.BAD_PARAMETER: EXIT_BAD_SPEC,
    Reason.BAD_METRIC: EXIT_BAD_SPEC,
    Reason.HOST_NOT_ALLOWED: EXIT_BAD_SPEC,
    Reason.DATA_NOT_FOUND: EXIT_BAD_DATA,
    Reason.DATA_UNREADABLE: EXIT_BAD_DATA,
    Reason.TARGET_COLUMN_MISSING: EXIT_BAD_DATA,
    Reason.COLUMN_MISSING: EXIT_BAD_DATA,
    Reason.TOO_FEW_ROWS: EXIT_BAD_DATA,
    Reason.TOO_MANY_MISSING: EXIT_BAD_DATA,
    Reason.SINGLE_CLASS: EXIT_BAD_DATA,
    Reason.SPLIT_EMPTY: EXIT_BAD_DATA,
    Reason.SPLIT_CHANGED: EXIT_BAD_DATA,
    Reason.FIT_FAILED: EXIT_BAD_DATA,
    Reason.ARTIFACT_CORRUPT: EXIT_BAD_DATA,
    Reason.RUNTIME_MISMATCH: EXIT_BAD_DATA,
    Reason.PARITY_FAILED: EXIT_BAD_DATA,
    Reason.ADDRESS_UNAVAILABLE: EXIT_TEMPORARY,
    Reason.RESULT_NOT_FOUND: EXIT_TEMPORARY,
    Reason.STORE_UNAVAILABLE: EXIT_STORE_UNAVAILABLE,
    Reason.STORE_DENIED: EXIT_STORE_DENIED,
    Reason.INTERRUPTED: EXIT_TEMPORARY,
    Reason.DEADLINE_EXCEEDED: EXIT_DEADLINE,
    Reason.OUT_OF_MEMORY: EXIT_BAD_DATA,
    Reason.INTERNAL_ERROR: EXIT_BUG,
}

RETRIED_EXIT_CODES = frozenset({EXIT_STORE_UNAVAILABLE, EXIT_BUG, EXIT_TEMPORARY})
"""Exit codes after which another attempt may succeed with the same spec and data."""


class Failure(Exception):  # noqa: N818 - the domain's word: a Job ends in a result or in a failure
    """A failure with a reason that status shows and a message that says what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    @property
    def exit_code(self) -> int:
        """The exit code of a Job that ends with this failure."""
        return EXIT_CODES[self.reason]


class StoreUnavailable(Failure):
    """The object store did not answer, or answered with a server error."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.STORE_UNAVAILABLE, message)


class StoreDenied(Failure):
    """The object store refused the credentials, or they lack a permission."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.STORE_DENIED, message)


class ArtifactCorrupt(Failure):
    """An artifact is not what its digest says, or not an artifact."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.ARTIFACT_CORRUPT, message)
