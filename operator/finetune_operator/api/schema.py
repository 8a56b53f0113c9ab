"""How the models say what pydantic has no word for: CEL rules, list types, printer columns.

The generator (`crdgen`) reads these marks; nothing here acts on a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """Base of every object of the API: camelCase in JSON, unknown keys ignored when reading.

    The API server has pruned or refused unknown keys already; ignoring them here lets an older
    operator read what a newer one wrote. `cel` holds the rules of the object as a whole.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )


@dataclass(frozen=True, slots=True)
class Cel:
    """One `x-kubernetes-validations` rule; `message` names the field and the remedy."""

    rule: str
    message: str


def rules(*cel: Cel) -> Any:
    """Field metadata: rules on the value of this field."""
    return Field(json_schema_extra={"x-cel": [{"rule": c.rule, "message": c.message} for c in cel]})


# A decimal number as a string: floats do not round-trip through every client (API conventions).
DECIMAL_PATTERN = r"^(0|[1-9][0-9]*)(\.[0-9]+)?([eE]-?[0-9]+)?$"
Decimal = Annotated[str, Field(pattern=DECIMAL_PATTERN, max_length=24)]
