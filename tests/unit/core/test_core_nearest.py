"""Suggestions for names: those for strangers cost little, however they are chosen."""

from time import process_time

import pytest

from solera_core.nearest import hint, mistyped

NAMES = ["sepal_length_cm", "sepal_width_cm", "age", "hours_per_week", "x"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sepal_lenght_cm", "sepal_length_cm"),
        ("sepal-length-cm", "sepal_length_cm"),
        ("Sepal Length CM", "sepal_length_cm"),
        ("sepal_length", None),
        ("sepalwidth_cm", "sepal_width_cm"),
        ("sepal_width_cmm", "sepal_width_cm"),
        ("hours_perr_week", "hours_per_week"),
        ("Age", "age"),
        ("ages", "age"),
        ("cat", None),
        ("y", None),
        ("", None),
    ],
)
def test_a_slip_is_found(name, found):
    assert mistyped(name, NAMES) == (f' Did you mean "{found}"?' if found else "")


def test_where_no_name_is_like_it_those_that_there_are_are_told():
    assert hint("Age", NAMES) == ' Did you mean "age"?'
    assert hint("sepal_length", NAMES) == f" There are {', '.join(NAMES)}."
    assert hint("f", [f"feature_{i}" for i in range(30)]).endswith(", feature_19 and 10 more.")


def test_no_name_costs_much():
    known = [f"feature_{'abc'[i % 3]}_{i:04d}_mean_of_radius_and_texture" for i in range(2000)]
    for name in (
        known[0][::-1],
        known[0][:20] + "##" + known[0][20:],
        "feature_a_????_mean_of_radius_and_texture",
    ):
        started = process_time()
        mistyped(name, known)
        assert process_time() - started < 0.1
