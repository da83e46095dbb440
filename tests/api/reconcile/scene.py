"""One model under test: what the user does, what the cluster does, and what is to come of it."""

import copy
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import yaml
from api_server import Api
from operator_process import OperatorProcess
from player import CHILDREN, Object, Player, evaluate_result, train_result

SPEC: Object = {
    "task": "Classification",
    "training": {
        "data": {"uri": "s3://data/iris.parquet", "target": "species"},
        "candidates": [{"name": "logistic", "estimator": "sklearn.linear_model.LogisticRegression"}],
    },
    "gates": [{"metric": "accuracy", "min": "0.80"}],
    "serving": {"rollbackWindow": "0s"},
}
FOREST = {"name": "forest", "estimator": "sklearn.ensemble.RandomForestClassifier"}
WAIT = 20.0


class Scene:
    """A TrainedModel in a namespace with an operator; the cluster's part is played step by step."""

    def __init__(self, api: Api, namespace: str, name: str, operators: Sequence[OperatorProcess]) -> None:
        self.api = api
        self.namespace = namespace
        self.name = name
        self.operators = operators
        self.player = Player(api, namespace, name)

    # -- the user ----------------------------------------------------------------------------------

    def create(self, *, metadata: Object | None = None, **spec: Any) -> Object:
        """Apply the manifest, with some parts of its spec replaced (None: left out)."""
        wanted = copy.deepcopy(SPEC) | spec
        manifest = {
            "apiVersion": "solera.dev/v1alpha1",
            "kind": "TrainedModel",
            "metadata": {"name": self.name, **(metadata or {})},
            "spec": {key: value for key, value in wanted.items() if value is not None},
        }
        self.manifest = manifest
        return self.apply()

    def apply(self) -> Object:
        """Apply the manifest as it was last."""
        path = self.player.path("TrainedModel", self.name)
        found: Object = self.api.ok(self.api.apply(path, self.manifest))
        return found

    def change(self, **spec: Any) -> Object:
        """Apply the manifest with some parts of its spec changed (a dict goes into what is there, None takes out)."""
        self.manifest = copy.deepcopy(self.manifest)
        for key, value in spec.items():
            if value is None:
                self.manifest["spec"].pop(key, None)
            elif isinstance(value, dict):
                part = self.manifest["spec"].setdefault(key, {}) | value
                self.manifest["spec"][key] = {k: v for k, v in part.items() if v is not None}
            else:
                self.manifest["spec"][key] = value
        return self.apply()

    def retrain(self, seed: int) -> Object:
        """Apply another training."""
        return self.change(training={"seed": seed})

    def delete(self) -> None:
        """Delete the model."""
        self.player.remove("TrainedModel", self.name)

    # -- what is seen ------------------------------------------------------------------------------

    def version(self, number: int) -> str:
        """The name of a version."""
        return f"{self.name}-v{number}"

    @property
    def live(self) -> Object:
        """The TrainedModel."""
        found = self.player.get("TrainedModel", self.name)
        assert found is not None, f"TrainedModel {self.name} is gone"
        return found

    @property
    def status(self) -> Object:
        """The TrainedModel's status, empty before there is one."""
        found: Object = self.live.get("status", {})
        return found

    def condition(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition; two empty texts where there is none."""
        return conditions_of(self.status).get(kind, ("", ""))

    def message(self, kind: str) -> str:
        """The message of a condition."""
        return next((c["message"] for c in self.status.get("conditions", ()) if c["type"] == kind), "")

    def target(self) -> str:
        """The version that the stable Service sends traffic to."""
        service = self.player.get("Service", self.name)
        return "" if service is None else service["spec"]["selector"].get("solera.dev/version", "")

    def champion(self) -> tuple[str, int, str]:
        """Version, revision and reason of the champion."""
        found = self.status.get("champion", {})
        return found.get("version", ""), found.get("revision", 0), found.get("reason", "")

    def objects(self) -> dict[str, str]:
        """Everything in the namespace that belongs to the model, with its resourceVersion."""
        found = {f"{kind}/{o['metadata']['name']}": o for kind in CHILDREN for o in self.player.all(kind)}
        found[f"TrainedModel/{self.name}"] = self.live
        return {key: obj["metadata"]["resourceVersion"] for key, obj in found.items()}

    # -- waiting -----------------------------------------------------------------------------------

    def until(self, what: str, check: Callable[[], Any], seconds: float = WAIT, *, play: bool = False) -> Any:
        """Return the first true value of `check`; with `play`, a healthy cluster goes on meanwhile."""
        end = time.monotonic() + seconds
        while not (value := check()):
            if time.monotonic() > end:
                raise AssertionError(f"waited {seconds:g} s for {what}; last: {value!r}\n{self.report()}")
            if play:
                self.player.tick()
            time.sleep(0.03)
        return value

    def holds(self, what: str, check: Callable[[], Any], seconds: float) -> None:
        """Fail as soon as `check` is not true within that time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert check(), f"{what} did not hold\n{self.report()}"
            time.sleep(0.05)

    def until_condition(self, kind: str, status: str, reason: str = "", seconds: float = WAIT) -> str:
        """Wait until a condition stands at the current generation; returns its message."""

        def check() -> bool:
            live = self.live
            found = next((c for c in live.get("status", {}).get("conditions", ()) if c["type"] == kind), None)
            return (
                found is not None
                and found["status"] == status
                and reason in ("", found["reason"])
                and found["observedGeneration"] == live["metadata"]["generation"]
            )

        self.until(f"condition {kind}={status} {reason}", check, seconds)
        return self.message(kind)

    def until_stalled(self, reason: str, seconds: float = WAIT) -> str:
        """Wait until the model is Stalled for this reason, and so not Ready; returns the message."""
        message = self.until_condition("Stalled", "True", reason, seconds)
        assert self.condition("Ready") == ("False", reason), self.report()
        assert self.condition("Reconciling") == ("", ""), self.report()
        return message

    def until_job(self, name: str, seconds: float = WAIT) -> Object:
        """Wait until there is a Job of this name."""
        found: Object = self.until(f"Job {name}", lambda: self.player.get("Job", name), seconds)
        return found

    def until_evaluation(self, number: int, besides: Sequence[str] = ()) -> Object:
        """Wait for an evaluate Job of a version that is not one of `besides`."""

        def check() -> Object | None:
            prefix = f"{self.version(number)}-evaluate-"
            jobs = [j for j in self.player.all("Job") if j["metadata"]["name"].startswith(prefix)]
            return next((j for j in jobs if j["metadata"]["name"] not in besides), None)

        found: Object = self.until(f"an evaluate Job of version {number}", check)
        return found

    # -- whole ways --------------------------------------------------------------------------------

    def train(self, number: int) -> None:
        """Let the train Job of a version end well."""
        job = self.until_job(f"{self.version(number)}-train")
        self.player.complete(job, train_result(job))

    def evaluate(self, number: int, value: float = 0.97, besides: Sequence[str] = ()) -> str:
        """Let an evaluate Job of a version end with this value; returns its name."""
        job = self.until_evaluation(number, besides)
        self.player.complete(job, evaluate_result(job, value))
        name: str = job["metadata"]["name"]
        return name

    def bring_up(self, number: int, ready: int = 1) -> None:
        """Wait for the Deployment of a version and let so many of its pods be ready."""
        name = self.version(number)
        self.until(f"Deployment {name}", lambda: self.player.get("Deployment", name))
        if ready != 1:
            self.player.scale(name, ready)
        self.player.roll(name, ready)

    def serve(self, number: int) -> None:
        """From a wanted version to a Ready model."""
        self.train(number)
        self.evaluate(number)
        self.until(f"champion {number}", lambda: self.champion()[0] == self.version(number))
        self.bring_up(number)
        self.until_condition("Ready", "True")

    def settle(self, seconds: float = 60.0) -> None:
        """Let a healthy cluster go on until the model is Ready at its generation and nothing moves."""

        def settled() -> bool:
            status = self.status
            return (
                conditions_of(status).get("Ready", ("",))[0] == "True"
                and status.get("observedGeneration") == self.live["metadata"]["generation"]
                and "previous" not in status
                and all(
                    job["spec"].get("ttlSecondsAfterFinished") is not None for job in self.player.all("Job")
                )
            )

        self.until("the model to be Ready", settled, seconds, play=True)

    # -- what an engineer needs --------------------------------------------------------------------

    def report(self) -> str:
        """Status, children, events and the operators' logs."""
        parts = ["--- TrainedModel", yaml.safe_dump(self.live.get("status", {}), sort_keys=False)]
        for version in self.player.all("ModelVersion"):
            said = [f"{c['type']}={c['status']} {c['reason']}: {c['message']}" for c in _conditions(version)]
            parts += [f"--- ModelVersion {version['metadata']['name']}", *said]
        parts.append("--- objects")
        for kind in CHILDREN:
            parts += [_summary(kind, item) for item in self.player.all(kind) if kind != "ModelVersion"]
        parts.append("--- events")
        events = self.player.all("Event", labels="")
        parts += [
            f"{e['involvedObject']['kind']}/{e['involvedObject']['name']} {e['reason']}: {e['message']}"
            for e in events
            if self.name in e["involvedObject"]["name"]
        ]
        for operator in self.operators:
            parts += [f"--- log of {operator.name}", operator.log(self.name)]
        return "\n".join(parts)


def conditions_of(status: Object) -> dict[str, tuple[str, str]]:
    """Status and reason of every condition."""
    return {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions", ())}


def _conditions(obj: Object) -> list[Object]:
    found: list[Object] = obj.get("status", {}).get("conditions", [])
    return found


def _summary(kind: str, item: Object) -> str:
    status = json.dumps(item.get("status", {}))
    return f"{kind}/{item['metadata']['name']} {item['metadata'].get('labels', {})} {status[:300]}"
