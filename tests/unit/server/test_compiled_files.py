"""Model files that are not what the trainer writes: nothing in them is run, indexed out of range or believed."""

from __future__ import annotations

import contextlib
import io
import json
import random
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from compiled_models import behind_columns, labels, numbers, objects, schema_of, strings
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from solera_core.failures import ArtifactCorrupt
from solera_core.schema import STRING
from solera_server.batch import InputError, Layout
from solera_server.compiled.node import Node
from solera_server.compiled.pipeline import CompiledPredictor, compile_model
from solera_server.compiled.refusals import NotCompilable
from solera_server.compiled.skeleton import read
from solera_trainer.model_bytes import model_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from solera_core.schema import Schema


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def fitted(estimator: Any) -> tuple[bytes, Schema]:
    """Return a small model of every kind of column, as bytes, and its schema."""
    generator = np.random.default_rng(1)
    table = numbers(generator, 40, 3, missing=0.05)
    target = labels(generator, table, 3)
    table["city"] = strings(generator, 40, ["Porto", "Jerez"], missing=0.1)
    table["text"] = objects(["a cat", "the mat sat", "a rat", "mat"] * 10)
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    texts = [
        ("fill", SimpleImputer(strategy="constant", fill_value="", keep_empty_features=True)),
        ("flat", FunctionTransformer(np.ravel)),
        ("terms", TfidfVectorizer()),
    ]
    bins = KBinsDiscretizer(3, encode="onehot-dense", quantile_method="averaged_inverted_cdf")
    branches = [
        ("numbers", Pipeline([("fill", fill), ("scale", StandardScaler())]), ["n0", "n1"]),
        ("bins", Pipeline([("fill", fill), ("bins", bins)]), ["n2"]),
        ("city", OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=2), ["city"]),
        ("text", Pipeline(texts), ["text"]),
    ]
    model = Pipeline(
        [("preprocess", ColumnTransformer(branches, sparse_threshold=0.0)), ("model", estimator)]
    )
    model.fit(table, target)
    return model_bytes(model), schema_of(table, model.classes_)


ESTIMATORS = [
    LogisticRegression(),
    KNeighborsClassifier(3, leaf_size=5),
    GaussianNB(),
    MLPClassifier(3, max_iter=5, random_state=1),
    SVC(),
]


@pytest.fixture(scope="module")
def models() -> list[tuple[bytes, Schema]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [fitted(estimator) for estimator in ESTIMATORS]


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(node, dict | list):
        for key, item in node.items() if isinstance(node, dict) else enumerate(node):
            yield from places(item, (*path, key))


SEEDS = 60
REPLACEMENTS: list[Any] = [
    None, -1, 0, 3, 2**40, 1.5, "", "x", "null", "NaN", "-7", "[1, 2]", '"text"', [], {}, [[]], True, "00000001.npy",
]  # fmt: skip


@pytest.mark.parametrize(
    "number", range(len(ESTIMATORS)), ids=lambda number: type(ESTIMATORS[number]).__name__
)
def test_a_changed_tree_is_compiled_or_refused(
    models: list[tuple[bytes, Schema]], tmp_path: Path, number: int
) -> None:
    """Whatever stands in schema.json: a predictor, or one of two exceptions."""
    data, schema = models[number]
    files = members(data)
    text = files["schema.json"]
    everywhere = list(places(json.loads(text)))[1:]
    for seed in range(SEEDS):
        choose = random.Random(seed)
        tree = json.loads(text)
        for path in choose.sample(everywhere, choose.randint(1, 3)):
            replace(tree, path, choose)
        files["schema.json"] = json.dumps(tree).encode()
        only_these(write(tmp_path / "model.skops", files), schema, f"seed {seed}")


def replace(tree: Any, path: tuple[Any, ...], choose: random.Random) -> None:
    """Put something else in a place of the tree, or nothing; if the place is gone by now, leave it."""
    parent = tree
    for key in path[:-1]:
        if not isinstance(parent, dict | list) or (
            key not in parent if isinstance(parent, dict) else key >= len(parent)
        ):
            return
        parent = parent[key]
    if isinstance(parent, dict) and choose.random() < 0.3:
        parent.pop(path[-1], None)
    elif isinstance(parent, dict) or (isinstance(parent, list) and path[-1] < len(parent)):
        parent[path[-1]] = choose.choice(REPLACEMENTS)


@pytest.mark.parametrize(
    "number", range(len(ESTIMATORS)), ids=lambda number: type(ESTIMATORS[number]).__name__
)
def test_a_changed_array_is_compiled_or_refused(
    models: list[tuple[bytes, Schema]], tmp_path: Path, number: int
) -> None:
    original, schema = models[number]
    files = members(original)
    for name in [name for name in files if name.endswith(".npy")]:
        array = np.load(io.BytesIO(files[name]))
        for index, change in enumerate(ARRAY_CHANGES):
            buffer = io.BytesIO()
            np.save(buffer, change(array), allow_pickle=False)
            changed = {**files, name: buffer.getvalue()}
            only_these(write(tmp_path / "model.skops", changed), schema, f"{name}, change {index}")


ARRAY_CHANGES: list[Callable[[Any], Any]] = [
    lambda array: array[..., :-1] if array.ndim else array,
    lambda array: array.reshape(-1),
    lambda array: array[None],
    lambda array: np.zeros(array.shape, dtype=np.float32),
    lambda array: np.full(array.shape, -1, dtype=array.dtype if array.dtype.kind in "if" else np.int64),
    lambda array: np.full(
        array.shape, 2**31 - 1, dtype=array.dtype if array.dtype.kind in "if" else np.int64
    ),
    lambda array: np.full(array.shape, np.nan),
    lambda _array: np.array("text"),
    np.asfortranarray,
    lambda array: array[..., ::-1] if array.ndim else array,
]


def only_these(path: Path, schema: Schema, what: str) -> None:
    """Check that a file is compiled into something that predicts, or refused with one of two exceptions."""
    try:
        with contextlib.suppress(NotCompilable, ArtifactCorrupt):
            two_rows(compile_model(path, schema), schema)
    except Exception as error:
        error.add_note(what)
        raise


def two_rows(predictor: CompiledPredictor, schema: Schema) -> None:
    columns = [
        np.array(["Porto", np.nan], dtype=object) if feature.type == STRING else np.array([0.5, np.nan])
        for feature in schema.features
    ]
    batch = Layout(schema.features).batch(columns, lambda row, column: f"{row}, {column}")
    with contextlib.suppress(InputError):
        found = predictor.predict(batch, predictor.outputs)
        assert all(len(values) == batch.rows for values in found.values())


def test_the_reader_gives_what_the_file_says(models: list[tuple[bytes, Schema]], tmp_path: Path) -> None:
    node = read(write(tmp_path / "model.skops", members(models[0][0])))
    assert node.type == "sklearn.pipeline.Pipeline"
    (_, preprocess), (_, model) = node.get("steps")
    assert isinstance(preprocess, Node)
    assert model.array("coef_", (3, None)).flags.writeable is False
    assert model.text("solver", ("lbfgs",)) == "lbfgs"
    with pytest.raises(NotCompilable, match="LogisticRegression: coef_ has the shape"):
        model.array("coef_", (4, None))
    with pytest.raises(NotCompilable, match="LogisticRegression: nothing is absent"):
        model.get("nothing")


@pytest.mark.parametrize(
    ("name", "data", "failure"),
    [
        ("schema.json", b"{", (ArtifactCorrupt, "cannot be read")),
        ("schema.json", b"[]", (ArtifactCorrupt, "does not say which protocol")),
        ("schema.json", b'{"protocol": true}', (ArtifactCorrupt, "does not say which protocol")),
        ("schema.json", b'{"protocol": 3}', (NotCompilable, "has protocol 3 of skops")),
        ("schema.json", b'{"protocol": 2}', (NotCompilable, "oddly made: KeyError")),
        ("../schema.json", b"{}", (ArtifactCorrupt, "a member with the name")),
    ],
)
def test_files_that_are_none(
    models: list[tuple[bytes, Schema]],
    tmp_path: Path,
    name: str,
    data: bytes,
    failure: tuple[type[Exception], str],
) -> None:
    files = {**members(models[0][0]), name: data}
    with pytest.raises(failure[0], match=failure[1]):
        read(write(tmp_path / "model.skops", files))


def test_foreign_types_are_left_to_the_list(models: list[tuple[bytes, Schema]], tmp_path: Path) -> None:
    """Even where nobody would look at them: skops knows what may be there."""
    for kind, loader in (("os", "FunctionNode"), ("evil", "ObjectNode"), ("builtins", "MethodNode")):
        files = members(models[0][0])
        tree = json.loads(files["schema.json"])
        foreign = {"__class__": "system", "__module__": kind, "__loader__": loader, "__id__": 999_999}
        tree["content"]["content"]["verbose"] = {**foreign, "content": {"func": "x", "obj": foreign}}
        files["schema.json"] = json.dumps(tree).encode()
        with pytest.raises(NotCompilable, match=r"the model file (names the function|has)"):
            read(write(tmp_path / "model.skops", files))


def test_an_array_that_claims_more_than_it_has(models: list[tuple[bytes, Schema]], tmp_path: Path) -> None:
    files = members(models[0][0])
    name = next(name for name in files if name.endswith(".npy"))
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    files[name] = buffer.getvalue()
    with pytest.raises(NotCompilable, match="size is not that of its header"):
        read(write(tmp_path / "model.skops", files))


def test_deep_nesting_ends(tmp_path: Path) -> None:
    tree: dict[str, Any] = {"__class__": "int", "__module__": "builtins", "__loader__": "TypeNode"}
    for _ in range(300):
        tree = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": [tree]}
    files = {"schema.json": json.dumps({**tree, "protocol": 2}).encode()}
    with pytest.raises(NotCompilable, match="nested deeper than"):
        read(write(tmp_path / "model.skops", files))


def test_another_scikit_learn_is_not_compiled(models: list[tuple[bytes, Schema]], tmp_path: Path) -> None:
    data, schema = models[0]
    files = members(data)
    files["schema.json"] = files["schema.json"].replace(b'\\"1.9.', b'\\"1.8.')
    with pytest.raises(NotCompilable, match=r"no compiled forms for scikit-learn 1\.8"):
        compile_model(write(tmp_path / "model.skops", files), schema)


def test_columns_of_another_schema(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    table = numbers(generator, 40, 2)
    model = behind_columns([("scale", StandardScaler())], table.columns, LogisticRegression())
    model.fit(table, labels(generator, table, 2))
    path = tmp_path / "model.skops"
    path.write_bytes(model_bytes(model))
    other = schema_of(pd.DataFrame({"n0": table["n0"], "m1": table["n1"]}), model.classes_)
    with pytest.raises(NotCompilable, match=r"other columns than those of schema\.json"):
        compile_model(path, other)
    swapped = schema_of(table, model.classes_[::-1])
    with pytest.raises(ArtifactCorrupt, match=r"classes are not those of schema\.json"):
        compile_model(path, swapped)
