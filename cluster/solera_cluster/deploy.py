"""Puts Solera on the cluster: images, kinds, operator. The same step after every code change."""

import argparse
import importlib.util
import json
import types

from solera_cluster import images, kubectl, lifecycle, paths, progress
from solera_cluster.command import Command
from solera_cluster.errors import ClusterError

NAMESPACE = "solera-system"
_COMPONENTS = ("components",)
_ROLLOUT_SECONDS = 120


def deploy() -> dict[str, str]:
    """
    Build and load what has changed, apply it, wait until the operator is ready; give the images.

    Raises ClusterError with the operator's own last words where it does not get ready.
    """
    references = {recipe.name: recipe.reference for recipe in images.load(_COMPONENTS)}
    with progress.step("applying kinds and operator", expected_seconds=5):
        kubectl.run(
            *("apply", "--server-side", "--force-conflicts", "--field-manager=solera-cluster"),
            *("--kustomize", str(paths.CHECKOUT / "crds")),
        )
        kinds = ("crd/trainedmodels.solera.dev", "crd/modelversions.solera.dev")
        kubectl.run("wait", "--for=condition=Established", *kinds, "--timeout=30s")
        kubectl.apply(_manifests(references))
    with progress.step("waiting for the operator", expected_seconds=5):
        _wait()
    return references


def _manifests(references: dict[str, str]) -> str:
    """The overlay of the local cluster with this checkout's images."""
    render = _load_render()
    try:
        text: str = render.render(
            "local", references, paths.CHECKOUT / "build" / "manifests" / "local", str(lifecycle.kubectl())
        )
    except render.RenderError as error:
        raise ClusterError(str(error)) from error
    return text


def _load_render() -> types.ModuleType:
    """manifests/render.py is a program of its own, so that it works where nothing of this folder does."""
    file = paths.CHECKOUT / "manifests" / "render.py"
    spec = importlib.util.spec_from_file_location("solera_render", file)
    if spec is None or spec.loader is None:
        raise ClusterError(f"{file} is missing; is this checkout whole?")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _wait() -> None:
    try:
        kubectl.run(
            *("rollout", "status", "deployment/solera-operator", f"--namespace={NAMESPACE}"),
            f"--timeout={_ROLLOUT_SECONDS}s",
        )
    except ClusterError as error:
        pods = kubectl.run("get", "pods", f"--namespace={NAMESPACE}", "--output=wide")
        logs = kubectl.run(
            *("logs", f"--namespace={NAMESPACE}", "--selector=app.kubernetes.io/name=solera-operator"),
            *("--tail=20", "--prefix", "--ignore-errors"),
        )
        raise ClusterError(f"the operator does not get ready:\n{error}\n{pods}\n{logs}") from error


def operator_image() -> str:
    """The image that the operator in the cluster runs; empty when it is not there."""
    found = kubectl.find("deployment", "solera-operator", f"--namespace={NAMESPACE}")
    if found is None:
        return ""
    image: str = found["spec"]["template"]["spec"]["containers"][0]["image"]
    return image


def _run(_arguments: argparse.Namespace) -> int:
    before = operator_image()
    now = deploy()
    print(json.dumps({**now, "changed": before != now["operator"]}))
    return 0


COMMANDS = (Command("deploy", "put Solera, as it is in this checkout, on the cluster", _run),)
