"""
What every image is made of, and the tag that follows from it.

A tag is a digest of an image's inputs: the same inputs give the same tag, and a change of any gives another.
Nothing here runs a program; the sources are read.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import ModuleType

from solera_cluster import base_rootfs, image_contexts, native_wheel, python_dependencies
from solera_cluster.errors import ClusterError
from solera_cluster.versions import Versions

TAG_DIGITS = 12


class Kind(Enum):
    """How the build context of an image is made."""

    BASE = "base"
    DEPENDENCIES = "dependencies"
    COMPONENT = "component"
    BINARY = "binary"


@dataclass(frozen=True)
class Component:
    """One of Solera's own programs: the packages of its source layer, relative to the checkout."""

    name: str
    packages: tuple[str, ...]
    native: bool = False
    """Whether the C extension belongs to it."""


COMPONENTS = (
    Component("operator", ("operator/solera_operator", "core/solera_core")),
    Component("trainer", ("trainer/solera_trainer", "core/solera_core")),
    Component("server", ("model_server/solera_server", "core/solera_core"), native=True),
)

# Images of the platform: one binary each. The node makes its own of `pause`.
BINARIES = ("coredns", "metrics-server", "versitygw", "envoy-gateway", "envoy")


@dataclass(frozen=True)
class Recipe:
    """
    One image.

    `arguments` are the Containerfile's build arguments; `parents` are images that must be there first.
    """

    name: str
    kind: Kind
    reference: str
    containerfile: Path
    arguments: Mapping[str, str] = field(default_factory=dict)
    parents: "tuple[Recipe, ...]" = ()


@dataclass(frozen=True)
class Inputs:
    """
    Where the inputs are.

    `base_image` is a Python image to start from, or None for the one bootstrapped from Debian packages;
    `binaries_key` stands for the compiler and versions of the Go binaries. `native` says whether the server's
    C extension can be compiled.
    """

    checkout: Path
    versions: Versions
    binaries_key: str
    base_image: str | None
    native: bool

    @property
    def containerfiles(self) -> Path:
        """Folder of the Containerfiles."""
        return self.checkout / "cluster" / "images"


def names() -> tuple[str, ...]:
    """Everything that can be asked for by name."""
    return ("base", *(component.name for component in COMPONENTS), *BINARIES)


def recipe(name: str, inputs: Inputs) -> Recipe | None:
    """Give the recipe of a name; None for `base` where a public image takes its place."""
    if name == "base":
        return _base(inputs)
    if name in BINARIES:
        return _binary(name, inputs)
    for component in COMPONENTS:
        if component.name == name:
            return _component(component, inputs)
    raise ClusterError(f"there is no image {name}; write one of: {', '.join(names())}")


def closure(wanted: Iterable[Recipe]) -> list[Recipe]:
    """Every recipe with its parents before it, each once."""
    ordered: dict[str, Recipe] = {}
    for entry in wanted:
        for parent in closure(entry.parents):
            ordered.setdefault(parent.reference, parent)
        ordered.setdefault(entry.reference, entry)
    return list(ordered.values())


def _digest(*parts: object) -> str:
    described = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(described.encode()).hexdigest()[:TAG_DIGITS]


def _source(module: ModuleType) -> str:
    """Text of a module that decides what gets into an image: changing it makes other images."""
    return Path(str(module.__file__)).read_text()


def _base(inputs: Inputs) -> Recipe | None:
    if inputs.base_image is not None:
        return None
    containerfile = inputs.containerfiles / "base.Containerfile"
    tag = _digest(containerfile.read_text(), inputs.versions.debian_suite, _source(base_rootfs))
    return Recipe("base", Kind.BASE, f"localhost/solera-base:{tag}", containerfile)


def _python_base(inputs: Inputs) -> tuple[str, tuple[Recipe, ...]]:
    """Give the reference of the base image, and what must be built to have it."""
    base = _base(inputs)
    if base is None:
        return str(inputs.base_image), ()
    return base.reference, (base,)


def _dependencies(component: Component, inputs: Inputs) -> Recipe:
    base, parents = _python_base(inputs)
    containerfile = inputs.containerfiles / "python-dependencies.Containerfile"
    requirements = inputs.checkout / "requirements" / f"{component.name}.txt"
    rules = _source(python_dependencies)
    tag = _digest(containerfile.read_text(), requirements.read_text(), rules, base)
    return Recipe(
        f"{component.name}-dependencies",
        Kind.DEPENDENCIES,
        f"localhost/solera-{component.name}-dependencies:{tag}",
        containerfile,
        {"BASE_IMAGE": base},
        parents,
    )


def _component(component: Component, inputs: Inputs) -> Recipe:
    below = _dependencies(component, inputs)
    containerfile = inputs.containerfiles / f"{component.name}.Containerfile"
    files = list(image_contexts.source_files(inputs.checkout, component.packages))
    if component.native and inputs.native:
        files += native_wheel.sources(inputs.checkout)
    sources = {
        str(path.relative_to(inputs.checkout)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    tag = _digest(containerfile.read_text(), sources, below.reference)
    return Recipe(
        component.name,
        Kind.COMPONENT,
        f"localhost/solera-{component.name}:{tag}",
        containerfile,
        {"DEPENDENCIES_IMAGE": below.reference},
        (below,),
    )


def _binary(name: str, inputs: Inputs) -> Recipe:
    containerfile = inputs.containerfiles / f"{name}.Containerfile"
    version = getattr(inputs.versions, name.replace("-", "_"))
    arguments: dict[str, str] = {}
    parents: tuple[Recipe, ...] = ()
    origin = inputs.binaries_key
    if name == "envoy":
        base, parents = _python_base(inputs)
        arguments = {"LIBC_IMAGE": base}
        origin = (inputs.containerfiles / "envoy.requirements.txt").read_text()
    tag = f"{version}-{_digest(containerfile.read_text(), origin, arguments)}"
    return Recipe(name, Kind.BINARY, f"localhost/solera-{name}:{tag}", containerfile, arguments, parents)
