"""A model and a version of it, as the API server would return them."""

from typing import Any

from solera_operator.api import ModelVersion, TrainedModel

DIGEST = "sha256:" + "1" * 64
TRAINING: dict[str, Any] = {
    "data": {"uri": "s3://data/iris.parquet", "target": "species"},
    "candidates": [{"name": "logistic", "estimator": "sklearn.linear_model.LogisticRegression"}],
}
TRAIN_RESULT: dict[str, Any] = {
    "kind": "train",
    "ok": True,
    "artifact": {"uri": "s3://artifacts/a", "digest": DIGEST, "sizeBytes": 7},
    "candidate": {
        "name": "logistic",
        "estimator": "sklearn.linear_model.LogisticRegression",
        "cvMetric": "accuracy",
        "cvScore": 0.96,
    },
    "rows": {"train": 120, "test": 30},
}


def model(**spec: Any) -> TrainedModel:
    """A TrainedModel."""
    return TrainedModel.model_validate(
        {
            "apiVersion": "solera.dev/v1alpha1",
            "kind": "TrainedModel",
            "metadata": {"name": "iris", "namespace": "models", "uid": "um", "generation": 1},
            "spec": {"task": "Classification", "training": TRAINING, **spec},
        }
    )


def version(status: dict[str, Any] | None = None, number: int = 1) -> ModelVersion:
    """A ModelVersion."""
    return ModelVersion.model_validate(
        {
            "apiVersion": "solera.dev/v1alpha1",
            "kind": "ModelVersion",
            "metadata": {
                "name": f"iris-v{number}",
                "namespace": "models",
                "uid": f"u{number}",
                "generation": 1,
            },
            "spec": {
                "modelName": "iris",
                "number": number,
                "token": "t",
                "reason": "Created",
                "task": "Classification",
                "training": TRAINING,
                "salt": "5" * 64,
                "runtime": {
                    "name": "sklearn-1.9",
                    "sklearnVersion": "1.9.1",
                    "trainerImage": "trainer:1",
                    "serverImage": "server:1",
                },
                "store": {"uri": "s3://artifacts"},
            },
            "status": status or {},
        }
    )


TRAINED = {"artifact": TRAIN_RESULT["artifact"]}
