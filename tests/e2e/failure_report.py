"""What an engineer wants to see of a namespace when a test in it has failed."""

import json
from collections.abc import Iterator

from kube import Kube, Object

from solera_cluster import deploy


def sections(kube: Kube, namespace: str) -> Iterator[tuple[str, str]]:
    """Titles and texts, made from the cluster as it is now."""
    for kind in ("trainedmodels", "modelversions"):
        for one in kube.list(kind, namespace):
            yield f"{kind} {one['metadata']['name']}", json.dumps(_short(one), indent=1)
    yield "events", "\n".join(_event(one) for one in _by_time(kube.list("events", namespace)))
    pods = kube.list("pods", namespace)
    yield "pods", "\n".join(line for pod in pods for line in _pod(pod))
    for pod in pods:
        name = pod["metadata"]["name"]
        for container in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]:
            text = kube.log(namespace, name, container=container["name"], tailLines=15)
            yield f"log of {name}/{container['name']}", text
    for pod in kube.list("pods", deploy.NAMESPACE, "app.kubernetes.io/name=solera-operator"):
        name = pod["metadata"]["name"]
        lines = kube.log(deploy.NAMESPACE, name, tailLines=400).splitlines()
        told = [line for line in lines if namespace in line or '"error"' in line or "Traceback" in line]
        yield f"log of operator {name} about {namespace}", "\n".join(told[-40:])


def _short(one: Object) -> Object:
    meta = {key: one["metadata"].get(key) for key in ("generation", "resourceVersion", "deletionTimestamp")}
    return {"metadata": meta, "status": one.get("status")}


def _by_time(events: list[Object]) -> list[Object]:
    return sorted(events, key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")


def _event(one: Object) -> str:
    about = one["involvedObject"]
    when = one.get("lastTimestamp") or one.get("eventTime") or ""
    return f"{when} {one['type']:8} {about['kind']}/{about['name']}: {one['reason']}: {one['message'][:300]}"


def _pod(pod: Object) -> Iterator[str]:
    status, meta = pod["status"], pod["metadata"]
    leaving = " (leaving)" if "deletionTimestamp" in meta else ""
    yield f"{meta['name']} {status.get('phase')}{leaving} {status.get('reason', '')} {status.get('message', '')}"
    for one in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
        state = json.dumps(one["state"])
        last = json.dumps(one.get("lastState", {}))
        yield f"    {one['name']}: ready {one['ready']}, restarts {one['restartCount']}, {state}, last {last}"
