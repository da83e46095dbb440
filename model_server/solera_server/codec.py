"""What a protocol's codec offers: a request becomes a call, outputs become its response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from solera_server.batch import Batch
    from solera_server.message import Response
    from solera_server.predictor import Outputs


@dataclass(slots=True)
class Call:
    """A decoded request: what to predict, which outputs are wanted, and how the answer is written."""

    batch: Batch
    outputs: tuple[str, ...]
    render: Callable[[Outputs], Response]


class Codec(Protocol):
    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> Call:
        """Raises InputError. The names of ``headers`` are lower case."""
