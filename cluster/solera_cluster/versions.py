"""Reads `versions.toml`, the one place that names versions."""

import functools
import hashlib
import json
import re
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

from solera_cluster.errors import ClusterError

CLUSTER_DIRECTORY = Path(__file__).resolve().parent.parent
VERSIONS_FILE = CLUSTER_DIRECTORY / "versions.toml"

_VERSION = re.compile(r"\d+(\.\d+){0,2}")
_NOT_COMPILED = {
    "envoy",
    "go_minimum",
    "go_wheel",
    "debian_suite",
    "kind_node_image",
    "gateway_api",
    "python_uv",
}


@dataclass(frozen=True)
class Versions:
    """Versions without a leading `v`, one for each component."""

    kubernetes: str
    etcd: str
    containerd: str
    coredns: str
    metrics_server: str
    envoy_gateway: str
    gateway_api: str
    versitygw: str
    helm: str
    pause: str
    envoy: str
    go_minimum: str
    go_wheel: str
    debian_suite: str
    kind_node_image: str
    python_uv: str

    @property
    def kubernetes_libraries(self) -> str:
        """Version of the `k8s.io/*` library modules: 1.37.2 is released together with 0.37.2."""
        return "0." + self.kubernetes.split(".", 1)[1]

    def compiled(self) -> dict[str, str]:
        """Versions of what is compiled here, by component."""
        return {name: text for name, text in asdict(self).items() if name not in _NOT_COMPILED}

    def key(self, go_version: str) -> str:
        """Name a set of binaries: the same versions and compiler give the same key."""
        described = json.dumps([self.compiled(), go_version], sort_keys=True)
        return f"{self.kubernetes}-{hashlib.sha256(described.encode()).hexdigest()[:10]}"


def parse(text: str, origin: str = "versions.toml") -> Versions:
    """Parse the text of a versions file; raises ClusterError for a missing, unknown or malformed entry."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ClusterError(f"{origin} is not valid TOML: {error}") from error
    found = {name.replace("-", "_"): value for name, value in tables.get("components", {}).items()}
    for table, prefix in (("go", "go_"), ("debian", "debian_"), ("kind", "kind_"), ("python", "python_")):
        found |= {prefix + name.replace("-", "_"): value for name, value in tables.get(table, {}).items()}
    wanted = set(Versions.__dataclass_fields__)
    if missing := sorted(wanted - set(found)):
        raise ClusterError(f"{origin} does not name a version of: {', '.join(missing)}")
    if unknown := sorted(set(found) - wanted):
        raise ClusterError(f"{origin} names components that nothing uses: {', '.join(unknown)}")
    for name, value in found.items():
        textual = name in {"debian_suite", "kind_node_image"}
        if not isinstance(value, str) or not (textual or _VERSION.fullmatch(value)):
            raise ClusterError(f'{origin}: {name} is {value!r}; write a version such as "1.2.3", without v')
    return Versions(**found)


@functools.cache
def load() -> Versions:
    """Give the versions of this checkout."""
    try:
        text = VERSIONS_FILE.read_text()
    except OSError as error:
        raise ClusterError(f"cannot read {VERSIONS_FILE}: {error.strerror}") from error
    return parse(text, str(VERSIONS_FILE))


def as_tuple(version: str) -> tuple[int, ...]:
    """Turn "1.26.8" (or "go1.26.8", "v1.26.8") into (1, 26, 8), for comparisons."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
