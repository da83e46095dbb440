"""Reading files into one table of raw columns, before any type is decided."""

from __future__ import annotations

import csv
import gzip
import itertools
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from solera_core.failures import Failure, Reason
from solera_trainer.sources import SourceFile

MISSING_TEXTS = ("", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "NULL")
"""What stands for a missing value in CSV. Other words, such as None, are values."""

_QUOTE = '"'
MAX_LINE_BYTES = 16 * 1024**2
_RECORDS = 20_000
"""Records of a CSV file that are held as Python texts at a time."""

_TARGETS = {
    "iris": "species",
    "wine": "cultivar",
    "breast_cancer": "diagnosis",
    "digits": "digit",
    "diabetes": "progression",
}


def read_files(files: list[SourceFile]) -> Any:
    """Return the rows of all files as one pyarrow Table; CSV columns are strings.

    Raises Failure (DataUnreadable) naming the file, and what the opening raises.
    """
    import pyarrow as pa

    tables = [_read(file) for file in files]
    first = tables[0]
    for file, table in zip(files, tables, strict=True):
        if set(table.column_names) != set(first.column_names):
            odd = sorted(set(table.column_names) ^ set(first.column_names))
            message = f"{file.name} has other columns than {files[0].name}: {', '.join(odd[:10])}."
            raise Failure(Reason.DATA_UNREADABLE, message)
    try:
        return pa.concat_tables(
            [table.select(first.column_names) for table in tables], promote_options="permissive"
        )
    except pa.ArrowException as error:
        message = f"the files do not agree on the types of their columns: {error}."
        raise Failure(Reason.DATA_UNREADABLE, message) from error


def read_bundled(name: str) -> Any:
    """Return a data set inside scikit-learn as a pyarrow Table.

    Names are made of letters, digits and underscores; the target is called as `_TARGETS` says, with the
    classes' names as values (digits: the digits). Raises Failure (DataNotFound).
    """
    import pyarrow as pa
    from sklearn import datasets

    if name not in _TARGETS:
        message = f"there is no bundled set {name}; there are {', '.join(sorted(_TARGETS))}."
        raise Failure(Reason.DATA_NOT_FOUND, message)
    bunch = getattr(datasets, f"load_{name}")()
    columns = {
        _plain(feature): bunch.data[:, index].astype(float)
        for index, feature in enumerate(bunch.feature_names)
    }
    values = bunch.target
    if name in {"iris", "wine", "breast_cancer"}:
        values = [str(bunch.target_names[code]) for code in values]
    return pa.table({**columns, _TARGETS[name]: pa.array(values)})


def _plain(feature: str) -> str:
    words = "".join(char if char.isalnum() else " " for char in feature).split()
    return "_".join(words)


class _Watched:
    """A stream that remembers what its reading raised: Arrow's own errors are of the same types."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.trouble: Exception | None = None

    @property
    def closed(self) -> bool:
        return bool(self._stream.closed)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """Leave the stream open: it belongs to the source."""

    def read(self, size: int = -1) -> Any:
        return self._done(self._stream.read, size)

    def seek(self, offset: int, whence: int = 0) -> Any:
        return self._done(self._stream.seek, offset, whence)

    def tell(self) -> Any:
        return self._done(self._stream.tell)

    def _done(self, action: Any, *arguments: int) -> Any:
        try:
            return action(*arguments)
        except Exception as error:
            self.trouble = error
            raise


def _read(file: SourceFile) -> Any:
    with file.open() as stream:
        if file.format == "csv":
            return _read_csv(file.name, stream)
        if file.format == "csv.gz":
            with gzip.GzipFile(fileobj=stream) as unpacked:
                return _read_csv(file.name, unpacked)
        table = _read_parquet(file.name, _Watched(stream))
    _refuse_twice(file.name, table.column_names)
    return table


def _read_parquet(name: str, stream: _Watched) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(stream).read()
    except (pa.ArrowException, OSError) as error:
        if stream.trouble is not None:
            # The store's, not the file's: the source names it.
            raise stream.trouble from None
        message = f"{name} is not a readable parquet file: {error}."
        raise Failure(Reason.DATA_UNREADABLE, message) from error


def _read_csv(name: str, stream: Any) -> Any:
    import pyarrow as pa

    lines = _Lines(name, stream)
    csv.field_size_limit(MAX_LINE_BYTES)
    records = csv.reader(lines, skipinitialspace=True, strict=True)
    try:
        header = _header(name, next(records, []))
        rows = _rows(name, records, lines, len(header))
        parts = []
        while chunk := list(itertools.islice(rows, _RECORDS)):
            columns = zip(*chunk, strict=True)
            parts.append(pa.table([pa.array(column, type=pa.string()) for column in columns], names=header))
    except (gzip.BadGzipFile, zlib.error, EOFError, csv.Error) as error:
        message = f"{name} is not a readable CSV file: line {lines.number}: {str(error).strip()}."
        raise Failure(Reason.DATA_UNREADABLE, message) from error
    empty = pa.table({column: pa.array([], type=pa.string()) for column in header})
    return pa.concat_tables(parts) if parts else empty


class _Lines:
    """The lines of a file as text; knows the number of the last one and the text of the record being read."""

    def __init__(self, name: str, stream: Any) -> None:
        self._name, self._stream = name, stream
        self.number = 0
        self.record: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(MAX_LINE_BYTES)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == MAX_LINE_BYTES:
            message = f"{self._name}: line {self.number} has more than {MAX_LINE_BYTES} bytes."
            raise Failure(Reason.DATA_UNREADABLE, message)
        try:
            text: str = line.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            message = f"{self._name} is not UTF-8: line {self.number}: {error.reason}."
            raise Failure(Reason.DATA_UNREADABLE, message) from error
        self.record.append(text)
        return text


def _rows(name: str, records: Any, lines: _Lines, width: int) -> Iterator[list[str | None]]:
    """Yield the records' values, unquoted ones without spaces around, missing ones as None."""
    lines.record.clear()
    for record in records:
        text = "".join(lines.record)
        lines.record.clear()
        if not text.strip():
            continue
        if len(record) != width:
            message = (
                f"{name}: line {lines.number} has {len(record)} fields, and the first line names {width} "
                "columns: put text with commas in quotes, or complete the line."
            )
            raise Failure(Reason.DATA_UNREADABLE, message)
        values = [value.strip() for value in record]
        if '"' in text:
            values = [
                value if f'"{value.replace(_QUOTE, _QUOTE * 2)}"' in text else stripped
                for value, stripped in zip(record, values, strict=True)
            ]
        yield [None if value in MISSING_TEXTS else value for value in values]


def _header(name: str, record: list[str]) -> list[str]:
    """Check the first record, which names the columns."""
    header = [column.strip() for column in record]
    if not any(header):
        raise Failure(Reason.DATA_UNREADABLE, f"{name} is empty: its first line must name the columns.")
    if "" in header:
        message = f"{name}: column {header.index('') + 1} has no name in the first line."
        raise Failure(Reason.DATA_UNREADABLE, message)
    _refuse_twice(name, header)
    return header


def _refuse_twice(file: str, names: list[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        message = f"{file} has two columns with the name {', '.join(twice)}."
        raise Failure(Reason.DATA_UNREADABLE, message)
