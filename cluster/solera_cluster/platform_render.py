"""Turns a component's folder, and what its Go module ships, into the manifests that are applied."""

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from solera_cluster import build, gomod, lifecycle, paths, toolchain, versions
from solera_cluster.errors import ClusterError
from solera_cluster.platform_components import Component

FOLDER = versions.CLUSTER_DIRECTORY / "platform"

_METRICS_SERVER = "sigs.k8s.io/metrics-server"
_ENVOY_GATEWAY = "github.com/envoyproxy/gateway"
_IMAGE = re.compile(r"^(?P<before>.*\bimage: )\"?solera-(?P<name>[a-z-]+)\"?$", re.MULTILINE)
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)\}")


@dataclass(frozen=True)
class Rendering:
    """
    What a component is rendered with.

    `variant` is a folder beside the component's `base`, or empty. `images` gives references by recipe name;
    `values` fill in `${NAME}`.
    """

    component: Component
    variant: str
    images: Mapping[str, str]
    values: Mapping[str, str]

    def key(self, wanted: versions.Versions) -> str:
        """Digest of all inputs: the same key means the same manifests."""
        folder = FOLDER / self.component.name
        files = {
            str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()
        }
        parts = [files, asdict(wanted), self.variant, dict(self.images), dict(self.values)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def manifests(rendering: Rendering) -> str:
    """Render a component with kustomize; raises ClusterError when a tool refuses."""
    name = rendering.component.name
    scratch = paths.cache_dir() / "platform"
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=scratch) as folder:
        stage = Path(folder) / name
        shutil.copytree(FOLDER / name, stage)
        match name:
            case "metrics-server":
                _copy(module_directory(_METRICS_SERVER) / "manifests" / "base", stage / "base" / "upstream")
            case "envoy-gateway":
                _template_chart(stage, rendering.images["envoy-gateway"])
            case _:
                pass
        target = stage / (rendering.variant or "base") if (stage / "base").is_dir() else stage
        text = _output([str(lifecycle.kubectl()), "kustomize", str(target)], f"kustomize of {name}")
    return complete(text, rendering.images, rendering.values)


def complete(text: str, images: Mapping[str, str], values: Mapping[str, str]) -> str:
    """
    Replace `image: solera-NAME` by the built image and `${NAME}` by its value.

    Raises ClusterError for a name that is not given.
    """

    def image(found: re.Match[str]) -> str:
        if found["name"] not in images:
            raise ClusterError(
                f"a manifest names the image solera-{found['name']}, which is not among {sorted(images)}"
            )
        return found["before"] + images[found["name"]]

    def value(found: re.Match[str]) -> str:
        if found["name"] not in values:
            raise ClusterError(f"a manifest has {found[0]}, for which there is no value")
        return values[found["name"]]

    return _VARIABLE.sub(value, _IMAGE.sub(image, text)) if values else _IMAGE.sub(image, text)


def gateway_crds(*, with_gateway_api: bool) -> str:
    """CRDs of Envoy Gateway, and of the Gateway API where the cluster has none of its own."""
    folder = module_directory(_ENVOY_GATEWAY) / "charts/gateway-helm/charts/crds/crds"
    files = sorted(folder.glob("generated/*.yaml"))
    if with_gateway_api:
        files.insert(0, folder / "gatewayapi-crds.yaml")
    if not files:
        raise ClusterError(f"{folder} has no CRDs; the module's layout has changed")
    return "\n---\n".join(path.read_text() for path in files)


def module_directory(module: str) -> Path:
    """Folder of a Go module of ours, downloaded if need be."""
    go = str(toolchain.ensure(paths.cache_dir()))
    for attempt in ("list", "download"):
        if attempt == "download":
            _output([go, "mod", "download", module], f"downloading {module}", cwd=paths.GO_MODULE)
        listed = _output(
            [go, "list", "-m", "-f", "{{.Dir}}", module], f"finding {module}", cwd=paths.GO_MODULE
        )
        if listed.strip():
            return Path(listed.strip())
    raise ClusterError(f"Go does not tell where module {module} is; `go clean -modcache` and build again")


def _template_chart(stage: Path, image: str) -> None:
    """Render Envoy Gateway's chart into `upstream/chart.yaml`."""
    chart = stage / "chart"
    _copy(module_directory(_ENVOY_GATEWAY) / "charts" / "gateway-helm", chart)
    values = (chart / "values.tmpl.yaml").read_text()
    for name, text in (("${GatewayImage}", image), ("${GatewayImagePullPolicy}", "IfNotPresent")):
        values = values.replace(name, text)
    (chart / "values.yaml").write_text(values)
    helm = build.ensure(["helm"]) / "helm"
    command = [str(helm), "template", "eg", str(chart), "--namespace", "envoy-gateway-system"]
    rendered = _output([*command, "--values", str(stage / "values.yaml")], "helm template of Envoy Gateway")
    (stage / "upstream").mkdir()
    (stage / "upstream" / "chart.yaml").write_text(rendered)


def _copy(source: Path, target: Path) -> None:
    """Copy a tree out of the module cache, whose files are read-only."""
    for path in source.rglob("*"):
        if path.is_file():
            copied = target / path.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(path.read_bytes())


def _output(command: list[str], what: str, cwd: Path | None = None) -> str:
    finished = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env=gomod.environment()
    )
    if finished.returncode:
        raise ClusterError(f"{what} failed:\n{finished.stderr.strip()[-1500:]}")
    return finished.stdout
