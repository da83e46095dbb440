"""The API: Solera's kinds as types, and the CRDs that are made of them."""

from solera_operator.api.modelversion import ModelVersion, ModelVersionSpec, ModelVersionStatus
from solera_operator.api.reading import read
from solera_operator.api.trainedmodel import TrainedModel, TrainedModelSpec, TrainedModelStatus

__all__ = [
    "ModelVersion",
    "ModelVersionSpec",
    "ModelVersionStatus",
    "TrainedModel",
    "TrainedModelSpec",
    "TrainedModelStatus",
    "read",
]
