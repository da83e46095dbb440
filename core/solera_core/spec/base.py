"""The base of every type that mirrors a part of a Solera object."""

import json
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from solera_core.spec.rules import Rule, add_rules, enforce


class SpecModel(BaseModel):
    """A frozen value with camelCase names outside and snake_case names inside; unknown fields are refused.

    Python code builds it by field names, `parse` (see `parsing.py`) reads it by its camelCase names only.
    Defaults other than None are the API server's defaults too: give one only if it can stay for ever. What
    the operator may decide anew in a later release has the default None and a method that says what it means.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        """Take null for an absent field, as the API server does."""
        if isinstance(value, dict) and None in value.values():
            return {key: item for key, item in value.items() if item is not None}
        return value

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        enforce(type(self).rules, self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        """Add the rules of the type to its JSON schema."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        add_rules(schema, cls.rules)
        return schema

    def document(self) -> dict[str, Any]:
        """Return the JSON object that the API server stores: camelCase, without absent fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def canonical(self) -> bytes:
        """Return bytes that are equal for equal meanings: sorted keys, defaults left out, UTF-8.

        A default that is written out and one that is not give the same bytes, and a field that a later
        release adds changes nothing until somebody uses it. Hashes of specs are made of this.
        """
        value = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
