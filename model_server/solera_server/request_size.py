"""How much one request may ask for: a small body can name many rows, and a row can ask for many numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from solera_server.batch import InputError

if TYPE_CHECKING:
    from solera_core.schema import Schema
    from solera_server.limits import Limits

TOO_LARGE = 413
"""The status of requests with too many rows or values."""
_SHORT_CELLS = 16_384
"""
Values that the careful way makes in a few milliseconds. Bodies that spell out all of theirs have hardly more
in the 64 KiB of the largest that comes to the event loop.
"""


def short_work(limits: Limits) -> Limits:
    """Return the limits of what is decoded on the event loop."""
    return replace(limits, cells=min(limits.cells, _SHORT_CELLS))


class RequestSize:
    """
    The bound that a model's schema and the server's limits give together.

    ``rows`` and ``values`` (rows times features) are the most that a request may have. A single row is
    always taken.
    """

    def __init__(self, schema: Schema, limits: Limits) -> None:
        features, classes = len(schema.features), len(schema.target.classes or ())
        bounds = [(limits.rows, f"{limits.rows} rows (--max-rows)")]
        if features:
            wide = f"{limits.cells} values (--max-cells), rows times the {features} features"
            bounds.append((max(1, limits.cells // features), wide))
        if classes:
            many = f"{limits.scores} scores (--max-scores), rows times the {classes} classes"
            bounds.append((max(1, limits.scores // classes), many))
        self.rows, self._limit = min(bounds)
        self.values = self.rows * features

    def check_rows(self, rows: int, where: str) -> None:
        """Raise InputError (413) when a request has too many rows."""
        if rows > self.rows:
            self._refuse(where, f"{rows} rows")

    def check_values(self, values: int, where: str) -> None:
        """Raise InputError (413) when a request's input has more values than its rows may have."""
        if values > self.values:
            self._refuse(where, f"{values} values")

    def _refuse(self, where: str, found: str) -> None:
        raise InputError(
            f"{where}: {found} are too many for one request; the limit is {self._limit}. "
            f"Split the request into several of at most {self.rows} rows",
            TOO_LARGE,
        )
