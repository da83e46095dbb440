"""What nodes and Kubernetes' own controllers would write: here there are none, so a test writes it.

Everything goes through the API server, so that the operator sees what it would see in a cluster.
"""

import datetime as dt
import hashlib
import json
import uuid
from typing import Any

from api_server import Api

Object = dict[str, Any]

PATHS = {
    "TrainedModel": "/apis/solera.dev/v1alpha1/namespaces/{}/trainedmodels",
    "ModelVersion": "/apis/solera.dev/v1alpha1/namespaces/{}/modelversions",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Service": "/api/v1/namespaces/{}/services",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "HTTPRoute": "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes",
    "Event": "/api/v1/namespaces/{}/events",
}
CHILDREN = tuple(kind for kind in PATHS if kind not in {"TrainedModel", "Event", "HTTPRoute"})


def now() -> str:
    """Now, as Kubernetes writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def document_of(job: Object) -> Object:
    """The Job's document, as the trainer reads it."""
    container = job["spec"]["template"]["spec"]["containers"][0]
    text = next(e["value"] for e in container["env"] if e["name"] == "SOLERA_JOB")
    found: Object = json.loads(text.replace("$$", "$"))
    return found


def train_result(job: Object) -> Object:
    """What a training says that went well; the same training of the same version gives the same digest."""
    document = document_of(job)
    seed = json.dumps([document["training"], document["salt"]], sort_keys=True)
    digest = "sha256:" + hashlib.sha256(seed.encode()).hexdigest()
    uri = f"{document['store']['uri']}/{document['namespace']}/{document['model']}/artifacts/{digest.replace(':', '-')}"
    candidate = document["training"]["candidates"][0]
    return {
        "kind": "train",
        "ok": True,
        "artifact": {"uri": uri, "digest": digest, "sizeBytes": 12345},
        "candidate": {
            "name": candidate["name"],
            "estimator": candidate["estimator"],
            "params": candidate.get("params", {}),
            "cvMetric": "f1_macro",
            "cvScore": 0.96,
            "cvStd": 0.01,
        },
        "dataDigest": "sha256:" + "d" * 64,
        "schemaDigest": "sha256:" + "5" * 64,
        "rows": {"train": 120, "test": 30},
    }


def evaluate_result(job: Object, value: float = 0.97) -> Object:
    """What an evaluation says in which every gated metric has this value; its interval begins 0.05 below."""
    document = document_of(job)
    gates = []
    for gate in document.get("gates", ()):
        judge = gate.get("judge", "LowerBound")
        bound = round(value - 0.05, 6) if judge == "LowerBound" else value
        passed = float(gate.get("min", "-inf")) <= bound and value <= float(gate.get("max", "inf"))
        said = f"{gate['metric']} {bound} {'passes' if passed else 'does not pass'} min {gate.get('min')}"
        gates.append(
            {**gate, "judge": judge, "value": value, "bound": bound, "passed": passed, "message": said}
        )
    return {
        "kind": "evaluate",
        "ok": True,
        "evaluation": document["evaluation"],
        "digest": document["artifact"]["digest"],
        "metrics": [
            {"name": "accuracy", "value": value, "lower": value - 0.05, "upper": min(1.0, value + 0.02)}
        ],
        "gates": gates,
        "passed": all(gate["passed"] for gate in gates),
    }


def failure_result(kind: str, reason: str, message: str) -> Object:
    """What a program of Solera says that failed."""
    return {"kind": kind, "ok": False, "failure": {"reason": reason, "message": message}}


class Player:
    """Nodes and controllers of one namespace, as far as one model sees them."""

    def __init__(self, api: Api, namespace: str, model: str) -> None:
        self.api = api
        self.namespace = namespace
        self.model = model

    # -- reading -----------------------------------------------------------------------------------

    def path(self, kind: str, name: str = "", subresource: str = "") -> str:
        """URL path of a collection, an object or its subresource."""
        parts = [PATHS[kind].format(self.namespace), name, subresource]
        return "/".join(part for part in parts if part)

    def get(self, kind: str, name: str) -> Object | None:
        """One object, None if there is none."""
        answer = self.api.get(self.path(kind, name))
        if answer.status_code == 404:
            return None
        found: Object = self.api.ok(answer)
        return found

    def all(self, kind: str, labels: str | None = None) -> list[Object]:
        """The objects of a kind that belong to the model, by name."""
        selector = f"solera.dev/model={self.model}" if labels is None else labels
        answer = self.api.get(self.path(kind), **({"labelSelector": selector} if selector else {}))
        if answer.status_code == 404:
            return []
        found = self.api.ok(answer)
        about = {"apiVersion": found["apiVersion"], "kind": kind}
        items: list[Object] = [about | item for item in found["items"]]
        return sorted(items, key=lambda item: item["metadata"]["name"])

    def names(self, kind: str) -> list[str]:
        """Names of the model's objects of a kind."""
        return [item["metadata"]["name"] for item in self.all(kind)]

    # -- Jobs --------------------------------------------------------------------------------------

    def add_pod(self, owner: Object, status: Object | None = None, **labels: str) -> Object:
        """A pod as the controller of a Job or Deployment makes it, with a status as the kubelet writes it."""
        name = f"{owner['metadata']['name']}-{uuid.uuid4().hex[:5]}"
        template = owner["spec"]["template"]
        reference = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": {**template["metadata"].get("labels", {}), **labels},
                "ownerReferences": [reference],
            },
            "spec": template["spec"],
        }
        made: Object = self.api.ok(self.api.create(self.path("Pod"), pod))
        if status is not None:
            made = self.set_pod(name, status)
        return made

    def set_pod(self, name: str, status: Object) -> Object:
        """Write a pod's status."""
        found: Object = self.api.ok(self.api.patch(self.path("Pod", name, "status"), {"status": status}))
        return found

    def job_pod(self, job: Object, status: Object | None = None) -> Object:
        """A pod of a Job."""
        return self.add_pod(job, status, **{"batch.kubernetes.io/job-name": job["metadata"]["name"]})

    def set_job(self, job: Object, status: Object) -> None:
        """Write a Job's status."""
        path = self.path("Job", job["metadata"]["name"], "status")
        self.api.ok(
            self.api.patch(path, {"status": {"startTime": job["metadata"]["creationTimestamp"], **status}})
        )

    def complete(self, job: Object, message: Object | None) -> None:
        """The Job's pod ends well and says this; with None the pod is gone before anybody reads it."""
        if message is not None:
            self.job_pod(job, ended("trainer", 0, json.dumps(message)))
        conditions = [
            condition("SuccessCriteriaMet", "CompletionsReached"),
            condition("Complete", "CompletionsReached"),
        ]
        self.set_job(job, {"succeeded": 1, "completionTime": now(), "conditions": conditions})

    def fail(
        self, job: Object, pod: Object | None, *, reason: str = "PodFailurePolicy", message: str = ""
    ) -> None:
        """The Job fails, its pod with this status; None: there is no pod."""
        if pod is not None:
            self.job_pod(job, pod)
        said = message or "Container trainer failed with an exit code matching FailJob rule at index 1"
        conditions = [condition("FailureTarget", reason, said), condition("Failed", reason, said)]
        self.set_job(job, {"failed": 1 if pod is not None else 0, "conditions": conditions})

    # -- Deployments -------------------------------------------------------------------------------

    def scale(self, name: str, replicas: int) -> None:
        """As the HPA does it."""
        self.api.ok(self.api.patch(self.path("Deployment", name, "scale"), {"spec": {"replicas": replicas}}))

    def roll(self, name: str, ready: int, *, updated: int | None = None, total: int | None = None) -> None:
        """The Deployment's controller has seen the newest spec; so many of its pods are ready."""
        live = self.get("Deployment", name)
        assert live is not None
        status = {
            "observedGeneration": live["metadata"]["generation"],
            "replicas": ready if total is None else total,
            "updatedReplicas": ready if updated is None else updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        self.api.ok(self.api.patch(self.path("Deployment", name, "status"), {"status": status}))

    def deployment_condition(self, name: str, kind: str, status: str, reason: str, message: str) -> None:
        """Write one condition of a Deployment."""
        conditions = [condition(kind, reason, message, status)]
        self.api.ok(
            self.api.patch(self.path("Deployment", name, "status"), {"status": {"conditions": conditions}})
        )

    def event(self, about: Object, reason: str, message: str, *, kind: str = "Warning") -> None:
        """An Event as a controller or the kubelet writes it."""
        meta = about["metadata"]
        event = {
            "metadata": {"name": f"{meta['name']}.{uuid.uuid4().hex[:16]}"},
            "involvedObject": {
                "apiVersion": about.get("apiVersion", "v1"),
                "kind": about.get("kind", "Pod"),
                "namespace": self.namespace,
                "name": meta["name"],
                "uid": meta["uid"],
            },
            "reason": reason,
            "message": message,
            "type": kind,
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "count": 1,
            "source": {"component": "test"},
        }
        self.api.ok(self.api.create(self.path("Event"), event))

    # -- all at once -------------------------------------------------------------------------------

    def tick(self, *, value: float = 0.97) -> None:
        """Bring everything of the model a step further, as a healthy cluster does."""
        for job in self.all("Job"):
            self._finish(job, value)
        for deployment in self.all("Deployment"):
            self._settle(deployment)

    def _finish(self, job: Object, value: float) -> None:
        if job.get("status", {}).get("conditions"):
            return
        kind = job["metadata"]["labels"]["solera.dev/component"]
        message = train_result(job) if kind == "train" else evaluate_result(job, value)
        try:
            self.complete(job, message)
        except AssertionError:
            if self.get("Job", job["metadata"]["name"]) is not None:
                raise  # and otherwise the operator has ended it meanwhile

    def _settle(self, deployment: Object) -> None:
        name = deployment["metadata"]["name"]
        autoscaler = self.get("HorizontalPodAutoscaler", name)
        if autoscaler is not None:
            least = autoscaler["spec"]["minReplicas"]
            if deployment["spec"]["replicas"] < least:
                self.scale(name, least)
                return
        status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
        seen = status.get("observedGeneration"), status.get("readyReplicas"), status.get("replicas")
        if seen != (deployment["metadata"]["generation"], wanted, wanted):
            self.roll(name, wanted)

    def collect_garbage(self) -> list[str]:
        """Delete what belongs to an owner that is gone, until there is no more; says what."""
        gone: list[str] = []
        while True:
            found = [
                (kind, item) for kind in ("TrainedModel", *CHILDREN) for item in self.all(kind, labels="")
            ]
            alive = {item["metadata"]["uid"] for _, item in found}
            orphans = [
                (kind, item["metadata"]["name"])
                for kind, item in found
                if (owners := item["metadata"].get("ownerReferences"))
                and all(owner["uid"] not in alive for owner in owners if owner["kind"] != "ReplicaSet")
            ]
            if not orphans:
                return gone
            for kind, name in orphans:
                self.remove(kind, name)
                gone.append(f"{kind}/{name}")

    def remove(self, kind: str, name: str) -> None:
        """Delete an object at once."""
        answer = self.api.delete(
            self.path(kind, name), propagationPolicy="Background", gracePeriodSeconds="0"
        )
        assert answer.status_code in {200, 202, 404}, answer.text


def condition(kind: str, reason: str, message: str = "", status: str = "True") -> Object:
    """A condition."""
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now()}


def ended(container: str, code: int, message: str = "", reason: str = "") -> Object:
    """Status of a pod whose only container has ended."""
    state = {
        "exitCode": code,
        "reason": reason or ("Completed" if code == 0 else "Error"),
        "message": message,
        "startedAt": now(),
        "finishedAt": now(),
    }
    return {
        "phase": "Succeeded" if code == 0 else "Failed",
        "containerStatuses": [_container(container, {"terminated": state}, ready=False)],
    }


def waiting(
    container: str, reason: str, message: str = "", *, last: Object | None = None, restarts: int = 0
) -> Object:
    """Status of a pod whose container waits; `last` is how it ended before."""
    found = _container(container, {"waiting": {"reason": reason, "message": message}}, ready=False)
    found["restartCount"] = restarts
    if last is not None:
        found["lastState"] = {"terminated": {"startedAt": now(), "finishedAt": now(), **last}}
    return {"phase": "Pending", "conditions": [condition("PodScheduled", "")], "containerStatuses": [found]}


def running(container: str, *, ready: bool = True) -> Object:
    """Status of a pod that runs."""
    state = {"running": {"startedAt": now()}}
    return {
        "phase": "Running",
        "conditions": [condition("PodScheduled", ""), condition("Ready", "", status=str(ready))],
        "containerStatuses": [_container(container, state, ready=ready)],
    }


def unschedulable(message: str) -> Object:
    """Status of a pod for which there is no node."""
    return {"phase": "Pending", "conditions": [condition("PodScheduled", "Unschedulable", message, "False")]}


def _container(name: str, state: Object, *, ready: bool) -> Object:
    return {
        "name": name,
        "image": "localhost/test",
        "imageID": "",
        "ready": ready,
        "started": ready,
        "restartCount": 0,
        "state": state,
    }
