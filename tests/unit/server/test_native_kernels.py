"""The C extension and its twin in numpy: the same bits, the same refusals, and no step outside an array."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import solera_native as native
from damaged_trees import random_parts
from damaged_trees import rows as random_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from solera_server.compiled import kernels_numpy as plain
from solera_server.compiled.kernels_numpy_trees import CATEGORICAL, MISSING_LEFT, Parts

BOTH = pytest.mark.parametrize("module", [native, plain], ids=["native", "numpy"])

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(0, 9), st.integers(1, 40), st.integers(1, 6))
@settings(deadline=None)
def test_linear_sums_are_the_same_bits_alone_and_in_company(
    seed: int, rows: int, columns: int, outputs: int
) -> None:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, columns)) * 10.0 ** generator.integers(-9, 9, (rows, columns))
    weights = generator.normal(size=(columns, outputs))
    intercept = generator.normal(size=outputs)
    found = []
    for module in (native, plain):
        out = np.empty((rows, outputs))
        module.linear(x, weights, intercept, out)
        alone = np.empty((rows, outputs))
        for row in range(rows):
            module.linear(x[row : row + 1], weights, intercept, alone[row : row + 1])
        assert alone.tobytes() == out.tobytes()
        found.append(out.tobytes())
    assert found[0] == found[1]
    assert np.allclose(out, x @ weights + intercept, rtol=1e-9)


@given(st.lists(st.floats(allow_nan=False) | st.floats(-40, 40), max_size=30), st.sampled_from([1.0, 2.0]))
@settings(deadline=None)
def test_shares_of_two_classes_have_the_bits_of_scipy(values: list[float], factor: float) -> None:
    sums = np.array(values).reshape(-1, 1)
    with np.errstate(over="ignore"):
        second = expit(factor * sums[:, 0])
    for module in (native, plain):
        out = np.empty((len(values), 2))
        module.two_shares(sums, factor, out)
        assert out.tobytes() == np.column_stack([1 - second, second]).tobytes()


@given(seeds, st.integers(0, 9), st.integers(1, 12), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_scaled_sums_have_the_bits_of_scaling_and_summing(
    seed: int, rows: int, columns: int, outputs: int
) -> None:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, columns)) * 10.0 ** generator.integers(-3, 4)
    shift, divisor = generator.normal(size=columns), generator.uniform(0.1, 9, columns)
    weights, intercept = generator.normal(size=(columns, outputs)), generator.normal(size=outputs)
    wanted = np.empty((rows, outputs))
    plain.linear((x - shift) / divisor, weights, intercept, wanted)
    for module in (native, plain):
        out = np.empty((rows, outputs))
        assert module.scaled_linear(x, shift, divisor, weights, intercept, 1e100, out) is True
        assert out.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e100, -1e101])
@BOTH
def test_scaled_sums_say_that_a_number_is_odd(module: Any, odd: float) -> None:
    one, out = np.ones(2), np.empty((2, 1))
    for x, weights in (([[1, 2], [3, odd]], [[1.0], [1.0]]), ([[1, 2], [3, 9e99]], [[1.0], [1.0]])):
        good = np.array(x, dtype=float)
        with np.errstate(all="ignore"):
            calm = module.scaled_linear(good, one, one / 4, np.array(weights), np.zeros(1), 1e100, out)
        assert calm is False
    assert module.scaled_linear(np.ones((2, 2)), one, one, np.ones((2, 1)), np.zeros(1), 1e100, out) is True


@given(st.lists(st.floats(), max_size=40) | st.lists(st.floats(-1e99, 1e99), max_size=400))
@settings(deadline=None)
def test_numbers_are_calm_where_none_is_missing_or_large(values: list[float]) -> None:
    wanted = all(abs(value) < 1e100 for value in values)
    assert [module.calm(np.array(values), 1e100) for module in (native, plain)] == [wanted, wanted]


@given(seeds, st.integers(1, 3000), st.integers(1, 5), st.sampled_from([0, 1, 2]))
@settings(deadline=None, max_examples=40)
def test_distances_are_the_same_bits(seed: int, points: int, features: int, metric: int) -> None:
    generator = np.random.default_rng(seed)
    columns = generator.normal(size=(features, points)) * 10.0 ** generator.integers(-200, 200, (features, 1))
    row = generator.choice(columns, axis=1)
    found = []
    for module in (native, plain):
        out = np.empty(points)
        module.distances(columns, row, metric, out)
        found.append(out.tobytes())
    assert found[0] == found[1]
    gaps = np.abs(columns - row[:, None])
    with np.errstate(over="ignore"):
        wanted = [(gaps**2).sum(axis=0), gaps.sum(axis=0), gaps.max(axis=0)][metric]
    assert np.allclose(out, wanted, rtol=1e-12)


def stump(**changes: Any) -> Parts:
    """Two trees: x[1] up to 0.5 gives 1 or 2, a category of x[0] gives 3 or 4."""
    right = np.zeros((1, 16), dtype=np.uint32)
    right[0, 0], right[0, 8] = 0b10, 0b100
    inf = np.inf
    parts = Parts(
        feature=np.array([1, 0, 0, 0, 0, 0], dtype=np.int32),
        threshold=np.array([0.5, inf, inf, 0.0, inf, inf]),
        left=np.array([1, 1, 2, 4, 4, 5], dtype=np.int32),
        flags=np.array([0, 1, 1, CATEGORICAL, 1, 1], dtype=np.uint8),
        place=np.array([0, 0, 1, 0, 2, 3], dtype=np.int32),
        values=np.array([[1.0], [2.0], [3.0], [4.0]]),
        roots=np.array([0, 3], dtype=np.int32),
        offsets=np.array([0, 1], dtype=np.int32),
        start=np.zeros(2),
        categories=right,
    )
    return parts._replace(**changes)


@BOTH
def test_categories_go_left_right_or_where_missing_goes(module: Any) -> None:
    values = [1.0, 2.0, 3.0, 1.9, -1.0, 256.0, 300.0, np.nan, np.inf, -np.inf]
    x = np.array([[value, 0.5] for value in values])
    for flags, other in ((CATEGORICAL, 4.0), (CATEGORICAL | MISSING_LEFT, 3.0)):
        nodes = np.array([0, 1, 1, flags, 1, 1], dtype=np.uint8)
        out = np.empty((len(x), 2))
        assert module.Trees(stump(flags=nodes), 1.0, 2, False, 0).score(x, out) == -1
        assert out[:, 1].tolist() == [3.0, 4.0, other, 3.0, *([other] * 6)]


@BOTH
@pytest.mark.parametrize(
    "changes",
    [
        {"feature": np.array([2, 0, 0, 0, 0, 0], dtype=np.int32)},
        {"feature": np.array([-1, 0, 0, 0, 0, 0], dtype=np.int32)},
        {"left": np.array([1, 1, 2, 5, 4, 5], dtype=np.int32)},
        {"left": np.array([1, 0, 2, 4, 4, 5], dtype=np.int32)},
        {"left": np.array([-1, 1, 2, 4, 4, 5], dtype=np.int32)},
        {"left": np.array([6, 1, 2, 4, 4, 5], dtype=np.int32)},
        {"place": np.array([0, 4, 1, 0, 2, 3], dtype=np.int32)},
        {"place": np.array([0, -1, 1, 0, 2, 3], dtype=np.int32)},
        {"place": np.array([0, 0, 1, 1, 2, 3], dtype=np.int32)},
        {"flags": np.array([0, 0, 1, 2, 1, 1], dtype=np.uint8)},
        {"flags": np.array([0, 3, 1, 2, 1, 1], dtype=np.uint8)},
        {"threshold": np.array([np.nan, np.inf, np.inf, 0, np.inf, np.inf])},
        {"threshold": np.array([0.5, 1.0, np.inf, 0, np.inf, np.inf])},
        {"roots": np.array([0, 6], dtype=np.int32)},
        {"roots": np.array([-1, 3], dtype=np.int32)},
        {"offsets": np.array([0, 2], dtype=np.int32)},
        {"offsets": np.array([-1, 0], dtype=np.int32)},
        {"categories": np.zeros((0, 16), dtype=np.uint32)},
    ],
)
def test_trees_that_would_leave_their_arrays_are_refused(module: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"node|leaf|threshold|tree"):
        module.Trees(stump(**changes), 1.0, 2, False, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": np.zeros(5)},
        {"threshold": np.zeros(6, dtype=np.float32)},
        {"left": np.zeros(6, dtype=np.int64)},
        {"values": np.zeros(4)},
        {"values": np.asfortranarray(np.zeros((4, 2)))},
        {"categories": np.zeros((1, 8), dtype=np.uint32)},
        {"start": np.zeros(0)},
        {"roots": np.zeros(0, dtype=np.int32), "offsets": np.zeros(0, dtype=np.int32)},
    ],
)
def test_arrays_of_another_kind_or_length_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, BufferError)):
        native.Trees(stump(**changes), 1.0, 2, False, 0)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (native.linear, (np.zeros((2, 3)), np.zeros((2, 1)), np.zeros(1), np.zeros((2, 1)))),
        (native.linear, (np.zeros((2, 3)), np.zeros((3, 1)), np.zeros(1), np.zeros((1, 1)))),
        (native.linear, (np.zeros((2, 3))[:, ::2], np.zeros((2, 1)), np.zeros(1), np.zeros((2, 1)))),
        *(
            (
                native.scaled_linear,
                tuple(1.0 if place == 5 else np.zeros(shape) for place, shape in enumerate(shapes)),
            )
            for shapes in (
                ((2, 3), 2, 3, (3, 1), 1, 0, (2, 1)),
                ((2, 3), 3, 4, (3, 1), 1, 0, (2, 1)),
                ((2, 3), 3, 3, (2, 1), 1, 0, (2, 1)),
                ((2, 3), 3, 3, (3, 1), 2, 0, (2, 1)),
                ((2, 3), 3, 3, (3, 1), 1, 0, (3, 1)),
                ((2, 3), 3, 3, (3, 1), 1, 0, (2, 2)),
            )
        ),
        (native.two_shares, (np.zeros((2, 1)), 1.0, np.zeros((3, 2)))),
        (native.distances, (np.zeros((2, 3)), np.zeros(3), 0, np.zeros(3))),
        (native.distances, (np.zeros((2, 3)), np.zeros(2), 0, np.zeros(2))),
        (native.distances, (np.zeros((2, 3)), np.zeros(2), 3, np.zeros(3))),
        (native.two_shares, (np.zeros((2, 2)), 1.0, np.zeros((2, 2)))),
        (native.Trees(stump(), 1.0, 2, False, 0).score, (np.zeros((1, 3)), np.zeros((1, 2)))),
        (native.Trees(stump(), 1.0, 2, False, 0).score, (np.zeros((2, 2)), np.zeros((1, 2)))),
        (native.Trees(stump(), 1.0, 2, False, 0).each, (np.zeros((1, 2)), np.zeros((1, 1)))),
    ],
)
def test_shapes_that_do_not_fit_are_refused(function: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, ValueError, BufferError)):
        function(*arguments)


def build(to: Path, flags: str, link: str = "") -> None:
    """Compile the extension with other flags into the directory ``to``."""
    arguments = ["setup.py", "-q", "build_ext", "-b", str(to), "-t", str(to / "objects")]
    subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[3] / "native",
        env={**os.environ, "CFLAGS": flags, "LDFLAGS": link},
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def for_old_processors(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the extension without what newer processors have."""
    directory = tmp_path_factory.mktemp("native")
    build(directory, "-DSOLERA_WITHOUT_AVX2")
    found = importlib.machinery.PathFinder.find_spec("solera_native", [str(directory)])
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@given(seeds, st.integers(1, 40), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=300)
def test_trees_score_the_same_bits_alone_and_in_company_on_any_processor(
    for_old_processors: Any, seed: int, rows: int, single: bool, odd: bool
) -> None:
    generator = np.random.default_rng(seed)
    parts = Parts(*random_parts(generator))
    x = random_rows(generator, rows) if odd else generator.normal(size=(rows, 3))
    exact = generator.random(x.shape) < 0.3
    x[exact] = generator.choice(parts.threshold, int(exact.sum()))
    if not odd:
        x = np.nan_to_num(x)
    found = []
    for module in (native, for_old_processors, plain):
        trees = module.Trees(parts, 3.0, 3, single, 0)
        out, alone = np.empty((2, rows, len(parts.start)))
        assert trees.score(x, out) == -1
        for row in range(rows):
            trees.score(x[row : row + 1], alone[row : row + 1])
        assert alone.tobytes() == out.tobytes()
        found.append(out.tobytes())
    assert found[0] == found[1] == found[2]


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the extension is, built with the address and undefined-behaviour sanitizers."""
    directory = tmp_path_factory.mktemp("sanitized")
    flags = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"
    build(directory, flags, "-fsanitize=address,undefined")
    return directory


def two_counts(sanitized: Path, script: str, *arguments: str) -> tuple[int, int]:
    """Run a script with the sanitized extension and return the counts that it prints."""
    library = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    finished = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(script)), *arguments],
        env={
            **os.environ,
            "PYTHONPATH": str(sanitized),
            "LD_PRELOAD": library,
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    first, second = map(int, finished.stdout.split())
    return first, second


def test_the_extension_stays_inside_its_arrays(sanitized: Path) -> None:
    made, refused = two_counts(sanitized, "damaged_trees.py")
    assert made > 100, "hardly any damaged forest was let through: the walk was not tried"
    assert refused > 100


def test_the_extension_stays_inside_request_bodies(sanitized: Path) -> None:
    corpus = Path(__file__).parents[2] / "fuzz" / "corpus"
    taken, refused = two_counts(sanitized, "hostile_bodies.py", str(corpus))
    assert taken > 500, "hardly any changed body was taken: what comes behind the first look was not tried"
    assert refused > 1000
