"""Reading stored objects as types: never a crash, however old the object or the operator is."""

from collections.abc import Mapping
from typing import Any, TypeVar

from solera_core.spec.parsing import Invalid, parse, prune
from solera_operator.api.modelversion import ModelVersion, ModelVersionStatus
from solera_operator.api.trainedmodel import TrainedModel, TrainedModelStatus

Kind = TypeVar("Kind", TrainedModel, ModelVersion)


def read(kind: type[Kind], stored: Mapping[str, Any]) -> Kind | Invalid:
    """Read an object as the API server returned it.

    In the spec, a field that this operator does not know is a problem: the user asked for something that
    would not happen. In the status it is dropped: a newer operator wrote it, and this one writes its own.
    Anything else that does not fit is a problem with its path, in the status as well (a champion that cannot
    be read must not pass for no champion).
    """
    parsed = parse(kind, stored)
    if isinstance(parsed, Invalid) and isinstance(stored.get("status"), dict):
        status = TrainedModelStatus if kind is TrainedModel else ModelVersionStatus
        known = prune(status, stored["status"])
        if known != stored["status"]:
            return parse(kind, {**stored, "status": known})
    return parsed
