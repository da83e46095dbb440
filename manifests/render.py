#!/usr/bin/env python3
"""Print an overlay as YAML with the images that were built.

    python3 -m solera_cluster images tags > tags.json
    python3 manifests/render.py --overlay local --images tags.json | kubectl apply --server-side -f -

Standard library only; `kubectl kustomize` does the rest in a generated folder below build/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

MANIFESTS = Path(__file__).resolve().parent
COMPONENTS = ("operator", "trainer", "server")


class RenderError(Exception):
    """The overlay cannot be rendered; the text says why."""


def read_images(path: Path) -> dict[str, str]:
    """Read {"operator": reference, "trainer": …, "server": …}; "-" is standard input."""
    text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    try:
        images = json.loads(text)
    except ValueError as error:
        raise RenderError(f"{path}: is not JSON: {error}") from error
    missing = [name for name in COMPONENTS if not isinstance(images, dict) or not images.get(name)]
    if missing:
        raise RenderError(
            f"{path}: write an object with {', '.join(COMPONENTS)}; missing: {', '.join(missing)}"
        )
    return {name: str(images[name]) for name in COMPONENTS}


def settings_file(overlay: Path) -> Path:
    """The settings of an overlay: its own, or the base's."""
    own = overlay / "settings.yaml"
    return own if own.exists() else MANIFESTS / "base" / "settings.yaml"


def with_images(settings: str, images: dict[str, str]) -> str:
    """Settings with the built images in place of `localhost/solera-trainer` and `localhost/solera-server`."""
    for component in ("trainer", "server"):
        placeholder = rf"(?m)^(\s*{component}Image: )localhost/solera-{component}$"
        settings, count = re.subn(placeholder, rf"\g<1>{images[component]}", settings)
        if count != 1:
            raise RenderError(
                f"the settings hold `{component}Image: localhost/solera-{component}` {count} times, not once"
            )
    return settings


def image_override(reference: str) -> dict[str, str]:
    """The entry of kustomize's `images` that puts `reference` in place of the operator's image."""
    entry = {"name": "localhost/solera-operator"}
    name, _, digest = reference.partition("@")
    if digest:
        return {**entry, "newName": name, "digest": digest}
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        return {**entry, "newName": name}
    return {**entry, "newName": head, "newTag": tag}


def generate(overlay: str, images: dict[str, str], directory: Path) -> None:
    """Write a kustomization that lays the images over an overlay."""
    source = MANIFESTS / "overlays" / overlay
    if not (source / "kustomization.yaml").exists():
        known = ", ".join(
            sorted(path.parent.name for path in MANIFESTS.glob("overlays/*/kustomization.yaml"))
        )
        raise RenderError(f"there is no overlay {overlay}; write one of: {known}")
    directory.mkdir(parents=True, exist_ok=True)
    settings = with_images(settings_file(source).read_text(encoding="utf-8"), images)
    (directory / "settings.yaml").write_text(settings, encoding="utf-8")
    # JSON is YAML: no library is needed to write it.
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(source, directory)],
        "images": [image_override(images["operator"])],
        "configMapGenerator": [
            {
                "name": "solera-settings",
                "namespace": "solera-system",
                "behavior": "replace",
                "files": ["settings.yaml"],
            }
        ],
    }
    (directory / "kustomization.yaml").write_text(json.dumps(kustomization, indent=1), encoding="utf-8")


def render(overlay: str, images: dict[str, str], directory: Path, kubectl: str = "kubectl") -> str:
    """The overlay as YAML, with the images.

    Raises:
        RenderError: there is no such overlay, or kubectl cannot build it.
    """
    generate(overlay, images, directory)
    try:
        done = subprocess.run(
            [kubectl, "kustomize", str(directory)], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise RenderError(f"{kubectl} cannot be run: {error.strerror}; name it with --kubectl") from error
    if done.returncode:
        raise RenderError(f"{kubectl} kustomize {directory} failed: {done.stderr.strip()}")
    return done.stdout


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--overlay", required=True, help="a folder of manifests/overlays, e.g. local")
    parser.add_argument("--images", required=True, type=Path, help="JSON file with operator, trainer, server")
    parser.add_argument("--kubectl", default=os.environ.get("KUBECTL", "kubectl"), help="the kubectl to use")
    parser.add_argument("--build", type=Path, default=MANIFESTS.parent / "build" / "manifests")
    given = parser.parse_args(arguments)
    try:
        images = read_images(given.images)
        sys.stdout.write(render(given.overlay, images, given.build / given.overlay, given.kubectl))
    except (RenderError, OSError) as error:
        print(f"render.py: {error}", file=sys.stderr)  # noqa: T201 a command's own message
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
