"""What both kinds have in common: metadata as Solera reads it, conditions, times."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from solera_core.spec.base import SpecModel
from solera_core.spec.rules import Rules, matches, refuse


class _TimestampType:
    """An instant in UTC, in whole seconds, as Kubernetes writes it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read RFC 3339 or an aware datetime; write `2026-01-02T03:04:05Z`."""
        return core_schema.no_info_plain_validator_function(
            _timestamp, serialization=core_schema.plain_serializer_function_ser_schema(rfc3339)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return what a structural schema says about a time."""
        return {"type": "string", "format": "date-time"}


def _timestamp(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            refuse([("", f"write a time such as 2026-01-02T03:04:05Z, not '{value}'")])
    if not isinstance(value, datetime) or value.tzinfo is None:
        refuse([("", f"write a time with its zone such as 2026-01-02T03:04:05Z, not '{value}'")])
    return value.astimezone(UTC).replace(microsecond=0)


def rfc3339(moment: datetime) -> str:
    """Write an aware datetime as Kubernetes does: UTC, whole seconds, Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Timestamp = Annotated[datetime, _TimestampType()]

MESSAGE_MAX = 4096


def _cut(text: Any) -> Any:
    return f"{text[: MESSAGE_MAX - 1]}…" if isinstance(text, str) and len(text) > MESSAGE_MAX else text


Message = Annotated[str, BeforeValidator(_cut), Field(max_length=MESSAGE_MAX)]
"""A text for people, cut where it is too long: a status has to be written whatever a container said."""

Reason = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Rules(matches(r"[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?", "write a reason in PascalCase")),
]
"""A word for machines, in PascalCase."""

Count = Annotated[int, Strict(), Field(ge=0, le=2**53)]
"""A number of things."""


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(SpecModel):
    """One condition, as all Kubernetes objects have them."""

    type: Annotated[
        str,
        Field(min_length=1, max_length=64),
        Rules(matches(r"[A-Z][A-Za-z0-9]*", "write a condition type in PascalCase")),
    ]
    """Which condition this is."""
    status: ConditionStatus
    """Whether it holds."""
    reason: Reason
    """Why, as one word."""
    message: Message = ""
    """Why, for people: what happened and what to do."""
    observed_generation: Count | None = None
    """The generation of the object that this was said about."""
    last_transition_time: Timestamp
    """When the status last became another one."""


class ObjectMeta(BaseModel):
    """The metadata that Solera reads; what it does not read is dropped."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: Timestamp | None = None
    deletion_timestamp: Timestamp | None = None
