"""What can go wrong when one talks to the Kubernetes API, as types."""

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """
    The API server refused a request, or did not answer.

    `status` is the HTTP code (0: no answer), `reason` the PascalCase reason of the Status object,
    `details` its details (causes, kind, name), `retry_after` what the server asked for, in seconds.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.details: Mapping[str, Any] = details or {}
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.status or 'no answer'} {self.reason}: {self.message}"

    def caused_by(self, reason: str) -> bool:
        """Whether one of the causes has this reason (NamespaceTerminating, FieldManagerConflict…)."""
        return any(cause.get("reason") == reason for cause in self.details.get("causes") or ())


class NotFound(ApiError):  # noqa: N818 - Kubernetes' own name of the reason
    """404: no such object, or no such kind."""


class Conflict(ApiError):  # noqa: N818 - as above
    """409: a precondition (resourceVersion, uid, field ownership) does not hold."""


class AlreadyExists(ApiError):  # noqa: N818 - as above
    """409 on create: the name is taken."""


class Forbidden(ApiError):  # noqa: N818 - as above
    """403: RBAC, quota, a namespace that is going away, or an admission plugin says no."""


class Unauthorized(ApiError):  # noqa: N818 - as above
    """401: the credentials are not accepted."""


class Invalid(ApiError):  # noqa: N818 - as above
    """400 and 422: the object does not fit its schema or a validation rule."""


class Gone(ApiError):  # noqa: N818 - as above
    """410: the resourceVersion or continue token is too old; list again."""


class Unavailable(ApiError):  # noqa: N818 - as above
    """429, 5xx, a connection that failed or an answer that did not come in time. Try again."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: Unavailable,
}


def from_status(code: int, body: Mapping[str, Any], *, retry_after: float | None = None) -> ApiError:
    """Turn an HTTP code and a `Status` object (or what is left of one) into the matching error."""
    reason = str(body.get("reason") or "Unknown")
    message = str(body.get("message") or "the API server gave no message")
    details = body.get("details") or {}
    if retry_after is None and details.get("retryAfterSeconds"):
        retry_after = float(details["retryAfterSeconds"])
    kind = _BY_STATUS.get(code, Unavailable if code >= 500 else ApiError)
    if code == 409 and reason == "AlreadyExists":
        kind = AlreadyExists
    return kind(code, reason, message, details, retry_after=retry_after)


def no_answer(cause: BaseException) -> Unavailable:
    """Turn a connection failure or a time-out into an error."""
    text = str(cause) or type(cause).__name__
    return Unavailable(0, "ConnectionFailed", f"the API server did not answer: {text}")
