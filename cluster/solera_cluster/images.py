"""Commands around images: build them, load them into the cluster's containerd, print their references."""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from solera_cluster import (
    image_builder,
    image_contexts,
    image_load,
    image_recipes,
    kind,
    lifecycle,
    native_wheel,
    network,
    paths,
    progress,
    selection,
    versions,
)
from solera_cluster.command import Command
from solera_cluster.errors import ClusterError
from solera_cluster.image_recipes import Kind, Recipe

# What the steps took on two cores, for the progress lines
_USUAL_SECONDS = {Kind.BASE: 35.0, Kind.DEPENDENCIES: 35.0, Kind.COMPONENT: 3.0, Kind.BINARY: 2.0}
_PUBLIC_BASE = "python:3.11-slim-bookworm"


def inputs() -> image_recipes.Inputs:
    """
    Give the inputs of this checkout.

    The base is SOLERA_BASE_IMAGE, if set; otherwise a public Python image where a docker engine can pull it,
    and a bootstrapped one with buildah.
    """
    docker = image_builder.choose().name == "docker"
    return image_recipes.Inputs(
        checkout=paths.CHECKOUT,
        versions=versions.load(),
        binaries_key=paths.bin_dir().name,
        base_image=os.environ.get("SOLERA_BASE_IMAGE") or (_PUBLIC_BASE if docker else None),
        native=native_wheel.obstacle() is None,
    )


def recipes(names: Iterable[str] = ()) -> list[Recipe]:
    """
    Give the recipes of the named images, or of all.

    `components` stands for Solera's own three, `platform` for the images of what they run beside.
    """
    groups = {
        "components": tuple(component.name for component in image_recipes.COMPONENTS),
        "platform": image_recipes.BINARIES,
    }
    asked = [single for name in names for single in groups.get(name, (name,))] or image_recipes.names()
    known = inputs()
    found = [image_recipes.recipe(name, known) for name in dict.fromkeys(asked)]
    return [recipe for recipe in found if recipe is not None]


def reference(name: str) -> str:
    """Give the reference of one image, such as `localhost/solera-operator:1f2e3d4c5b6a`."""
    [recipe] = recipes([name])
    return recipe.reference


def tags() -> dict[str, str]:
    """References of Solera's own three images, by component."""
    return {recipe.name: recipe.reference for recipe in recipes(["components"])}


def build(names: Iterable[str] = ()) -> list[Recipe]:
    """Build what is missing of the named images (all by default) and of what they stand on."""
    wanted = recipes(names)
    builder = image_builder.choose()
    existing = builder.existing()
    if all(recipe.reference in existing for recipe in wanted):
        return wanted
    with _lock():
        existing = builder.existing()
        for below in image_recipes.closure(parent for recipe in wanted for parent in recipe.parents):
            if below.reference not in existing:
                _build_one(builder, below)
                existing.add(below.reference)
        # Sources may have been edited while the images below were built.
        wanted = recipes(recipe.name for recipe in wanted)
        return [recipe if recipe.reference in existing else _build_one(builder, recipe) for recipe in wanted]


def load(names: Iterable[str] = ()) -> list[Recipe]:
    """
    Build what is missing, then bring what the nodes of the cluster lack to them; give their recipes.

    Raises ClusterError for a cluster that is neither kind's nor our own: its owner has a registry.
    """
    built = build(tuple(names) or _loadable())
    references = [recipe.reference for recipe in built]
    builder = image_builder.choose()
    target = selection.current()
    if target is selection.Target.EXISTING and not is_local(lifecycle.main_kubeconfig()):
        raise ClusterError(
            "CLUSTER=existing: images cannot be loaded into nodes that are not on this machine; push these to"
            f" a registry of that cluster and name them in its manifests: {' '.join(references)}"
        )
    if target is selection.Target.KIND:
        image_load.into_kind(builder, references, kind.CLUSTER_NAME)
    elif image_load.missing_in_containerd(references):
        with _lock():
            image_load.into_containerd(builder, references)
    return built


def is_local(kubeconfig: Path) -> bool:
    """Whether a kubeconfig leads to the local cluster, whatever file it is in."""
    return f"https://{network.NODE_ADDRESS}:" in kubeconfig.read_text()


def _loadable() -> tuple[str, ...]:
    return tuple(name for name in image_recipes.names() if name != "base")


def _build_one(builder: image_builder.Builder, recipe: Recipe) -> Recipe:
    """Build an image; of sources that change while they are copied, the state after the change."""
    folder = paths.cache_dir() / "images" / "contexts"
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{recipe.name}-", dir=folder))
    context = scratch / "context"
    context.mkdir()
    context.chmod(0o755)
    try:
        with progress.step(
            f"building image {recipe.reference}", expected_seconds=_USUAL_SECONDS[recipe.kind]
        ):
            _fill(recipe, context)
            if recipe.kind is Kind.COMPONENT:
                [current] = recipes([recipe.name])
                if current != recipe:
                    return _build_one(builder, current)
            builder.build(recipe, context)
            return recipe
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fill(recipe: Recipe, context: Path) -> None:
    match recipe.kind:
        case Kind.BASE:
            image_contexts.fill_base(context)
        case Kind.DEPENDENCIES:
            image_contexts.fill_dependencies(recipe.name.removesuffix("-dependencies"), context)
        case Kind.COMPONENT:
            [component] = [entry for entry in image_recipes.COMPONENTS if entry.name == recipe.name]
            image_contexts.fill_component(component.packages, context, native=component.native)
        case Kind.BINARY:
            image_contexts.fill_binary(recipe.name, context)


def prune() -> list[str]:
    """Remove built images that this checkout's inputs no longer give; running clusters keep their copies."""
    builder = image_builder.choose()
    current = {recipe.reference for recipe in image_recipes.closure(recipes())}
    prefixes = tuple(name.rpartition(":")[0] + ":" for name in current)
    with _lock():
        superseded = sorted(
            name for name in builder.existing() if name.startswith(prefixes) and name not in current
        )
        builder.remove(superseded)
        for pattern in ("contexts/*", "plain-*", "load-*"):  # of runs that were killed
            for folder in (paths.cache_dir() / "images").glob(pattern):
                shutil.rmtree(folder, ignore_errors=True)
    return superseded


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """One build at a time on this machine; a second one waits."""
    file = paths.cache_dir() / "images" / "lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("  waiting for another build of images")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = f"components, platform, {', '.join(image_recipes.names())}; all by default"
    for name, summary in (
        ("build", "build what is missing"),
        ("load", "build what is missing and import it into the cluster"),
        ("sizes", "print the sizes of built images"),
    ):
        action = actions.add_parser(name, help=summary, description=summary)
        action.add_argument("names", nargs="*", metavar="IMAGE", help=listing)
    actions.add_parser("tags", help="print the references of operator, trainer and server as JSON")
    actions.add_parser("prune", help="remove built images of earlier inputs")


def _run(arguments: argparse.Namespace) -> int:
    match arguments.action:
        case "build":
            for recipe in build(arguments.names):
                print(recipe.reference)
        case "load":
            load(arguments.names)
        case "tags":
            print(json.dumps(tags(), indent=2))
        case "prune":
            for name in prune():
                print(name)
        case "sizes":
            builder = image_builder.choose()
            existing = builder.existing()
            for recipe in recipes(arguments.names):
                built = recipe.reference in existing
                size = f"{builder.size(recipe.reference) / 1e6:.1f} MB" if built else "not built"
                print(f"{size:>10}  {recipe.reference}")
    return 0


COMMANDS = (Command("images", "build, load and name container images", _run, _add_arguments),)
