"""Constant requests to a model from a pod beside it: by the stable Service's name and through the gateway."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kube import Kube, Object, wait_for

from solera_cluster import deploy, kubectl

GATEWAY = {"name": "public", "namespace": "gateways", "sectionName": "http"}
GATEWAY_PODS = "envoy-gateway-system"
_SCRIPT = (Path(__file__).parent / "load_client.py").read_text()


@dataclass(frozen=True)
class Target:
    """An address under load: `rate` requests a second over `connections` kept ones; some come on new ones."""

    name: str
    url: str
    body: Object
    host: str | None = None
    rate: float = 20.0
    connections: int = 4
    new_every: int = 7
    timeout: float = 10.0

    def document(self) -> Object:
        return {
            "name": self.name,
            "url": self.url,
            "host": self.host,
            "body": self.body,
            "rate": self.rate,
            "connections": self.connections,
            "newEvery": self.new_every,
            "timeout": self.timeout,
        }


def gateway_service(kube: Kube, gateway: str = "public") -> str:
    """The name of the Service of the gateway's proxies."""
    found = kube.list("services", GATEWAY_PODS, f"gateway.envoyproxy.io/owning-gateway-name={gateway}")
    assert found, f"gateway {gateway} has no Service in {GATEWAY_PODS}"
    name: str = found[0]["metadata"]["name"]
    return name


def by_service(model: str, inputs: list[Object], **options: Any) -> Target:
    """V2 by the stable Service's name: the answer names the version."""
    return Target("service", f"http://{model}/v2/models/{model}/infer", {"inputs": inputs}, **options)


def by_gateway(kube: Kube, model: str, hostname: str, instances: list[Object], **options: Any) -> Target:
    """V1 through the gateway: a header names the version."""
    url = f"http://{gateway_service(kube)}.{GATEWAY_PODS}/v1/models/{model}:predict"
    return Target("gateway", url, {"instances": instances}, host=hostname, **options)


def _pod(name: str, targets: tuple[Target, ...], seconds: float) -> Object:
    load = {"seconds": seconds, "targets": [target.document() for target in targets]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "load"}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "load",
                    "image": deploy.operator_image(),  # any image with Python
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-c", _SCRIPT],
                    "env": [{"name": "LOAD", "value": json.dumps(load)}],
                    "resources": {
                        "requests": {"cpu": "50m", "memory": "64Mi"},
                        "limits": {"memory": "256Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 a mount of the pod's own
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Mi"}}],
        },
    }


class Load:
    """Requests on their way."""

    def __init__(self, kube: Kube, namespace: str, pod: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self.pod = pod
        self._sum: Object | None = None

    def now(self) -> Object:
        """Counts so far, by target; empty before the first second has passed."""
        lines = self._kube.log(self._namespace, self.pod, tailLines=1).splitlines()
        if not lines or not lines[-1].startswith("{"):
            return {}
        counts: Object = json.loads(lines[-1])
        return counts if all("sent" in one for one in counts.values()) else {}

    def wait_version(self, version: str, seconds: float = 60, at_least: int = 20) -> None:
        """Until every target has been answered by a version some times."""

        def answered() -> bool:
            counts = self.now()
            return bool(counts) and all(
                one["versions"].get(version, 0) >= at_least for one in counts.values()
            )

        wait_for(answered, seconds, f"answers of {version} to every target of {self.pod}: {self.now()}")

    def wait_more(self, count: int = 60, seconds: float = 60) -> None:
        """Until every target has sent `count` more requests."""
        begun = wait_for(self.now, 30, f"counts of {self.pod}")
        wait_for(
            lambda: all(one["sent"] >= begun[name]["sent"] + count for name, one in self.now().items()),
            seconds,
            f"{count} more requests of {self.pod}",
        )

    def stop(self) -> Object:
        """End it; give the whole sum by target."""
        if self._sum is None:
            pod = self._kube.get("pods", self._namespace, self.pod)
            if pod["status"]["phase"] == "Running":
                stop = "open('/tmp/stop', 'w')"
                kubectl.run("exec", f"--namespace={self._namespace}", self.pod, "--", "python3", "-c", stop)
            wait_for(
                lambda: self._kube.get("pods", self._namespace, self.pod)["status"]["phase"] == "Succeeded",
                30,
                f"the end of {self.pod}",
            )
            self._sum = json.loads(self._kube.log(self._namespace, self.pod, tailLines=1))
        return self._sum

    def none_failed(self) -> str:
        """Stop, demand that no request failed, and give a line for the report."""
        total = self.stop()
        failed = {name: one["failures"][:10] for name, one in total.items() if one["failed"]}
        assert not failed, f"requests failed ({summary(total)}):\n{json.dumps(failed, indent=1)}"
        return summary(total)


def summary(total: Object) -> str:
    """A line of a sum."""
    return "; ".join(
        f"{name}: {one['failed']} of {one['sent']} failed, p99 {one['p99'] * 1000:.0f} ms, max"
        f" {one['max'] * 1000:.0f} ms, { ({v: seen['count'] for v, seen in one['versions'].items()}) }"
        for name, one in total.items()
    )


@contextmanager
def load(kube: Kube, namespace: str, *targets: Target, seconds: float = 300) -> Iterator[Load]:
    """Send requests while the block runs, `seconds` at most."""
    name = f"load-{uuid.uuid4().hex[:6]}"
    kube.create("pods", namespace, _pod(name, targets, seconds))
    running = Load(kube, namespace, name)
    begun = time.monotonic()
    wait_for(
        lambda: all(one["sent"] for one in running.now().values()) and running.now(),
        60,
        f"requests of {name}",
    )
    assert time.monotonic() - begun < 60
    try:
        yield running
    finally:
        kube.delete("pods", namespace, name, gracePeriodSeconds=0)
