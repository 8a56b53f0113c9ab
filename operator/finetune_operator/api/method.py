"""What is trained: `spec.method`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from finetune_operator.api.schema import ApiModel, Cel
from finetune_operator.api.values import Decimal


class Full(ApiModel):
    """Every weight is trained."""


class Lora(ApiModel):
    """Low-rank adapters beside frozen weights (Hu et al., 2021)."""

    rank: int = Field(default=16, ge=1, le=1024, description="Rank of the adapters.")
    alpha: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Scaling numerator: the update is weighted alpha / rank. Default: 2 * rank.",
    )
    dropout: Annotated[
        Decimal, Cel("double(self) < 1.0", 'dropout must be less than 1, for example "0.05"')
    ] = Field(default="0", description="Dropout in front of the adapters, in [0, 1).")
    rslora: bool = Field(
        default=False,
        description="Weight the update alpha / sqrt(rank), so that large ranks learn as well as "
        "small ones (rsLoRA, Kalajdzievski, 2023).",
    )
    lora_plus_ratio: (
        Annotated[
            Decimal,
            Cel(
                "double(self) >= 1.0 && double(self) <= 1000.0",
                'loraPlusRatio must be from 1 to 1000, for example "16"',
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="The adapters' B learns this many times as fast as A, whose rate is "
        "learningRate (LoRA+, Hayou et al., 2024). Default: 1.",
    )
    target_modules: list[Annotated[str, Field(min_length=1, max_length=128)]] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Names of the modules that get adapters, as PEFT matches them. "
        "Default: all linear layers but the head.",
    )


class Method(ApiModel):
    """What is trained: exactly one member."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.lora) != has(self.full)",
            "exactly one of lora and full must be set: lora trains adapters, full every weight",
        ),
    )

    lora: Lora | None = Field(default=None, description="Train LoRA adapters.")
    full: Full | None = Field(default=None, description="Train every weight.")
