"""What is predicted together: rows, as one checked column for each feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from solera_core.schema import Column


class InputError(Exception):
    """A request that cannot be answered as it is; the message says where and what to send instead."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@dataclass(frozen=True, slots=True)
class Batch:
    """
    Rows for a predictor.

    ``columns`` are in the order of the schema's features, each of shape (rows,), as solera_core.schema
    defines them: float64, or objects for String; missing is NaN. ``where`` names the place of a value
    (row, column) in the request, for messages.
    """

    rows: int
    columns: list[Column]
    where: Callable[[int, int], str]
