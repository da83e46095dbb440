"""Commands around the platform: what Solera's pods run beside, installed once a kubeconfig exists."""

import argparse
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from solera_cluster import (
    images,
    kubectl,
    lifecycle,
    network,
    object_store,
    paths,
    platform_components,
    platform_health,
    platform_render,
    progress,
    selection,
    versions,
)
from solera_cluster.command import Command
from solera_cluster.errors import ClusterError
from solera_cluster.platform_components import Component
from solera_cluster.platform_render import Rendering

# Says in the cluster which components are ours, and of which inputs they were made.
_RECORD = "solera-platform"
_RECORD_NAMESPACE = "kube-system"
_BUCKETS = "buckets"
_FOREIGN = "the cluster's own"
_NONROOT = 65532
_POLL_SECONDS = 0.5


def _record() -> dict[str, str]:
    found = kubectl.find("configmap", _RECORD, f"--namespace={_RECORD_NAMESPACE}")
    return dict(found.get("data", {})) if found else {}


def _write_record(data: dict[str, str]) -> None:
    metadata = {"name": _RECORD, "namespace": _RECORD_NAMESPACE}
    kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}))


def install(names: Iterable[str] = (), *, force: bool = False) -> None:
    """
    Apply the named components (all by default); what is there in the current form is left alone.

    `force` applies it again. Components that the cluster has of its own are skipped.
    """
    record = _record()
    for component in platform_components.select(names):
        if _is_foreign(component, record):
            progress.say(f"  {component.name}: {_FOREIGN} is left alone")
            _remember(record, component, _FOREIGN)
            continue
        rendering = _rendering(component)
        key = rendering.key(versions.load())
        if record.get(component.name) == key and not force:
            progress.say(f"  {component.name}: installed")
            continue
        images.load(component.images)
        with progress.step(f"installing {component.name}", expected_seconds=3):
            _install_one(rendering, ours=component.name in record)
        _remember(record, component, key)


def _is_foreign(component: Component, record: dict[str, str]) -> bool:
    if component.name in record:
        return record[component.name] == _FOREIGN
    return bool(component.foreign) and kubectl.find(*component.foreign) is not None


def _remember(record: dict[str, str], component: Component, state: str) -> None:
    if record.get(component.name) != state:
        record[component.name] = state
        _write_record(record)


def _rendering(component: Component) -> Rendering:
    variant, values = "", {}
    if component.name == "metrics-server" and selection.current() is selection.Target.KIND:
        variant = "kind"
    if component.name == "object-store" and not _has_default_storage_class():
        variant, values = (
            "local-volume",
            {
                "OBJECT_STORE_PATH": str(_local_volume()),
                "NODE_NAME": network.NODE_NAME,
            },
        )
    references = {name: images.reference(name) for name in component.images}
    return Rendering(component, variant, references, values)


def _install_one(rendering: Rendering, *, ours: bool) -> None:
    name = rendering.component.name
    if name == "object-store":
        if rendering.variant:
            _make_local_volume()
        object_store.ensure_credentials()
    if name == "envoy-gateway":
        gateways = kubectl.find("crd", "gateways.gateway.networking.k8s.io")
        kubectl.apply(platform_render.gateway_crds(with_gateway_api=ours or gateways is None))
        kubectl.run("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    kubectl.apply(platform_render.manifests(rendering))


def _has_default_storage_class() -> bool:
    found = kubectl.find("storageclass") or {"items": []}
    default = "storageclass.kubernetes.io/is-default-class"
    return any(item["metadata"].get("annotations", {}).get(default) == "true" for item in found["items"])


def _local_volume() -> Path:
    if not images.is_local(lifecycle.main_kubeconfig()):
        raise ClusterError(
            "the object store needs a volume and this cluster has no default StorageClass: mark one with the"
            " annotation storageclass.kubernetes.io/is-default-class=true"
        )
    return paths.cluster_dir("main") / "volumes" / "object-store"


def _make_local_volume() -> None:
    """Make the folder and check that its file system keeps the store's metadata."""
    folder = _local_volume()
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, _NONROOT, _NONROOT)
    folder.chmod(0o770)
    try:
        os.setxattr(folder, "user.solera.probe", b"1")
        os.removexattr(folder, "user.solera.probe")
    except OSError as error:
        raise ClusterError(
            f"{folder} is on a file system without extended attributes ({error.strerror}), which the object"
            " store needs; set SOLERA_CACHE to a directory on ext4, xfs or btrfs"
        ) from error


def problems(names: Iterable[str] = ()) -> dict[str, list[str]]:
    """Say for every component what it lacks; an empty list means ready, or that it is not ours."""
    record = _record()
    found: dict[str, list[str]] = {}
    for component in platform_components.select(names):
        lacking = [] if component.name in record else [f"{component.name} is not installed"]
        found[component.name] = lacking
        if record.get(component.name, _FOREIGN) == _FOREIGN:
            continue
        for condition in component.ready:
            place = [f"--namespace={condition.namespace}"] if condition.namespace else []
            reason = platform_health.problem(condition, kubectl.find(condition.kind, condition.name, *place))
            if reason:
                lacking.append(f"not yet: {condition} ({reason})")
    return found


def wait(names: Iterable[str] = (), timeout: float = 180.0) -> None:
    """
    Wait until the installed components are ready, then see to the object store's buckets.

    Raises ClusterError with what is lacking, pods' reasons included.
    """
    wanted = tuple(component.name for component in platform_components.select(names))
    record = _record()
    if absent := [name for name in wanted if name not in record]:
        raise ClusterError(f"not installed: {', '.join(absent)}; run `platform install` first")
    deadline = time.monotonic() + timeout
    while any(lacking := problems(wanted).values()):
        if time.monotonic() > deadline:
            reasons = [reason for component in lacking for reason in component]
            raise ClusterError(
                "\n  ".join([f"the platform is not ready after {timeout:.0f} s:", *reasons, *_pods()])
            )
        time.sleep(_POLL_SECONDS)
    if "object-store" in wanted and record.get(_BUCKETS) != ",".join(object_store.BUCKETS):
        with progress.step("creating buckets"):
            object_store.ensure_buckets(object_store.ensure_credentials())
        _write_record(record | {_BUCKETS: ",".join(object_store.BUCKETS)})


def _pods() -> list[str]:
    namespaces = {condition.namespace for one in platform_components.COMPONENTS for condition in one.ready}
    pods = (kubectl.find("pods", "--all-namespaces") or {"items": []})["items"]
    return platform_health.pod_problems(pod for pod in pods if pod["metadata"]["namespace"] in namespaces)


def _status() -> int:
    found = problems()
    for name, lacking in found.items():
        print(f"  {name:16} {'; '.join(lacking) or 'ready'}")
    for line in _pods():
        print(f"  {line}")
    return 1 if any(found.values()) else 0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = ", ".join(component.name for component in platform_components.COMPONENTS)
    install_ = actions.add_parser("install", help="apply what is missing or has changed")
    install_.add_argument("--force", action="store_true", help="apply also what has not changed")
    wait_ = actions.add_parser("wait", help="wait until everything is ready; create the buckets")
    wait_.add_argument("--timeout", type=float, default=180.0, metavar="SECONDS")
    for action in (install_, wait_):
        action.add_argument("--only", nargs="+", default=(), metavar="COMPONENT", help=listing)
    actions.add_parser("status", help="print every component's state; fails unless all are ready")
    secret = actions.add_parser("store-secret", help="give a namespace the object store's credentials")
    secret.add_argument("namespace")
    secret.add_argument("--name", default="object-store", help="name of the Secret (object-store)")
    upload = actions.add_parser("upload", help="copy a file into the object store")
    upload.add_argument("file", type=Path)
    upload.add_argument("uri", help="s3://BUCKET/KEY")


def _run(arguments: argparse.Namespace) -> int:
    match arguments.action:
        case "install":
            install(arguments.only, force=arguments.force)
        case "wait":
            wait(arguments.only, arguments.timeout)
        case "status":
            return _status()
        case "store-secret":
            credentials = object_store.ensure_credentials()
            kubectl.apply(json.dumps(object_store.secret(arguments.name, arguments.namespace, credentials)))
        case "upload":
            object_store.upload(arguments.file, arguments.uri)
    return 0


COMMANDS = (Command("platform", "install and check what Solera runs beside", _run, _add_arguments),)
