import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trainer_cases import problem, table

from solera_core.failures import Failure, Reason
from solera_trainer.dataset import check_sides, prepare, prepare_again
from solera_trainer.selection import _folds

TABLE = table()


def test_features_are_all_columns_but_the_target():
    dataset = prepare(problem(), TABLE)
    assert [(f.name, f.type) for f in dataset.schema.features] == [
        ("number", "Float"),
        ("count", "Integer"),
        ("colour", "String"),
        ("flag", "Boolean"),
        ("day", "DateTime"),
        ("id", "String"),
        ("value", "Float"),
    ]
    assert dataset.schema.target.classes == ("high", "low")


def test_declared_columns_are_used_and_no_others():
    declared = [{"name": "colour", "type": "String"}, {"name": "count", "type": "Float"}]
    dataset = prepare(problem(data={"columns": declared}), TABLE)
    assert {name: column.dtype for name, column in dataset.columns.items()} == {
        "colour": np.dtype(object),
        "count": np.float64,
    }


def test_the_split_column_is_no_feature():
    dataset = prepare(problem(data={"split": {"column": "id"}}), TABLE)
    assert "id" not in dataset.columns


@settings(max_examples=15, deadline=None)
@given(st.randoms())
def test_order_of_rows_and_columns_does_not_matter(random):
    rows, names = list(range(TABLE.num_rows)), list(TABLE.column_names)
    random.shuffle(rows)
    random.shuffle(names)
    one, other = prepare(problem(), TABLE), prepare(problem(), TABLE.take(rows).select(names))
    assert one.digest == other.digest
    assert np.array_equal(one.test, other.test)
    assert all(
        np.array_equal(one.columns[name], other.columns[name], equal_nan=name not in {"colour", "id"})
        for name in one.columns
        if name != "colour"
    )


@pytest.mark.parametrize(
    "split", [{}, {"method": "Random"}, {"column": "id"}, {"method": "Group", "column": "count"}]
)
def test_rows_that_were_trained_on_are_never_held_out_later(split):
    """Data grows by a half: the old rows keep their sides."""
    grown = pa.concat_tables([TABLE, table(rows=100, seed=1)])
    asked = problem(data={"split": split})
    before, after = prepare(asked, TABLE), prepare(asked, grown)

    def side(dataset):
        return dict(zip(dataset.columns["value"].tolist(), dataset.test.tolist(), strict=True))

    old, new = side(before), side(after)
    assert {value: new[value] for value in old} == old
    assert before.digest != after.digest


def test_a_missing_value_that_comes_later_changes_no_side(tmp_path):
    """One missing value turns a parquet column of integers into floats."""
    whole = pa.table({"a": list(range(200)), "y": [f"c{i % 2}" for i in range(200)]})
    grown = pa.table({"a": pa.array([*map(float, range(200)), None]), "y": [f"c{i % 2}" for i in range(201)]})
    before, after = prepare(problem(), whole), prepare(problem(), grown)
    held = set(before.columns["a"][before.test].tolist())
    assert held <= set(after.columns["a"][after.test].tolist())


def test_groups_stay_together():
    dataset = prepare(problem(data={"split": {"method": "Group", "column": "count"}}), TABLE)
    for group in np.unique(dataset.groups):
        assert len(set(dataset.test[dataset.groups == group])) == 1


@pytest.mark.parametrize("method", ["Random", "Stratified", "Group"])
def test_folds_keep_keys_together(method):
    asked = problem(data={"split": {"method": method, "column": "count"}})
    dataset = prepare(asked, TABLE)
    groups = dataset.groups[~dataset.test]
    for train, test in _folds(asked, dataset.target[~dataset.test], groups):
        assert not set(groups[train]) & set(groups[test])
    assert prepare(problem(data={"split": {"method": "Random", "column": "id"}}), TABLE).groups is None


def test_a_time_split_holds_out_the_latest_and_keeps_its_cut():
    asked = problem(data={"split": {"method": "Time", "column": "day"}})
    dataset = prepare(asked, TABLE)
    days = np.sort(np.array(TABLE["day"].to_pylist(), dtype="datetime64[s]").astype(float))
    assert dataset.cut.value == days[160]
    assert dataset.test.sum() == (days >= dataset.cut.value).sum()
    later = table(rows=300, seed=5)
    again = prepare_again(asked, later, dataset.schema, dataset.cut)
    moments = np.array(later["day"].to_pylist(), dtype="datetime64[s]").astype(float)
    assert again.test.sum() == (moments >= dataset.cut.value).sum(), "the recorded cut holds, not a new one"


def test_rows_without_target_are_left_out_and_counted():
    y = TABLE["y"].to_pylist()
    y[:7] = [None] * 7
    dataset = prepare(problem(), TABLE.set_column(7, "y", pa.array(y)))
    assert dataset.rows_without_target == 7
    assert len(dataset.target) == 193


def with_target(values):
    return TABLE.set_column(7, "y", pa.array(values))


TARGETS = [
    ([float(i % 3) for i in range(200)], "Integer", (0, 1, 2)),
    ([i % 3 for i in range(200)], "Integer", (0, 1, 2)),
    ([i % 2 == 0 for i in range(200)], "Boolean", (False, True)),
    (["a" if i % 2 else "b" for i in range(200)], "String", ("a", "b")),
]


@pytest.mark.parametrize(("values", "kind", "classes"), TARGETS)
def test_classes_keep_their_type(values, kind, classes):
    target = prepare(problem(), with_target(values)).schema.target
    assert (target.type, target.classes) == (kind, classes)
    assert [type(label) for label in target.classes] == [type(label) for label in classes]


FAILURES = [
    ({"data": {"target": "yy"}}, TABLE, Reason.TARGET_COLUMN_MISSING, 'Did you mean "y"?'),
    ({"data": {"target": "zzz"}}, TABLE, Reason.TARGET_COLUMN_MISSING, "The data has number, count, colour"),
    (
        {"data": {"columns": [{"name": "color", "type": "String"}]}},
        TABLE,
        Reason.COLUMN_MISSING,
        'Did you mean "colour"?',
    ),
    ({"data": {"split": {"column": "ids"}}}, TABLE, Reason.COLUMN_MISSING, 'Did you mean "id"?'),
    (
        {"data": {"checks": {"minRows": 201}}},
        TABLE,
        Reason.TOO_FEW_ROWS,
        "200 rows; checks.minRows asks for 201",
    ),
    ({}, TABLE.slice(0, 0), Reason.TOO_FEW_ROWS, "has 0 rows"),
    ({"data": {"checks": {"maxMissingPercent": 5}}}, TABLE, Reason.TOO_MANY_MISSING, "number ("),
    ({}, TABLE.select(["y"]), Reason.COLUMN_MISSING, "no feature"),
    ({"task": "Regression"}, TABLE, Reason.DATA_UNREADABLE, "write task: Classification"),
    ({"data": {"target": "value"}}, TABLE, Reason.DATA_UNREADABLE, "write task: Regression"),
    (
        {"data": {"columns": [{"name": "colour", "type": "Float"}]}},
        TABLE,
        Reason.DATA_UNREADABLE,
        'column "colour" is declared Float',
    ),
    (
        {"data": {"split": {"method": "Time", "column": "colour"}}},
        TABLE,
        Reason.DATA_UNREADABLE,
        "needs times",
    ),
    (
        {"data": {"split": {"method": "Time", "column": "number"}}},
        TABLE,
        Reason.DATA_UNREADABLE,
        "has no time in",
    ),
    ({}, with_target(["a"] * 200), Reason.SINGLE_CLASS, 'only the class "a"'),
    ({}, with_target(["a"] * 199 + ["b"]), Reason.SPLIT_EMPTY, "the classes b are not on both sides"),
    ({}, TABLE.slice(2, 3), Reason.TOO_FEW_ROWS, "3 folds"),
    (
        {"data": {"split": {"method": "Group", "column": "id"}}, "validation": {"folds": 20}},
        TABLE.set_column(5, "id", pa.array([index % 15 for index in range(200)])),
        Reason.TOO_FEW_ROWS,
        "fewer groups",
    ),
    (
        {"task": "Regression", "data": {"target": "value"}},
        TABLE.set_column(6, "value", pa.array([float("inf")] * 200)),
        Reason.DATA_UNREADABLE,
        "infinite in 200 rows",
    ),
]


@pytest.mark.parametrize(("spec", "raw", "reason", "message"), FAILURES)
def test_failures_say_what_to_write(spec, raw, reason, message):
    asked = problem(**spec)
    with pytest.raises(Failure) as raised:
        check_sides(asked, prepare(asked, raw))
    assert (raised.value.reason, message in raised.value.message) == (reason, True), raised.value.message


def test_an_evaluation_needs_the_models_features():
    dataset = prepare(problem(), TABLE)
    with pytest.raises(Failure, match='no column "number", a feature of the model'):
        prepare_again(problem(), TABLE.drop_columns(["number"]), dataset.schema, None)
    changed = TABLE.set_column(0, "number", pa.array(["x"] * 200))
    with pytest.raises(Failure, match='column "number" was Float when the version was trained'):
        prepare_again(problem(), changed, dataset.schema, None)


def test_an_evaluation_converts_held_out_rows_only():
    """One real number in a column of integers, among the training rows or among the held-out ones."""
    asked = problem(data={"split": {"column": "id"}})
    dataset = prepare(asked, TABLE)
    held = set(prepare_again(asked, TABLE, dataset.schema, None).columns["value"].tolist())
    sides = [value in held for value in TABLE["value"].to_pylist()]
    assert sum(sides) == dataset.test.sum() == len(held)
    for row in (sides.index(False), sides.index(True)):
        counts = [float(value) for value in TABLE["count"].to_pylist()]
        counts[row] = 1.5
        grown = TABLE.set_column(1, "count", pa.array(counts))
        if not sides[row]:
            assert len(prepare_again(asked, grown, dataset.schema, None).target) == len(held)
            continue
        message = (
            rf'column "count" was Integer when the version was trained, and row {row + 1} holds \'1\.5\''
        )
        with pytest.raises(Failure, match=message):
            prepare_again(asked, grown, dataset.schema, None)


def test_an_evaluation_keeps_the_types_that_were_frozen():
    """A column that was Float stays so when the new data happens to hold whole numbers."""
    dataset = prepare(problem(), TABLE)
    whole = TABLE.set_column(0, "number", pa.array([1] * 200))
    again = prepare_again(problem(), whole, dataset.schema, None)
    assert again.schema.features == dataset.schema.features
