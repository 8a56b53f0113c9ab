"""How the models say what pydantic has no word for: CEL rules, remedies, lists with keys.

The generator (`structural`) reads these marks; nothing here acts on a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

RULES = "x-cel"
REMEDY = "x-remedy"
LIST_MAP_KEYS = "x-list-map-keys"
# On a list: its items' defaults are applied by the operator, and only told by the schema.
DEFAULTS_WHEN_READ = "x-defaults-when-read"
INT_OR_STRING = "x-kubernetes-int-or-string"


@dataclass(frozen=True, slots=True)
class Cel:
    """One `x-kubernetes-validations` rule; `message` names the field and the remedy.

    Stands in the `cel` of an object, or in `Annotated[…]` for a value. `forbidden` is for rules
    about what is there at all, not about its value: the API server then does not print the value.
    `create_only` is for what an update cannot change: should the rule ever become stricter, objects
    that exist can still be written (the API server spares them only where nothing changed).
    """

    rule: str
    message: str
    field_path: str | None = None
    forbidden: bool = False
    create_only: bool = False

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        schema = handler(core_schema)
        return {**schema, RULES: [*schema.get(RULES, []), self.as_validation()]}

    def as_validation(self) -> dict[str, Any]:
        """The rule as the CRD holds it."""
        validation: dict[str, Any] = {"rule": self.rule, "message": self.message}
        if self.create_only:
            validation["rule"] = f"oldSelf.hasValue() || ({self.rule})"
            validation["optionalOldSelf"] = True
        if self.field_path is not None:
            validation["fieldPath"] = self.field_path
        if self.forbidden:
            validation["reason"] = "FieldValueForbidden"
        return validation


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to say in place of the regular expression when a string does not match its pattern."""

    message: str

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(core_schema), REMEDY: self.message}


class ApiModel(BaseModel):
    """Base of every object of the API: camelCase in JSON, unknown keys ignored when reading.

    The API server has pruned or refused unknown keys already; ignoring them here lets an older
    operator read what a newer one wrote. `cel` holds the rules of the object as a whole.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )
    cel: ClassVar[tuple[Cel, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core_schema))
        if cls.cel:
            schema[RULES] = [rule.as_validation() for rule in cls.cel]
        return schema


class Choice(ApiModel):
    """An object with exactly one member, and no default for which."""
