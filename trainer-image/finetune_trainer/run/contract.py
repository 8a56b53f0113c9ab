"""What all parts of the contract's models have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

Decimal = Annotated[float, BeforeValidator(float, json_schema_input_type=str)]


class Contract(BaseModel):
    """A part of `run.json`: names in camelCase, members that are not known ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )
