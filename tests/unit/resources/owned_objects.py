"""A model with everything set, a model with nothing set, and every object that is built for them."""

from __future__ import annotations

from typing import Any

from solera_operator.api import ModelVersion, TrainedModel
from solera_operator.resources import autoscaling, jobs, network, route, serving
from solera_operator.resources.versions import model_version
from solera_operator.settings import Settings

SALT = "5" * 64
DIGEST = "sha256:" + "d" * 64
EVALUATION = "0123abcd"

SETTINGS = Settings.parse(
    {
        "artifactStore": {
            "uri": "s3://solera/prod",
            "endpointUrl": "https://s3.example.com:9000",
            "region": "eu-central-1",
            "secretName": "solera-store",
            "caConfigMapName": "solera-store-ca",
        },
        "data": {
            "s3EndpointUrl": "https://data.example.com",
            "region": "eu-west-1",
            "allowedHosts": ["files.example.com"],
        },
        "runtimes": [
            {
                "name": "sklearn-1.9",
                "sklearnVersion": "1.9.1",
                "trainerImage": "registry.example.com/solera-trainer:1",
                "serverImage": "registry.example.com/solera-server:1",
            }
        ],
        "networkPolicy": {
            "gatewayNamespaceSelector": {
                "matchLabels": {"kubernetes.io/metadata.name": "envoy-gateway-system"}
            },
            "monitoringNamespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
        },
    }
)

BARE_SETTINGS = Settings.parse(
    {
        "artifactStore": {"uri": "s3://solera"},
        "runtimes": [
            {"name": "one", "sklearnVersion": "1.9.1", "trainerImage": "trainer", "serverImage": "server"}
        ],
    }
)

_POD = {
    "resources": {
        "requests": {"cpu": "2", "memory": "4Gi"},
        "limits": {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "20Gi"},
    },
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}],
    "priorityClassName": "batch",
    "imagePullSecrets": [{"name": "registry-pull"}],
}

FULL_SPEC: dict[str, Any] = {
    "task": "Classification",
    "training": {
        "data": {"uri": "s3://models/adult/*.parquet", "secretName": "adult-data", "target": "income"},
        "candidates": [
            {
                "name": "forest",
                "estimator": "sklearn.ensemble.RandomForestClassifier",
                "params": {"n_estimators": 100, "max_features": "0.5"},
                "search": {"method": "Grid", "space": {"max_depth": [4, 8]}},
            }
        ],
        "pod": {**_POD, "serviceAccountName": "adult-training"},
        "deadline": "2h",
        "retries": 3,
        "queueName": "team-a",
    },
    "gates": [{"metric": "accuracy", "min": "0.90"}],
    "serving": {
        "replicas": {"min": 2, "max": 10},
        "autoscaling": {"cpuPercent": 60},
        "pod": _POD,
        "gateway": {
            "name": "public",
            "namespace": "gateways",
            "sectionName": "http",
            "hostname": "adult.example.com",
        },
    },
}

BARE_SPEC: dict[str, Any] = {
    "task": "Classification",
    "training": {
        "data": {"uri": "sklearn://iris", "target": "species"},
        "candidates": [{"name": "logistic", "estimator": "sklearn.linear_model.LogisticRegression"}],
    },
}


def trained_model(spec: dict[str, Any] | None = None, name: str = "adult", **metadata: Any) -> TrainedModel:
    """A stored TrainedModel; ``metadata`` adds to its metadata."""
    stored = {
        "apiVersion": "solera.dev/v1alpha1",
        "kind": "TrainedModel",
        "metadata": {"name": name, "namespace": "models", "uid": "11111111-2222-3333-4444-555555555555"}
        | metadata,
        "spec": FULL_SPEC if spec is None else spec,
    }
    return TrainedModel.model_validate(stored)


def trained_version(model: TrainedModel, settings: Settings = SETTINGS, number: int = 3) -> ModelVersion:
    """Version ``number`` of a model as it is stored once it has been trained."""
    stored = built_version(model, settings, number)
    stored["metadata"]["uid"] = "99999999-8888-7777-6666-555555555555"
    name = stored["metadata"]["name"]
    uri = f"{settings.artifact_store.uri}/models/{model.metadata.name}/artifacts/{DIGEST.replace(':', '-')}"
    stored["status"] = {"artifact": {"uri": uri, "digest": DIGEST, "sizeBytes": 1234}}
    assert name == f"{model.metadata.name}-v{number}"
    return ModelVersion.model_validate(stored)


def built_version(model: TrainedModel, settings: Settings = SETTINGS, number: int = 3) -> dict[str, Any]:
    return model_version(
        model,
        number=number,
        token="0123456789abcdef",
        reason="Created",
        salt=SALT,
        runtime=settings.default_runtime(),
        store=settings.artifact_store,
    )


def all_objects(
    model: TrainedModel, settings: Settings = SETTINGS, number: int = 3
) -> dict[str, dict[str, Any]]:
    """Every object that Solera makes for a model, by what it is."""
    version = trained_version(model, settings, number)
    gates = [gate.document() for gate in model.spec.gates or ()]
    found = {
        "model-version": built_version(model, settings, number),
        "train-job": jobs.train_job(version, settings),
        "evaluate-job": jobs.evaluate_job(version, gates, EVALUATION, settings),
        "report-train-job": jobs.report_job(version, "train", None, settings),
        "report-evaluate-job": jobs.report_job(version, "evaluate", EVALUATION, settings),
        "deployment": serving.server_deployment(model, version, settings),
        "version-service": network.version_service(model, version),
        "stable-service": network.stable_service(model, version.metadata.name),
        "service-account": network.service_account(model),
        "network-policy": network.network_policy(model, settings),
        "autoscaler": autoscaling.autoscaler(model, version, None),
        "disruption-budget": autoscaling.disruption_budget(model, version),
    }
    if model.spec.serving.gateway is not None:
        found["http-route"] = route.http_route(model, version.metadata.name)
    return found


def pod_specs(objects: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pod specs in a set of objects."""
    return {
        name: obj["spec"]["template"]["spec"]
        for name, obj in objects.items()
        if obj["kind"] in {"Job", "Deployment"}
    }
