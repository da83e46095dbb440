"""Reading files into one table of raw columns, before any type is decided."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from typing import Any

from solera_core.failures import Failure, Reason
from solera_trainer.sources import SourceFile

MISSING_TEXTS = ("", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "NULL")
"""What stands for a missing value in CSV. Other words, such as None, are values."""

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


def _read(file: SourceFile) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with file.open() as stream:
        if file.format == "csv":
            return _read_csv(file, stream)
        if file.format == "csv.gz":
            with gzip.GzipFile(fileobj=stream) as unpacked:
                return _read_csv(file, unpacked)
        try:
            table = pq.ParquetFile(stream).read()
        except (pa.ArrowException, OSError) as error:
            message = f"{file.name} is not a readable parquet file: {error}."
            raise Failure(Reason.DATA_UNREADABLE, message) from error
    _refuse_twice(file.name, table.column_names)
    return table


def _read_csv(file: SourceFile, stream: Any) -> Any:
    import pandas as pd
    import pyarrow as pa

    try:
        header = _header(file.name, stream)
        frame = pd.read_csv(
            stream,
            names=header,
            header=None,
            dtype=str,
            keep_default_na=False,
            na_values=list(MISSING_TEXTS),
            encoding="utf-8",
            index_col=False,
            on_bad_lines="error",
        )
    except UnicodeDecodeError as error:
        message = f"{file.name} is not UTF-8: {error.reason} at byte {error.start}."
        raise Failure(Reason.DATA_UNREADABLE, message) from error
    except (pd.errors.ParserError, gzip.BadGzipFile, EOFError, csv.Error) as error:
        message = f"{file.name} is not a readable CSV file: {str(error).strip()}."
        raise Failure(Reason.DATA_UNREADABLE, message) from error
    except pd.errors.EmptyDataError:
        frame = pd.DataFrame({name: pd.Series([], dtype=str) for name in header})
    return pa.table({name: pa.array(frame[name], type=pa.string(), from_pandas=True) for name in header})


def _header(name: str, stream: Any) -> list[str]:
    """Read the first record, which names the columns; it may span lines within quotes."""
    text = ""
    while line := stream.readline(1_000_000):
        text += line.decode("utf-8-sig" if not text else "utf-8")
        if text.count('"') % 2 == 0:
            break
    header = [column.strip() for column in next(csv.reader([text.rstrip("\r\n")]), [])]
    if not header:
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
