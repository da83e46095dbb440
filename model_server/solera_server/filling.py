"""
The quick way from JSON values to a batch: values that are plainly right go straight into the matrix.

It says nothing about what is wrong. Where it gives up, the careful way (rows.py, tensors.py) decodes the
same values again, and either takes them or words the error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solera_core.schema import BOOLEAN, DATETIME, FLOAT, INTEGER, STRING
from solera_server.batch import Batch
from solera_server.compiled.kernels import NATIVE, fill_records, fill_rows, fill_values

if TYPE_CHECKING:
    from solera_server.batch import Layout, Texts, Where

_KINDS = {FLOAT: "f", INTEGER: "i", BOOLEAN: "b", STRING: "s"}
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
# Without the extension the careful way, which works by columns, is the quicker one for many rows.
_MOST_ROWS = 1 << 40 if NATIVE else 8


class Filling:
    """For one schema; without effect where a feature is a DateTime, which is never plain."""

    def __init__(self, layout: Layout) -> None:
        features = layout.features
        kinds = [_KINDS.get(feature.type, "") for feature in features]
        usable = DATETIME not in {feature.type for feature in features}
        self._kinds = (
            "".join(
                kind.upper() if feature.nullable else kind
                for kind, feature in zip(kinds, features, strict=True)
            ).encode()
            if usable
            else b""
        )
        self.names = tuple(feature.name for feature in features)
        self.width = len(features)
        self._numbers = len(layout.numbers)
        self._texts = len(layout.texts)
        self.matrix = usable and all(feature.type in (FLOAT, INTEGER) for feature in features)
        """Whether all features are numbers that may come as one tensor of FP64."""

    def rows(self, instances: list[Any], where: Where) -> Batch | None:
        """Return a batch of rows, which are all lists or all dicts by name, or None."""
        rows = len(instances)
        if not self._kinds or not 0 < rows <= _MOST_ROWS:
            return None
        numbers = np.empty((rows, self._numbers))
        texts: tuple[Texts, ...] = tuple([] for _ in range(self._texts)) if self._texts else ()
        if type(instances[0]) is dict:
            stopped = fill_records(instances, self.names, self._kinds, numbers, texts)
        else:
            stopped = fill_rows(instances, self._kinds, numbers, texts)
        if stopped != -1:
            return None
        return Batch(rows, numbers, texts, where)

    def tensor(self, data: list[Any], rows: int, where: Where, *, single: bool) -> Batch | None:
        """
        Return a batch of a tensor's data, flat or nested, for which ``matrix`` is True; or None.

        ``single`` rounds to float32, as the datatype FP32 says.
        """
        if not data or not 0 < rows <= _MOST_ROWS:
            return None
        numbers = np.empty((rows, self._numbers))
        if type(data[0]) is list:
            stopped = fill_rows(data, self._kinds, numbers, ()) if len(data) == rows else 0
        else:
            stopped = fill_values(data, self._kinds, numbers, ()) if len(data) == rows * self.width else 0
        if stopped != -1:
            return None
        if single:
            if np.any(np.abs(numbers) > _LARGEST_FLOAT32):
                return None
            numbers = numbers.astype(np.float32).astype(np.float64)
        return Batch(rows, numbers, (), where)
