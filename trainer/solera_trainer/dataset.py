"""From a raw table to features, target and held-out rows, checked before anything is fitted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from solera_core import schema as feature_schema
from solera_core.canonical import canonical_json, sha256_digest
from solera_core.failures import Failure, Reason
from solera_core.nearest import did_you_mean, listed
from solera_core.schema import Column, Feature, Schema, Target
from solera_core.spec import SplitMethod, Task, Training
from solera_core.split import below, join_keys, key_numbers
from solera_trainer.columns import convert, infer_type, storage_kind, texts
from solera_trainer.problem import Problem
from solera_trainer.targets import target_values
from solera_trainer.training_rows import Hashes, TrainingRows, content_hashes

Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cut:
    """Where a Time split cuts: rows whose `column` is at or above `value` are held out."""

    column: str
    value: float


@dataclass(frozen=True)
class Dataset:
    """All rows that have a target, in an order that does not depend on files or their rows' order.

    `columns` are a model's, each of shape (rows,); `target` the true values; `test` says which rows are held
    out. `groups` are codes of the keys, when `split.column` is declared and its values repeat (always for
    Group): cross-validation keeps them together, and bounds take them for what is independent. `keys` and
    `contents` are hashes of each row, `raw_kinds` the raw columns' types as far as keys depend on them.
    """

    schema: Schema
    columns: dict[str, Column]
    target: npt.NDArray[Any]
    test: Rows
    groups: npt.NDArray[np.int64] | None
    digest: str
    cut: Cut | None
    rows_without_target: int
    keys: Hashes
    contents: Hashes
    raw_kinds: Mapping[str, str]

    def training_rows(self) -> TrainingRows:
        """Return the hashes by which an evaluation knows the training rows again."""
        return TrainingRows.of(self.keys[~self.test], self.contents[~self.test])

    def side(self, rows: Rows) -> tuple[dict[str, Column], npt.NDArray[Any]]:
        """Return columns and target of some of the rows."""
        return {name: column[rows] for name, column in self.columns.items()}, self.target[rows]


def prepare(problem: Problem, raw: Any) -> Dataset:
    """Return the data of a training from the raw table (a pyarrow Table).

    Raises Failure: TargetColumnMissing, ColumnMissing, TooFewRows, TooManyMissing, DataUnreadable,
    SplitEmpty.
    """
    return _prepare(problem, raw, _features(problem.training, raw), None, None)


def prepare_again(problem: Problem, raw: Any, schema: Schema, cut: Cut | None) -> Dataset:
    """Return the data for an evaluation: features and types as the schema froze them, the cut as recorded.

    It has the held-out rows only: what the others hold does not matter here, even a value that is not of the
    column's type. Raises Failure as `prepare` does.
    """
    for feature in schema.features:
        _require(feature.name, raw, "a feature of the model")
    return _prepare(problem, raw, schema.features, schema.target, cut)


def _prepare(
    problem: Problem, raw: Any, features: Sequence[Feature], target: Target | None, cut: Cut | None
) -> Dataset:
    training, task = problem.training, problem.task
    data = training.data
    if data.target not in raw.column_names:
        hint = did_you_mean(data.target, raw.column_names)
        message = f'there is no target column "{data.target}".{hint} The data has {listed(raw.column_names)}.'
        raise Failure(Reason.TARGET_COLUMN_MISSING, message)
    if data.split.column is not None:
        _require(data.split.column, raw, "the split column")
    minimum = data.checks.min_rows if data.checks else None
    if raw.num_rows < (minimum or 1):
        message = f"the data has {raw.num_rows} rows; checks.minRows asks for {minimum or 1}."
        raise Failure(Reason.TOO_FEW_ROWS, message)
    keys = row_keys_of(raw)
    order, digest = _order_and_digest(raw.column_names, keys)
    kept = order[~raw.column(data.target).is_null(nan_is_null=True).to_numpy()[order]]
    if problem.method is SplitMethod.TIME:
        kept = _by_time(raw, data.split.column or "", kept)
    _check_missing(training, features, raw, kept)
    sides = _split(problem, raw, keys, kept, cut)
    without_target = raw.num_rows - len(kept)
    if target is not None:
        kept, sides = kept[sides.test], sides.held_out()
    kind, values = target_values(
        task, data.target, raw.column(data.target), target.type if target else None, kept
    )
    origin = "was {} when the version was trained" if target and data.columns is None else "is declared {}"
    columns = {
        feature.name: convert(feature.name, raw.column(feature.name), feature.type, kept, origin=origin)
        for feature in features
    }
    classes = target.classes if target is not None else _classes(task, values[~sides.test])
    return Dataset(
        schema=Schema(task.value, Target(data.target, kind, classes), tuple(features)),
        columns=columns,
        target=values,
        test=sides.test,
        groups=sides.groups,
        digest=digest,
        cut=sides.cut,
        rows_without_target=without_target,
        keys=sides.keys,
        contents=content_hashes(columns, values, problem.salt),
        raw_kinds={name: storage_kind(raw.column(name)) for name in raw.column_names},
    )


def row_keys_of(raw: Any) -> list[str]:
    """Return the key of each raw row, from all its columns."""
    return join_keys((name, texts(raw.column(name))) for name in raw.column_names)


def _order_and_digest(names: Sequence[str], keys: Sequence[str]) -> tuple[npt.NDArray[np.int64], str]:
    """Return an order of the rows and a digest of the data that depend on the set of rows alone."""
    hashes = [hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest() for key in keys]
    words = np.frombuffer(b"".join(hashes), dtype=">u8").reshape(-1, 4)
    order = np.lexsort((words[:, 1], words[:, 0])).astype(np.int64)
    total = sum(int.from_bytes(item) for item in hashes) % 2**256
    document = {"columns": sorted(names), "rows": len(keys), "sum": f"{total:064x}"}
    return order, sha256_digest(canonical_json(document))


def _features(training: Training, raw: Any) -> list[Feature]:
    data = training.data
    if data.columns is not None:
        for column in data.columns:
            _require(column.name, raw, "a column of data.columns")
        return [Feature(column.name, column.type.value) for column in data.columns]
    left_out = {data.target, data.split.column}
    names = [name for name in raw.column_names if name not in left_out]
    if not names:
        message = f"the data has no feature: there is only {listed(raw.column_names)}."
        raise Failure(Reason.COLUMN_MISSING, message)
    return [Feature(name, infer_type(name, raw.column(name))) for name in names]


def _require(name: str, raw: Any, what: str) -> None:
    if name not in raw.column_names:
        hint = did_you_mean(name, raw.column_names)
        message = f'there is no column "{name}", {what}.{hint} The data has {listed(raw.column_names)}.'
        raise Failure(Reason.COLUMN_MISSING, message)


def _check_missing(
    training: Training, features: Sequence[Feature], raw: Any, rows: npt.NDArray[np.int64]
) -> None:
    checks = training.data.checks
    if checks is None or checks.max_missing_percent is None or not len(rows):
        return
    shares = {
        feature.name: 100 * float(raw.column(feature.name).is_null(nan_is_null=True).to_numpy()[rows].mean())
        for feature in features
    }
    bad = [f"{name} ({share:.0f}%)" for name, share in shares.items() if share > checks.max_missing_percent]
    if bad:
        message = (
            f"more than checks.maxMissingPercent = {checks.max_missing_percent}% is missing in {listed(bad)}."
        )
        raise Failure(Reason.TOO_MANY_MISSING, message)


def _by_time(raw: Any, column: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return rows[np.argsort(time_values(raw, column)[rows], kind="stable")]


def time_values(raw: Any, name: str) -> npt.NDArray[np.float64]:
    """Return the column that a Time split orders rows by, as numbers (times as seconds since 1970).

    Raises Failure (DataUnreadable) when it is text or has missing values.
    """
    kind = infer_type(name, raw.column(name))
    if kind in {feature_schema.STRING, feature_schema.BOOLEAN}:
        message = f'the split column "{name}" is {kind}: the Time method needs times (ISO 8601) or numbers.'
        raise Failure(Reason.DATA_UNREADABLE, message)
    values = np.asarray(convert(name, raw.column(name), kind), dtype=np.float64)
    missing = int(np.isnan(values).sum())
    if missing:
        message = f'the split column "{name}" has no time in {missing} rows.'
        raise Failure(Reason.DATA_UNREADABLE, message)
    return values


@dataclass(frozen=True)
class _Sides:
    test: Rows
    keys: Hashes
    groups: npt.NDArray[np.int64] | None = None
    cut: Cut | None = None

    def held_out(self) -> _Sides:
        """Return the held-out rows alone."""
        groups = None if self.groups is None else self.groups[self.test]
        return _Sides(self.test[self.test], self.keys[self.test], groups, self.cut)


def _split(
    problem: Problem, raw: Any, row_keys: list[str], rows: npt.NDArray[np.int64], cut: Cut | None
) -> _Sides:
    split, method = problem.training.data.split, problem.method
    if method is SplitMethod.TIME:
        values = time_values(raw, split.column or "")[rows]
        if cut is None:
            ordered = np.sort(values)
            cut = Cut(split.column or "", float(ordered[len(ordered) * (100 - split.test_percent) // 100]))
        keys = key_numbers([row_keys[row] for row in rows], problem.salt)
        return _Sides(values >= cut.value, keys, cut=cut)
    if split.column is not None:
        row_keys = texts(raw.column(split.column))
    keys = key_numbers([row_keys[row] for row in rows], problem.salt)
    groups = None
    if split.column is not None:
        distinct, codes = np.unique(keys, return_inverse=True)
        if len(distinct) < len(keys) or method is SplitMethod.GROUP:
            groups = codes.astype(np.int64)
    return _Sides(below(keys, split.test_percent), keys, groups)


def _classes(task: Task, train: npt.NDArray[Any]) -> tuple[Any, ...] | None:
    return tuple(np.unique(train).tolist()) if task is Task.CLASSIFICATION else None


def check_sides(problem: Problem, dataset: Dataset) -> None:
    """Check that both sides of the split, and the folds, can be worked with.

    Raises Failure (SplitEmpty, SingleClass, TooFewRows).
    """
    train, test = dataset.target[~dataset.test], dataset.target[dataset.test]
    split, folds = problem.training.data.split, problem.training.validation.folds
    sides = f"{len(train)} training rows and {len(test)} held-out rows"
    if not len(train) or not len(test):
        message = f"the split gives {sides}: add data, or change split.testPercent or split.seed."
        raise Failure(Reason.SPLIT_EMPTY, message)
    if len(train) < 2 * folds:
        message = f"{len(train)} training rows are too few for {folds} folds."
        raise Failure(Reason.TOO_FEW_ROWS, message)
    if dataset.groups is not None and len(np.unique(dataset.groups[~dataset.test])) < folds:
        message = f'"{split.column}" has fewer groups among the training rows than the {folds} folds.'
        raise Failure(Reason.TOO_FEW_ROWS, message)
    if problem.task is Task.CLASSIFICATION:
        _check_classes(problem, train, test, sides)


def _check_classes(problem: Problem, train: npt.NDArray[Any], test: npt.NDArray[Any], sides: str) -> None:
    folds = problem.training.validation.folds
    classes, counts = np.unique(train, return_counts=True)
    if len(classes) < 2:
        message = f'the training rows have only the class "{classes[0]}" of "{problem.training.data.target}".'
        raise Failure(Reason.SINGLE_CLASS, message)
    if problem.method is SplitMethod.STRATIFIED:
        absent = sorted(map(str, set(classes.tolist()) ^ set(np.unique(test).tolist())))
        if absent:
            message = (
                f"the split gives {sides}, but the classes {listed(absent)} are not on both sides: add rows "
                "of them, change split.seed, or write split.method: Random."
            )
            raise Failure(Reason.SPLIT_EMPTY, message)
        few = [str(name) for name, count in zip(classes, counts, strict=True) if count < folds]
        if few:
            message = f"the classes {listed(few)} have fewer training rows than the {folds} folds."
            raise Failure(Reason.TOO_FEW_ROWS, message)
