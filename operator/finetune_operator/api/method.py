"""What is trained: `spec.method`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from finetune_operator.api.schema import ApiModel, Cel
from finetune_operator.api.values import Decimal


class Full(ApiModel):
    """Every weight is trained."""


class Initialization(StrEnum):
    """How LoRA's adapters begin."""

    DEFAULT = "Default"
    GAUSSIAN = "Gaussian"
    ORTHOGONAL = "Orthogonal"
    PISSA = "PiSSA"
    OLORA = "OLoRA"


class Quantization(StrEnum):
    """Number format of a frozen base."""

    NF4 = "NF4"


Module = Annotated[str, Field(min_length=1, max_length=128)]


class Lora(ApiModel):
    """Low-rank adapters beside frozen weights (Hu et al., 2021)."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "self.initialization != 'Orthogonal' || self.rank % 2 == 0",
            "initialization Orthogonal needs an even rank: make rank even, or set initialization "
            "to Default",
        ),
        Cel(
            "!has(self.quantization) || !(self.initialization in ['PiSSA', 'OLoRA'])",
            "initialization takes its values out of a base that is not quantized: set "
            "initialization to Default, Gaussian or Orthogonal, or remove quantization",
        ),
        Cel(
            "!has(self.modulesToSave) || !has(self.targetModules) || "
            "!self.modulesToSave.exists(x, x in self.targetModules)",
            "modulesToSave are trained whole, and targetModules get adapters: remove what both "
            "name from one of them",
        ),
    )

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
    dora: bool = Field(
        default=False,
        description="Train the norms of each layer's weights apart from their directions (DoRA, "
        "Liu et al., 2024): better at small ranks, and slower.",
    )
    initialization: Initialization = Field(
        default=Initialization.DEFAULT,
        description="How the adapters begin. Default: A random, B zero. Gaussian: the same with A "
        "drawn from a normal distribution. Orthogonal: both random, with a product of zero. "
        "PiSSA, OLoRA: the base's principal part, by singular values (Meng et al., 2024) or by QR "
        "(Büyükakyüz, 2024), which is taken out of the base; the adapter published is for the base "
        "as it is and has twice the rank.",
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
    target_modules: list[Module] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Names of the modules that get adapters, as PEFT matches them. "
        "Default: all linear layers but the head.",
    )
    modules_to_save: list[Module] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Names of the modules that are trained whole beside the adapters and saved "
        "with them, for example lm_head or embed_tokens. Default: none.",
    )
    quantization: Quantization | None = Field(
        default=None,
        description="NF4 keeps the frozen base in 4 bits (QLoRA, Dettmers et al., 2023): all "
        "linear layers but the head and modulesToSave. Default: none.",
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
