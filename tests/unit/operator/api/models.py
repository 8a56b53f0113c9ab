"""Small models for the tests of the converter."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from finetune_operator.api.crdgen import structural_schema
from finetune_operator.api.schema import ApiModel

Word = Annotated[str, Field(max_length=8)]


class Shade(StrEnum):
    DARK = "Dark"
    LIGHT = "Light"


class Left(ApiModel):
    kind: Literal["left"] = Field(description="Which.")


class Right(ApiModel):
    kind: Literal["right"] = Field(description="Which.")


class Defaulted(ApiModel):
    """Has a default inside."""

    size: int = Field(default=3, ge=1, le=9, description="Size.")
    name: Word | None = Field(default=None, description="Name.")


class Recursive(ApiModel):
    child: Recursive | None = Field(default=None, description="Child.")


def converted(annotation: Any, *, defaults: bool = True, **field: Any) -> dict[str, Any]:
    """The structural schema of one field `it`."""
    field = {"description": "It.", **field}
    model = type(
        "Holder", (ApiModel,), {"__annotations__": {"it": annotation}, "it": Field(**field)}
    )
    node: dict[str, Any] = structural_schema(model, defaults=defaults)["properties"]["it"]
    return node
