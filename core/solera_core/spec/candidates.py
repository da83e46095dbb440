"""Candidates for the model: estimators, their parameters, and the search for better ones."""

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, Strict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from solera_core.spec.base import SpecModel
from solera_core.spec.data import ColumnType
from solera_core.spec.names import ColumnName, LabelName
from solera_core.spec.rules import Atomic, ListMap, ListSet, Rule, Rules, matches, refuse

Scalar = str | int | float | bool | None
ParamValue = Scalar | tuple[Scalar, ...]

_CLASS_PATH = r"sklearn(\.[a-z_][a-z0-9_]*)+\.[A-Z][A-Za-z0-9]*"
_PARAMETER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
GRID_MAX = 500
"""Most parameter combinations that one Grid may have."""


class _ParamValueType:
    """A scalar or a list of scalars, which the API server keeps as it is."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read the value as the API server would return it."""
        return core_schema.no_info_plain_validator_function(_param_value)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return what a structural schema says about a value of any type; null has a meaning (None)."""
        return {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}


def _param_value(value: Any) -> ParamValue:
    if isinstance(value, list | tuple):
        if len(value) > 64:
            refuse([("", f"a list may have at most 64 values, not {len(value)}")])
        return tuple(_scalar(item, f"[{index}]") for index, item in enumerate(value))
    return _scalar(value, "")


def _scalar(value: Any, at: str) -> Scalar:
    if isinstance(value, float):
        if not math.isfinite(value):
            refuse([(at, "write a finite number (null stands for None)")])
        # The API server stores 1.0 as 1; the laptop has to see the same number.
        return int(value) if value.is_integer() else value
    if isinstance(value, str) and len(value) > 256:
        refuse([(at, f"a string may have at most 256 characters, not {len(value)}")])
    if value is not None and not isinstance(value, str | int):
        refuse([(at, "write a string, a number, true, false, null, or a list of these")])
    return value


ParamValueField = Annotated[ParamValue, _ParamValueType()]


def _parameter_names(params: Mapping[str, object]) -> bool:
    return all(len(name) <= 64 and _PARAMETER.fullmatch(name) for name in params)


_NAMES_RULE = Rule(
    message="write parameter names as the estimator's documentation does, such as max_depth",
    check=_parameter_names,
)
Params = Annotated[
    dict[str, ParamValueField],
    Field(max_length=64),
    Rules(_NAMES_RULE),
]
Space = Annotated[
    dict[str, Annotated[tuple[ParamValueField, ...], Field(min_length=1, max_length=64), Atomic()]],
    Field(min_length=1, max_length=16),
    Rules(_NAMES_RULE),
]


class SearchMethod(StrEnum):
    """How the search goes through its space."""

    GRID = "Grid"
    RANDOM = "Random"


def _combinations(search: Any) -> int:
    return math.prod(len(set(map(repr, values))) for values in search.space.values())


class Search(SpecModel):
    """A search for better parameters: every combination that it tries is cross-validated."""

    rules = (
        Rule(
            message="method Random needs iterations: how many combinations it tries",
            cel="self.method != 'Random' || has(self.iterations)",
            check=lambda self: self.method is not SearchMethod.RANDOM or self.iterations is not None,
            at="iterations",
        ),
        Rule(
            message="method Grid tries every combination: leave iterations out, or write method: Random",
            cel="self.method != 'Grid' || !has(self.iterations)",
            check=lambda self: self.method is not SearchMethod.GRID or self.iterations is None,
            at="iterations",
        ),
        Rule(
            message="a value stands twice in the space of a parameter: write it once",
            check=lambda self: all(
                len(set(map(repr, values))) == len(values) for values in self.space.values()
            ),
            at="space",
        ),
        Rule(
            message=f"the grid has {{}} combinations, at most {GRID_MAX} are tried: write fewer values, "
            "or method: Random with iterations",
            check=lambda self: self.method is not SearchMethod.GRID or _combinations(self) <= GRID_MAX,
            at="space",
            shown=lambda self: str(_combinations(self)),
        ),
        Rule(
            message="the space has only {} combinations, fewer than iterations: write method: Grid",
            check=lambda self: self.iterations is None or _combinations(self) >= self.iterations,
            at="iterations",
            shown=lambda self: str(_combinations(self)),
        ),
    )

    method: SearchMethod
    """Grid tries every combination of the space, Random draws `iterations` of them without repetition."""
    space: Space
    """For each parameter the values to try."""
    iterations: Annotated[int, Strict(), Field(ge=1, le=GRID_MAX)] | None = None
    """How many combinations Random tries."""


class Candidate(SpecModel):
    """An estimator that may become the model."""

    rules = (
        Rule(
            message="a parameter stands in both params and search.space: leave it out of params",
            check=lambda self: self.search is None or not set(self.params) & set(self.search.space),
            at="params",
        ),
    )

    name: LabelName
    """Name of the candidate in results and messages."""
    estimator: Annotated[
        str,
        Field(min_length=1, max_length=128),
        Rules(
            matches(
                _CLASS_PATH,
                "write the full name of a scikit-learn estimator such as "
                "sklearn.ensemble.RandomForestClassifier",
            )
        ),
    ]
    """Full name of a scikit-learn estimator of the model's task, from the runtime's catalogue."""
    params: Params = Field(default={})
    """Parameters of the estimator, the rest have scikit-learn's defaults. A quoted decimal such as "0.5" is a
    real number, a bare integer an integer: the API server turns 1.0 into 1. Null is Python's None. A
    random_state that is absent is the training's seed."""
    search: Search | None = None
    """Search for better parameters. When absent the candidate is cross-validated as it stands."""


class Step(SpecModel):
    """One transformer."""

    transformer: Annotated[
        str,
        Field(min_length=1, max_length=128),
        Rules(
            matches(
                _CLASS_PATH,
                "write the full name of a scikit-learn transformer such as "
                "sklearn.preprocessing.StandardScaler",
            )
        ),
    ]
    """Full name of a scikit-learn transformer, from the runtime's catalogue."""
    params: Params = Field(default={})
    """Parameters of the transformer, written as those of an estimator."""


class Preprocessing(SpecModel):
    """Transformers for some of the columns, one after the other."""

    rules = (
        Rule(
            message="write exactly one of columns and columnTypes",
            cel="has(self.columns) != has(self.columnTypes)",
            check=lambda self: (self.columns is None) != (self.column_types is None),
        ),
    )

    columns: Annotated[tuple[ColumnName, ...], Field(min_length=1, max_length=512), ListSet()] | None = None
    """The features that the steps apply to, by name."""
    column_types: Annotated[tuple[ColumnType, ...], Field(min_length=1, max_length=5), ListSet()] | None = (
        None
    )
    """The features that the steps apply to, by type."""
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=8), Atomic()]
    """The transformers in order."""


Candidates = Annotated[tuple[Candidate, ...], Field(min_length=1, max_length=16), ListMap("name")]
