"""What is trained."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from finetune_trainer.run.contract import Contract, Decimal


class Initialization(StrEnum):
    """How the adapters begin."""

    DEFAULT = "Default"
    GAUSSIAN = "Gaussian"
    ORTHOGONAL = "Orthogonal"
    PISSA = "PiSSA"
    OLORA = "OLoRA"


class Lora(Contract):
    rank: int = 16
    alpha: int = 32
    dropout: Decimal = 0.0
    rslora: bool = False
    dora: bool = False
    initialization: Initialization = Initialization.DEFAULT
    lora_plus_ratio: Decimal = 1.0
    target_modules: list[str] = Field(default_factory=lambda: ["all-linear"])
    modules_to_save: list[str] = Field(default_factory=list)
    quantization: Literal["NF4"] | None = None


class Full(Contract):
    """Without `trainable` every parameter is trained."""

    trainable: list[str] | None = None


class NonLinearity(StrEnum):
    """What is between an adapter's two matrices, by torch's name."""

    RELU = "ReLU"
    SILU = "SiLU"
    GELU = "GELU"
    TANH = "Tanh"


class BottleneckAdapter(Contract):
    """Without `targetModules` those behind the feed-forward blocks are meant."""

    reduction_factor: int = 16
    non_linearity: NonLinearity = NonLinearity.RELU
    target_modules: list[str] | None = None
    modules_to_save: list[str] = Field(default_factory=list)
    quantization: Literal["NF4"] | None = None


class Ia3(Contract):
    """Without names PEFT's for the architecture are meant."""

    target_modules: list[str] | None = None
    feedforward_modules: list[str] | None = None


class Prompt(Contract):
    virtual_tokens: int = 20
    text: str | None = None


class Prefix(Contract):
    virtual_tokens: int = 20


class PTuning(Contract):
    virtual_tokens: int = 20
    encoder_hidden_size: int | None = None


class Method(Contract):
    """Exactly one member is set."""

    lora: Lora | None = None
    full: Full | None = None
    adapter: BottleneckAdapter | None = None
    ia3: Ia3 | None = None
    prompt: Prompt | None = None
    prefix: Prefix | None = None
    p_tuning: PTuning | None = None

    @property
    def name(self) -> str:
        """The member that is set, as the plan has it."""
        return next(to_camel(name) for name in type(self).model_fields if getattr(self, name))

    @property
    def makes_adapter(self) -> bool:
        """Whether what is trained stands beside the base."""
        return self.full is None

    @property
    def quantization(self) -> Literal["NF4"] | None:
        """The number format of the frozen base, if it is another one than that of computing."""
        beside = self.lora or self.adapter
        return beside.quantization if beside else None

    @property
    def modules_to_save(self) -> list[str]:
        """The modules that are trained whole beside an adapter."""
        beside = self.lora or self.adapter
        return beside.modules_to_save if beside else []

    @property
    def virtual_tokens(self) -> int:
        """How many trained positions stand before every document."""
        prompting = self.prompt or self.prefix or self.p_tuning
        return prompting.virtual_tokens if prompting else 0
