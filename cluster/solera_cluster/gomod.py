"""The Go module that names everything compiled here, made from `versions.toml`."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from solera_cluster import parts, paths, progress, toolchain, versions
from solera_cluster.errors import ClusterError

MODULE = "solera.dev/cluster"
_ARCHITECTURES = ("amd64", "arm64")
_STAGED = re.compile(r"^\s*(?:replace\s+)?(k8s\.io/\S+)\s+=>\s+\./staging/", re.MULTILINE)
_REQUIRED = re.compile(r"^\s*(?:require\s+)?([\w.-]+\.[\w-]+/\S+)\s+(v\S+)\s*$", re.MULTILINE)


def modules(wanted: versions.Versions) -> dict[str, str]:
    """Give the required modules and their versions."""
    return {
        "github.com/containerd/containerd/v2": f"v{wanted.containerd}",
        "github.com/coredns/coredns": f"v{wanted.coredns}",
        "github.com/envoyproxy/gateway": f"v{wanted.envoy_gateway}",
        "github.com/versity/versitygw": f"v{wanted.versitygw}",
        "go.etcd.io/etcd/server/v3": f"v{wanted.etcd}",
        "helm.sh/helm/v3": f"v{wanted.helm}",
        "k8s.io/kubernetes": f"v{wanted.kubernetes}",
        "sigs.k8s.io/gateway-api": f"v{wanted.gateway_api}",
        "sigs.k8s.io/metrics-server": f"v{wanted.metrics_server}",
    }


def staged_libraries(kubernetes_go_mod: str) -> list[str]:
    """Modules that the go.mod of k8s.io/kubernetes takes from its own tree, which the module proxy lacks."""
    return sorted(set(_STAGED.findall(kubernetes_go_mod)))


def render(wanted: versions.Versions, libraries: Iterable[str]) -> str:
    """Write a go.mod with the direct requirements; Go itself adds the indirect ones."""
    tools = sorted(part.package for part in parts.PARTS if not part.package.startswith("./"))
    replaced = [f"{name} => {name} v{wanted.kubernetes_libraries}" for name in libraries]
    return "\n".join(
        [
            f"module {MODULE}\n",
            f"go {wanted.go_minimum}\n",
            *_block("tool", tools),
            *_block("require", [f"{name} {version}" for name, version in sorted(modules(wanted).items())]),
            *_block("replace", replaced),
        ]
    )


def _block(word: str, lines: Iterable[str]) -> list[str]:
    return [f"{word} (", *(f"\t{line}" for line in lines), ")\n"]


def direct_requirements(go_mod: str) -> dict[str, str]:
    """Find the required modules of a go.mod that are not marked `// indirect`."""
    blocks = re.findall(r"^require \((.*?)^\)", go_mod, re.MULTILINE | re.DOTALL)
    lines = "\n".join([*blocks, *re.findall(r"^require\s+[^(\n]+$", go_mod, re.MULTILINE)])
    return dict(_REQUIRED.findall(lines))


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment of every Go command: no toolchain downloads, static binaries, our own build cache."""
    return {
        **os.environ,
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": "-buildvcs=false",
        "CGO_ENABLED": "0",
        "GOCACHE": str(paths.go_cache_dir()),
        **(extra or {}),
    }


def lock() -> None:
    """Write go.mod and go.sum for the versions in `versions.toml`; raises ClusterError when Go cannot."""
    wanted = versions.load()
    go = toolchain.ensure(paths.cache_dir())
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        shutil.copytree(paths.GO_MODULE / "pause", directory / "pause")
        (directory / "go.mod").write_text(f"module {MODULE}\n")
        with progress.step("reading what Kubernetes is made of", expected_seconds=5):
            kubernetes = f"k8s.io/kubernetes@v{wanted.kubernetes}"
            go_mod = Path(_run(go, directory, "list", "-m", "-f", "{{.GoMod}}", kubernetes).strip())
        libraries = staged_libraries(go_mod.read_text())
        (directory / "go.mod").write_text(render(wanted, libraries))
        with progress.step("resolving all Go modules", expected_seconds=40):
            packages = [part.package for part in parts.PARTS]
            for architecture in _ARCHITECTURES:
                _run(go, directory, "list", "-mod=mod", "-deps", *packages, GOARCH=architecture)
        for name in ("go.mod", "go.sum"):
            shutil.copyfile(directory / name, paths.GO_MODULE / name)


def _run(go: Path, directory: Path, *arguments: str, **variables: str) -> str:
    result = subprocess.run(
        [go, *arguments],
        cwd=directory,
        env=environment(variables),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        command = " ".join(arguments[:4])
        raise ClusterError(f"`go {command} …` failed:\n{result.stderr.strip()[-1500:]}")
    return result.stdout
