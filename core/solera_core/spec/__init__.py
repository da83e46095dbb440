"""The types of a spec that the operator and the trainer share. The server never imports them."""

from solera_core.spec.candidates import (
    Candidate,
    ParamValue,
    Preprocessing,
    Scalar,
    Search,
    SearchMethod,
    Step,
)
from solera_core.spec.data import Checks, Column, ColumnType, Data, Split, SplitMethod
from solera_core.spec.gates import Gate, Judge
from solera_core.spec.learning import LearningSpec
from solera_core.spec.parsing import API_VERSION, GROUP, Invalid, Problem, parse, parse_manifest
from solera_core.spec.pod import PodOptions, Resources, Toleration, TrainingPodOptions
from solera_core.spec.quantities import parse_duration, parse_quantity
from solera_core.spec.task import Task
from solera_core.spec.training import Training, Validation

__all__ = [
    "API_VERSION",
    "GROUP",
    "Candidate",
    "Checks",
    "Column",
    "ColumnType",
    "Data",
    "Gate",
    "Invalid",
    "Judge",
    "LearningSpec",
    "ParamValue",
    "PodOptions",
    "Preprocessing",
    "Problem",
    "Resources",
    "Scalar",
    "Search",
    "SearchMethod",
    "Split",
    "SplitMethod",
    "Step",
    "Task",
    "Toleration",
    "Training",
    "TrainingPodOptions",
    "Validation",
    "parse",
    "parse_duration",
    "parse_manifest",
    "parse_quantity",
]
