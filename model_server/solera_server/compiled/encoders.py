"""
Categories to numbers: OneHotEncoder, OrdinalEncoder, TargetEncoder, KBinsDiscretizer.

All that the parameters of an encoder say (unknown, infrequent, dropped and missing categories) is worked out
once, when it is compiled: what remains is one table for each column, from a value to its numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from solera_server.compiled import kernels
from solera_server.compiled.blocks import NUMBERS, SPARSE, STRINGS, Matrix, Sparse
from solera_server.compiled.node import Node, checked, checked_indices
from solera_server.compiled.refusals import NotCompilable, Refused, UnseenCategory
from solera_server.compiled.registry import Shape, Step, Transformer, transformer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_TABLE = 10_000_000
MAX_SHOWN = 60
_REFUSE: Any = object()
_FLOATS = (np.float64,)


class Table:
    """From the values of one column to what stands for them; ``refused`` where that is _REFUSE."""

    __slots__ = ("_get", "_may_be_infinite", "_same", "entries", "missing", "unknown")

    def __init__(
        self, entries: dict[Any, Any], missing: Any, unknown: Any, *, may_be_infinite: bool = False
    ) -> None:
        self.entries = entries
        self._get: Callable[..., Any] = entries.get
        self.missing = missing
        self.unknown = unknown
        self._may_be_infinite = may_be_infinite
        # Then nothing needs to ask why a value is not in the table.
        self._same = not may_be_infinite and unknown is not _REFUSE and bool(missing == unknown)

    def take(self, column: Sequence[Any]) -> list[Any]:
        get = self._get
        if self._same:
            unknown = self.unknown
            return [get(value, unknown) for value in column]
        found = [get(value) for value in column]
        if None in found:
            return [
                self._absent(value) if item is None else item
                for value, item in zip(column, found, strict=True)
            ]
        return found

    def _absent(self, value: Any) -> Any:
        if isinstance(value, float) and math.isnan(value):
            if self.missing is _REFUSE:
                raise Refused("a category is missing")
            return self.missing
        if isinstance(value, float) and math.isinf(value):
            raise Refused("a number is infinite")
        if self.unknown is _REFUSE:
            shown = value if len(str(value)) <= MAX_SHOWN else str(value)[:MAX_SHOWN]
            raise UnseenCategory(f"the model does not take {shown!r}, which its training data did not have")
        return self.unknown

    def lookup(self) -> tuple[dict[Any, Any], Any, Any] | None:
        """Return entries, missing and unknown as kernels take them (None refuses), or None if they cannot."""
        if self._may_be_infinite:
            return None
        missing, unknown = (None if value is _REFUSE else value for value in (self.missing, self.unknown))
        return self.entries, missing, unknown

    def filled(self, fill: Any) -> Table:
        """Return the table of a column in which missing values are replaced first."""
        if isinstance(fill, float) and math.isnan(fill):
            return self
        missing = self.entries.get(fill, self.unknown)
        return Table(self.entries, missing, self.unknown, may_be_infinite=self._may_be_infinite)


def _lookups(tables: list[Table]) -> tuple[tuple[dict[Any, Any], Any, Any], ...] | None:
    found = tuple(lookup for table in tables if (lookup := table.lookup()) is not None)
    return found if len(found) == len(tables) else None


def _columns(block: Any) -> list[Any]:
    return block if isinstance(block, list) else block.T.tolist()


class OneHot(Step):
    """For each column the place of its one, or -1 for none."""

    def __init__(self, tables: list[Table], widths: list[int]) -> None:
        super().__init__(sum(widths), [column for column, width in enumerate(widths) for _ in range(width)])
        self.tables = tables
        self._widths = widths
        self._sources = tuple(range(len(tables)))
        self._lookups = _lookups(tables)

    def filled(self, fills: list[Any]) -> OneHot:
        tables = [table.filled(fill) for table, fill in zip(self.tables, fills, strict=True)]
        return type(self)(tables, self._widths)

    def __call__(self, block: Any, calm: bool) -> Any:
        columns = _columns(block)
        out = np.zeros((len(columns[0]), self.width))
        self.write(columns, out, 0)
        return out

    def write(self, block: Any, out: Matrix, start: int) -> None:
        """Write the ones into zeros of shape (rows, columns), from the column ``start`` on."""
        columns = _columns(block)
        tables = self._lookups
        if tables is None or not kernels.one_hot(columns, tables, self._sources, out, start):
            rows, places = self._places(columns)  # raises where a value is refused
            out[rows, places + start] = 1.0

    def _places(self, columns: Sequence[Any]) -> tuple[Any, Any]:
        """Return rows and columns of the ones, row after row."""
        found = [table.take(column) for table, column in zip(self.tables, columns, strict=True)]
        places = np.array(found, dtype=np.int64).T
        rows, which = np.nonzero(places >= 0)
        return rows, places[rows, which]


class SparseOneHot(OneHot):
    """The same as a sparse block."""

    kind = SPARSE

    def __call__(self, block: Any, calm: bool) -> Any:
        columns = _columns(block)
        count = len(columns[0])
        if count == 1:
            found = [table.take(column)[0] for table, column in zip(self.tables, columns, strict=True)]
            kept = [place for place in found if place >= 0]
            indptr = np.array([0, len(kept)])
            return Sparse(self.width, indptr, np.array(kept, dtype=np.int64), np.ones(len(kept)))
        rows, places = self._places(columns)
        indptr = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=count))))
        return Sparse(self.width, indptr, places, np.ones(len(places)))


class Codes(Step):
    """One number for each column's value, or with several tables of a column several."""

    def __init__(self, tables: list[Table], sources: Sequence[int]) -> None:
        super().__init__(len(tables), sources)
        self.tables = tables
        self._sources = tuple(sources)
        self._lookups = _lookups(tables)
        values = [value for table in tables for value in (*table.entries.values(), table.missing)]
        unknowns = [table.unknown for table in tables]
        self.makes_missing = any(value != value for value in (*values, *unknowns))  # noqa: PLR0124 - NaN

    def filled(self, fills: list[Any]) -> Codes:
        tables = [
            table.filled(fills[source]) for table, source in zip(self.tables, self._sources, strict=True)
        ]
        return Codes(tables, self._sources)

    def __call__(self, block: Any, calm: bool) -> Matrix:
        columns = _columns(block)
        out = np.empty((len(columns[0]), self.width))
        tables = self._lookups
        if tables is not None and kernels.category_codes(columns, tables, self._sources, out, 0):
            return out
        found = [
            table.take(columns[source]) for table, source in zip(self.tables, self._sources, strict=True)
        ]
        return np.array(found, dtype=np.float64).T.copy()


def _categories(node: Node, shape: Shape) -> list[list[Any]]:
    """Return each column's categories as strings or floats; NaN only at the end."""
    if shape.kind not in (NUMBERS, STRINGS):
        raise node.fail(f"it gets {shape.kind}")
    if node.integer("n_features_in_") != shape.width:
        raise node.fail("it was fitted on another number of columns")
    result = []
    numeric = shape.numeric or (shape.kind == NUMBERS,) * shape.width
    for array, numbers in zip(node.listed("categories_", shape.width), numeric, strict=True):
        where = f"{node.name}: categories_"
        if numbers:
            values = checked(array, where, (None,), "f", finite=False).tolist()
        else:
            values = checked(array, where, (None,), "O").tolist()
        texts = all(isinstance(value, str) or value != value for value in values)  # noqa: PLR0124 - NaN
        if not values or (not numbers and not texts) or len(set(values)) != len(values):
            raise node.fail("categories_ holds something odd")
        if any(value != value for value in values[:-1]):  # noqa: PLR0124 - NaN
            raise node.fail("categories_ holds NaN not at the end")
        if numbers and values != sorted(values[:-1]) + values[-1:]:
            raise node.fail("categories_ are not sorted")
        result.append(values)
    if sum(map(len, result)) > MAX_TABLE:
        raise node.fail("it has too many categories")
    return result


def _mappings(node: Node, categories: list[list[Any]], *, without_missing: bool) -> list[Any]:
    """Return for each column the group of each category, and the group of the infrequent ones or None."""
    if not node.flag("_infrequent_enabled"):
        return [(range(len(values)), None) for values in categories]
    result: list[Any] = []
    maps = node.listed("_default_to_infrequent_mappings", len(categories))
    infrequent = node.listed("_infrequent_indices", len(categories))
    for values, mapping, indices in zip(categories, maps, infrequent, strict=True):
        if mapping is None or indices is None:
            if mapping is not indices:
                raise node.fail("its infrequent categories do not fit")
            result.append((range(len(values)), None))
            continue
        length = len(values)
        if without_missing and values[-1] != values[-1]:
            length -= 1
        groups = checked(mapping, f"{node.name}: infrequent mapping", (length,), "i")
        groups = checked_indices(groups, node.name, 0, length)
        first = checked_indices(indices, f"{node.name}: infrequent indices", 0, length)
        if not first.size:
            raise node.fail("its infrequent categories do not fit")
        # Missing is in no group and keeps its number.
        listed = groups.tolist() + [length] * (len(values) - length)
        result.append((listed, listed[int(first.reshape(-1)[0])]))
    return result


def _table(values: list[Any], entries: list[Any], unknown: Any, shape: Shape) -> Table:
    """Return the table; a missing value that is no category is as unknown as any other."""
    missing = unknown
    if values[-1] != values[-1]:
        missing = entries[-1]
        values, entries = values[:-1], entries[:-1]
    # Columns of numbers alone have been looked at; beside strings nobody has.
    table = dict(zip(values, entries, strict=True))
    return Table(table, missing, unknown, may_be_infinite=any(shape.numeric))


@transformer("sklearn.preprocessing._encoders.OneHotEncoder")
def one_hot_encoder(node: Node, shape: Shape) -> Transformer:
    handling = node.text("handle_unknown", ("error", "ignore", "infrequent_if_exist", "warn"))
    expect_float64(node)
    categories = _categories(node, shape)
    widths = [int(width) for width in node.listed("_n_features_outs", shape.width)]
    drops = node.get("_drop_idx_after_grouping")
    dropped = [None] * shape.width if drops is None else list(drops)
    if len(dropped) != shape.width:
        raise node.fail("what it drops does not fit")
    tables = []
    start = 0
    groupings = _mappings(node, categories, without_missing=False)
    for values, (groups, infrequent), width, drop in zip(categories, groupings, widths, dropped, strict=True):

        def place(group: int, drop: Any = drop, width: int = width, start: int = start) -> int:
            """Return the column of a category's one, -1 for a dropped category."""
            if drop is not None and group == drop:
                return -1
            column = group - 1 if drop is not None and group > drop else group
            if not 0 <= column < width:
                raise node.fail("a category stands outside its columns")
            return start + column

        if drop is not None and (isinstance(drop, bool) or not isinstance(drop, int)):
            raise node.fail("what it drops is no index")
        if handling == "error":
            unknown: Any = _REFUSE
        elif infrequent is not None and handling in ("infrequent_if_exist", "warn"):
            unknown = place(infrequent)
        else:
            unknown = -1
        tables.append(_table(values, [place(group) for group in groups], unknown, shape))
        start += width
    if shape.sparse and node.flag("sparse_output"):
        return SparseOneHot(tables, widths)
    return OneHot(tables, widths)


def expect_float64(node: Node) -> None:
    """Check that the result is float64. Raises NotCompilable."""
    dtype = node.get("dtype")
    named = getattr(dtype, "name", None)
    if named not in ("numpy.float64", "float64"):
        raise node.fail("its dtype is not float64")


@transformer("sklearn.preprocessing._encoders.OrdinalEncoder")
def ordinal_encoder(node: Node, shape: Shape) -> Transformer:
    handling = node.text("handle_unknown", ("error", "use_encoded_value"))
    expect_float64(node)
    categories = _categories(node, shape)
    missing: Any = node.get("encoded_missing_value")
    unknown: Any = node.get("unknown_value") if handling == "use_encoded_value" else _REFUSE
    if not isinstance(missing, int | float) or not (unknown is _REFUSE or isinstance(unknown, int | float)):
        raise node.fail("it encodes to something that is no number")
    encoded = float(missing)
    if handling == "use_encoded_value":
        unknown = float(unknown)
    tables = []
    groupings = _mappings(node, categories, without_missing=True)
    for values, (groups, _) in zip(categories, groupings, strict=True):
        entries = [float(group) for group in groups]
        if values[-1] != values[-1]:
            entries[-1] = encoded
        tables.append(_table(values, entries, unknown, shape))
    return Codes(tables, list(range(shape.width)))


@transformer("sklearn.preprocessing._target_encoder.TargetEncoder")
def target_encoder(node: Node, shape: Shape) -> Transformer:
    categories = _categories(node, shape)
    if node.flag("_infrequent_enabled"):
        raise node.fail("it has infrequent categories")
    classes = 1
    if node.text("target_type_", ("binary", "multiclass", "continuous")) == "multiclass":
        classes = len(node.array_like("classes_"))
        means = node.array("target_mean_", (classes,)).tolist()
    else:
        means = [node.number("target_mean_")]
    encodings = node.listed("encodings_", shape.width * classes)
    tables, sources = [], []
    for number, encoding in enumerate(encodings):
        source = number // classes
        values = categories[source]
        entries = checked(encoding, "TargetEncoder: encodings_", (len(values),)).tolist()
        tables.append(_table(values, entries, means[number % classes], shape))
        sources.append(source)
    return Codes(tables, sources)


class Bins(Step):
    """The number of the bin in which a value lies; an edge belongs to the bin above it."""

    takes_missing = False

    def __init__(self, edges: list[Matrix]) -> None:
        super().__init__(len(edges), range(len(edges)))
        self._edges = edges

    def __call__(self, block: Matrix, calm: bool) -> Matrix:
        out = np.empty(block.shape)
        for column, edges in enumerate(self._edges):
            out[:, column] = edges.searchsorted(block[:, column], side="right")
        return out


class BinsThen(Step):
    """Bins, and their numbers one-hot."""

    takes_missing = False

    def __init__(self, bins: Bins, encoder: OneHot) -> None:
        super().__init__(encoder.width, encoder.origins)
        self.kind = encoder.kind
        self._bins = bins
        self._encoder = encoder

    def __call__(self, block: Matrix, calm: bool) -> Any:
        return self._encoder(self._bins(block, calm), calm)


@transformer("sklearn.preprocessing._discretization.KBinsDiscretizer")
def k_bins_discretizer(node: Node, shape: Shape) -> Transformer:
    shape.expect(node, NUMBERS)
    encode = node.text("encode", ("ordinal", "onehot", "onehot-dense"))
    if node.get("dtype") is not None:
        expect_float64(node)
    edges = []
    for array in node.array("bin_edges_", (shape.width,), "O").tolist():
        inner = checked(array, "KBinsDiscretizer: bin_edges_", (None,))[1:-1]
        if (np.diff(inner) < 0).any():
            raise NotCompilable("KBinsDiscretizer: bin_edges_ are not sorted")
        edges.append(inner)
    bins = Bins(edges)
    if encode == "ordinal":
        return bins
    wanted = Shape(NUMBERS, shape.width, sparse=shape.sparse)
    encoder = one_hot_encoder(node.node("_encoder", "OneHotEncoder"), wanted)
    if not isinstance(encoder, OneHot):
        raise node.fail("its encoder is odd")
    return BinsThen(bins, encoder)
