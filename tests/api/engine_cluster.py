"""A control plane of our own that may be stopped, and a wire to it that may be cut."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from solera_operator.engine.client import KubeClient
from solera_operator.engine.resource import Resource

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "cluster"))

from solera_cluster import control_plane, instance, lifecycle  # noqa: E402 - found by the line above

WIDGETS = Resource("engine.test.solera.dev", "v1", "widgets", "Widget")
CRDS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
_ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def widget(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": WIDGETS.api_version, "kind": WIDGETS.kind, "metadata": metadata, "spec": spec}


async def install_widgets(client: KubeClient) -> None:
    """A kind for these tests alone, with a status subresource."""
    schema = {"type": "object", "properties": {"spec": _ANYTHING, "status": _ANYTHING}}
    version = {
        "name": WIDGETS.version,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    name = f"{WIDGETS.plural}.{WIDGETS.group}"
    names = {"plural": WIDGETS.plural, "singular": "widget", "kind": WIDGETS.kind}
    await client.apply(
        {
            "apiVersion": CRDS.api_version,
            "kind": CRDS.kind,
            "metadata": {"name": name},
            "spec": {"group": WIDGETS.group, "scope": "Namespaced", "names": names, "versions": [version]},
        },
        force=True,
    )

    async def established() -> bool:
        found = await client.get(CRDS, None, name) or {}
        conditions = (found.get("status") or {}).get("conditions") or []
        return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

    await eventually(established, "the widgets' definition is established")


async def eventually(
    check: Callable[[], bool | Awaitable[bool]],
    what: str,
    seconds: float = 15.0,
    detail: Callable[[], object] = str,
) -> None:
    """Wait for a condition; fail with what was waited for and what is there instead."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        found = check()
        if found if isinstance(found, bool) else await found:
            return
        if loop.time() > deadline:
            pytest.fail(f"not within {seconds} s: {what}; there is {detail()}")
        await asyncio.sleep(0.02)


class ControlPlane:
    """etcd and API server on loopback, ours alone."""

    def __init__(self, name: str) -> None:
        self.made = lifecycle.up(name, controllers=False, takeover=True)
        self.kubeconfig = self.made.kubeconfig()

    def stop_api_server(self) -> None:
        # At once: asked politely, it waits for open watches to end, up to a minute.
        control_plane.process(self.made, control_plane.API_SERVER).stop(patience=0)

    def start_api_server(self) -> None:
        control_plane.start(self.made, Path(self.made.binaries), controllers=False)


@pytest.fixture(scope="session")
def control_plane_of_ours() -> Iterator[ControlPlane]:
    name = f"engine-{os.getpid()}"
    yield ControlPlane(name)
    lifecycle.down(name)
    # What `down` keeps (logs) is of no use after a test.
    for leftover in sorted(instance.paths.cluster_dir(name).rglob("*"), reverse=True):
        leftover.rmdir() if leftover.is_dir() else leftover.unlink()
    instance.paths.cluster_dir(name).rmdir()
    instance.paths.cluster_dir(name).with_suffix(".lock").unlink(missing_ok=True)


class Wire:
    """Forwards TCP to the API server until it is cut; `mend` lets new connections pass again."""

    def __init__(self, server: str) -> None:
        self._target = urlsplit(server)
        self._writers: set[asyncio.StreamWriter] = set()
        self._whole = True
        self._listener: asyncio.Server | None = None
        self.address = ""

    async def open(self) -> None:
        self._listener = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.address = f"https://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        self._whole = False
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self._whole = True

    async def close(self) -> None:
        self.cut()
        if self._listener is not None:
            self._listener.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._writers |= both
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        self._writers -= both


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


@contextlib.asynccontextmanager
async def wired(kubeconfig: Path) -> AsyncIterator[tuple[KubeClient, Wire]]:
    """A client whose every connection goes over a wire that can be cut."""
    async with await KubeClient.connect(kubeconfig=kubeconfig, resources=[WIDGETS, CRDS]) as client:
        wire = Wire(client.credentials.server)
        await wire.open()
        client.credentials.server = wire.address
        yield client, wire
        await wire.close()


def version_and_spec(obj: Mapping[str, Any]) -> tuple[str, Any]:
    return obj["metadata"]["resourceVersion"], obj.get("spec")
