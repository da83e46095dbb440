"""TrainedModels for the tests, and a handle that applies one and waits for what comes of it."""

import copy
import datetime as dt
import json
import time
from typing import Any

import yaml
from kube import CHILDREN, MANAGED, Kube, Object, place, wait_for

from solera_cluster import paths

# Small requests: many tests run on one node. Training is mostly the import of scikit-learn.
TRAINER_POD = {
    "resources": {
        "requests": {"cpu": "100m", "memory": "200Mi"},
        "limits": {"cpu": "2", "memory": "1Gi"},
    }
}
SERVER_POD = {
    "resources": {"requests": {"cpu": "50m", "memory": "150Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}
}
SETOSA = {"sepal_length_cm": 5.1, "sepal_width_cm": 3.5, "petal_length_cm": 1.4, "petal_width_cm": 0.2}
VIRGINICA = {"sepal_length_cm": 6.7, "sepal_width_cm": 3.0, "petal_length_cm": 5.2, "petal_width_cm": 2.3}
SETOSA_TENSORS = [
    {"name": name, "shape": [1], "datatype": "FP64", "data": [value]} for name, value in SETOSA.items()
]


def merged(document: Object, patch: Object) -> Object:
    """A copy with a merge patch in it: None takes a field away."""
    found = copy.deepcopy(document)
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = merged(found[key], value)
        else:
            found[key] = copy.deepcopy(value)
    return found


def example(name: str) -> Object:
    """The spec of an example, with small pods."""
    text = (paths.CHECKOUT / "examples" / f"{name}.yaml").read_text()
    spec: Object = yaml.safe_load(text)["spec"]
    return merged(spec, {"training": {"pod": TRAINER_POD}, "serving": {"pod": SERVER_POD}})


def quick(**patch: Any) -> Object:
    """Irises from the bundled set by one small estimator: the least that passes through every step."""
    spec = {
        "task": "Classification",
        "training": {
            "data": {"uri": "sklearn://iris", "target": "species"},
            "candidates": [{"name": "logistic", "estimator": "sklearn.linear_model.LogisticRegression"}],
            "validation": {"folds": 3},
            "retries": 0,
            "pod": TRAINER_POD,
        },
        "gates": [{"metric": "accuracy", "min": "0.50"}],
        "serving": {"replicas": {"min": 1, "max": 1}, "pod": SERVER_POD, "rollbackWindow": "20s"},
    }
    return merged(spec, patch)


def parse_time(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


class Model:
    """One TrainedModel in a namespace."""

    def __init__(self, kube: Kube, namespace: str, name: str = "iris") -> None:
        self.kube, self.namespace, self.name = kube, namespace, name

    # -- writing -----------------------------------------------------------------------------------

    def apply(self, spec: Object) -> Object:
        return self.kube.apply(
            "trainedmodels",
            self.namespace,
            {
                "apiVersion": "solera.dev/v1alpha1",
                "kind": "TrainedModel",
                "metadata": {"name": self.name},
                "spec": spec,
            },
        )

    def change(self, spec_patch: Object) -> Object:
        return self.kube.merge("trainedmodels", self.namespace, self.name, {"spec": spec_patch})

    def delete(self) -> None:
        self.kube.delete("trainedmodels", self.namespace, self.name)

    # -- reading -----------------------------------------------------------------------------------

    def get(self) -> Object:
        return self.kube.get("trainedmodels", self.namespace, self.name)

    def status(self) -> Object:
        status: Object = self.get().get("status", {})
        return status

    def conditions(self) -> dict[str, Object]:
        return conditions(self.get())

    def version(self, number: int = 1) -> Object:
        return self.kube.get("modelversions", self.namespace, f"{self.name}-v{number}")

    def versions(self) -> list[Object]:
        found = self.kube.list("modelversions", self.namespace, f"solera.dev/model={self.name}")
        return sorted(found, key=lambda one: int(one["spec"]["number"]))

    def of_model(self, kind: str) -> list[Object]:
        return self.kube.list(kind, self.namespace, f"{MANAGED},solera.dev/model={self.name}")

    def pods(self, version: str, component: str = "server") -> list[Object]:
        selector = f"solera.dev/version={version},solera.dev/component={component}"
        return self.kube.list("pods", self.namespace, selector)

    def ready_pods(self, version: str) -> dict[str, Object]:
        """Server pods that answer and are to stay, by UID."""
        return {
            pod["metadata"]["uid"]: pod
            for pod in self.pods(version)
            if "deletionTimestamp" not in pod["metadata"]
            and any(
                c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ())
            )
        }

    def objects(self) -> dict[str, Object]:
        """Everything that Solera made for any model of the namespace, by kind and name."""
        kinds = (*CHILDREN, "modelversions")
        return {
            f"{kind}/{one['metadata']['name']}": one
            for kind in kinds
            for one in self.kube.list(kind, self.namespace, MANAGED)
        }

    # -- waiting -----------------------------------------------------------------------------------

    def wait_ready(
        self, seconds: float = 180, serving: str | None = None, *, through_stall: bool = False
    ) -> Object:
        """Until the current generation is carried out, by a certain version where one is given.

        A stall of the current generation fails at once, unless it is what is being recovered from.
        """

        def carried_out() -> Object | None:
            found = self.get()
            ready = conditions(found).get("Ready", {})
            version = found.get("status", {}).get("serving", {}).get("version")
            stalled = conditions(found).get("Stalled")
            if (
                stalled
                and not through_stall
                and stalled["observedGeneration"] == found["metadata"]["generation"]
            ):
                raise AssertionError(f"{self.name} is stalled: {stalled['reason']}: {stalled['message']}")
            if ready.get("observedGeneration") != found["metadata"]["generation"]:
                return None
            if ready.get("status") != "True" or (serving is not None and version != serving):
                return None
            return found

        try:
            return (
                wait_for(carried_out, seconds, f"{self.name} Ready, served by {serving or 'any version'}")
                or {}
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.status(), indent=1)}") from None

    def wait_reason(self, reason: str, seconds: float = 90, *, stalled: bool | None = None) -> Object:
        """Until Ready is False for this reason; give the condition. `stalled` demands Stalled or its absence."""

        def told() -> Object | None:
            found = conditions(self.get())
            ready = found.get("Ready", {})
            if ready.get("status") != "False" or ready.get("reason") != reason:
                return None
            if stalled is not None and ("Stalled" in found) != stalled:
                return None
            return ready

        try:
            return wait_for(told, seconds, f"{self.name} not Ready because of {reason}", every=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.status(), indent=1)}") from None

    def wait_verdict(self, number: int, verdict: str = "Accepted", seconds: float = 120) -> Object:
        name = f"{self.name}-v{number}"

        def told() -> Object | None:
            found = self.kube.find("modelversions", self.namespace, name)
            return found if found and found.get("status", {}).get("verdict") == verdict else None

        return wait_for(told, seconds, f"{name} {verdict}")

    def wait_trained(self, number: int, seconds: float = 120) -> Object:
        """Until a version has an artifact."""
        name = f"{self.name}-v{number}"

        def told() -> Object | None:
            found = self.kube.find("modelversions", self.namespace, name)
            return found if found and "artifact" in found.get("status", {}) else None

        return wait_for(told, seconds, f"{name} trained")

    # -- asking ------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: Object | None = None) -> tuple[int, Any]:
        """A request to the stable Service by the API server's own way; status and answer."""
        service = place("services", self.namespace, f"{self.name}:http")
        answer = self.kube.ask(method, f"{service}/proxy{path}", json=body)
        try:
            return answer.status_code, answer.json()
        except ValueError:
            return answer.status_code, answer.text

    def predict(self, *rows: Object) -> list[Any]:
        """V1; demands a 200."""
        status, answer = self.ask("POST", f"/v1/models/{self.name}:predict", {"instances": list(rows)})
        assert status == 200, f"{status}: {answer}"
        predictions: list[Any] = answer["predictions"]
        return predictions

    def infer(self, inputs: list[Object]) -> Object:
        """V2; demands a 200."""
        status, answer = self.ask("POST", f"/v2/models/{self.name}/infer", {"inputs": inputs})
        assert status == 200, f"{status}: {answer}"
        found: Object = answer
        return found


def conditions(model: Object) -> dict[str, Object]:
    return {one["type"]: one for one in model.get("status", {}).get("conditions", ())}


def seconds_since(moment: str) -> float:
    """From a time as Kubernetes writes it (whole seconds) until now."""
    return time.time() - parse_time(moment).timestamp()
