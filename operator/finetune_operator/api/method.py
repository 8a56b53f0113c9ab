"""What is trained: `spec.method`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from finetune_operator.api.schema import ApiModel, Cel, Choice
from finetune_operator.api.values import Decimal


class Full(ApiModel):
    """The weights themselves are trained."""

    trainable: list[Annotated[str, Field(min_length=1, max_length=256)]] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Patterns, as a shell has them, for the parameters or modules that are "
        "trained, for example model.layers.2[0-9].* or lm_head; the others stay as they are, and "
        "no gradient passes below the first that is trained. Default: all.",
    )


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

_APART = Cel(
    "!has(self.modulesToSave) || !has(self.targetModules) || "
    "!self.modulesToSave.exists(x, x in self.targetModules)",
    "modulesToSave are trained whole, and targetModules get adapters: remove what both name from "
    "one of them",
)


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
        _APART,
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


class NonLinearity(StrEnum):
    """What is between an adapter's two matrices, by torch's name."""

    RELU = "ReLU"
    SILU = "SiLU"
    GELU = "GELU"
    TANH = "Tanh"


class BottleneckAdapter(ApiModel):
    """Small networks behind blocks of every layer (Houlsby et al., 2019)."""

    cel: ClassVar[tuple[Cel, ...]] = (_APART,)

    reduction_factor: int = Field(
        default=16,
        ge=1,
        le=4096,
        description="How many times narrower than the model's hidden states an adapter is inside.",
    )
    non_linearity: NonLinearity = Field(
        default=NonLinearity.RELU,
        description="What is between an adapter's two matrices; SiLU is also called swish.",
    )
    target_modules: list[Module] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Names of the blocks in each layer that an adapter is behind, for example "
        "self_attn and mlp. Default: the feed-forward block (Pfeiffer et al., 2020).",
    )
    modules_to_save: list[Module] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Names of the modules that are trained whole beside the adapters and saved "
        "with them. Default: none.",
    )
    quantization: Quantization | None = Field(
        default=None,
        description="NF4 keeps the frozen base in 4 bits, as in method.lora. Default: none.",
    )


class Ia3(ApiModel):
    """Factors for what layers write or read (Liu et al., 2022)."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.feedforwardModules) || has(self.targetModules)",
            "feedforwardModules are some of targetModules: set targetModules to all names, theirs "
            "included",
        ),
    )

    target_modules: list[Module] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Names of the linear modules that are scaled. Default: PEFT's for the "
        "architecture: keys, values and the output of the feed-forward block.",
    )
    feedforward_modules: list[Module] | None = Field(
        default=None,
        max_length=64,
        description="Those of targetModules whose inputs are scaled instead of their outputs. "
        "Default: PEFT's for the architecture.",
    )


VirtualTokens = Annotated[int, Field(ge=1, le=4096)]


class Prompt(ApiModel):
    """Prompt tuning (Lester et al., 2021)."""

    virtual_tokens: VirtualTokens = Field(
        default=20, description="Trained embeddings before every document."
    )
    text: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None,
        description="What they begin as, repeated to their number. Default: random tokens of the "
        "vocabulary.",
    )


class Prefix(ApiModel):
    """Prefix tuning (Li & Liang, 2021)."""

    virtual_tokens: VirtualTokens = Field(
        default=20, description="Trained keys and values of every layer before every document."
    )


class PTuning(ApiModel):
    """P-tuning (Liu et al., 2021)."""

    virtual_tokens: VirtualTokens = Field(
        default=20, description="Embeddings before every document, made by a small trained network."
    )
    encoder_hidden_size: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Width of that network. Default: the model's hidden size.",
    )


class Method(Choice):
    """What is trained: exactly one member."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "[has(self.lora), has(self.full), has(self.adapter), has(self.ia3), has(self.prompt), "
            "has(self.prefix), has(self.pTuning)].filter(x, x).size() == 1",
            "exactly one of lora, full, adapter, ia3, prompt, prefix, pTuning must be set: full "
            "trains every weight, the others what stands beside them",
        ),
    )

    lora: Lora | None = Field(default=None, description="Train LoRA adapters.")
    full: Full | None = Field(default=None, description="Train every weight.")
    adapter: BottleneckAdapter | None = Field(
        default=None, description="Train small networks behind blocks (bottleneck adapters)."
    )
    ia3: Ia3 | None = Field(default=None, description="Train factors of activations (IA3).")
    prompt: Prompt | None = Field(
        default=None, description="Train embeddings before every document (prompt tuning)."
    )
    prefix: Prefix | None = Field(
        default=None, description="Train keys and values before every document (prefix tuning)."
    )
    p_tuning: PTuning | None = Field(
        default=None,
        description="Train a network that makes embeddings before every document (P-tuning).",
    )


# The members with a quantization.
QUANTIZED = ("lora", "adapter")

_UNMERGEABLE = (
    "has(self.method.adapter) || has(self.method.prompt) || has(self.method.prefix) || "
    "has(self.method.pTuning)"
)

# Of the whole spec.
RULES = (
    Cel(
        "!has(self.upload) || !has(self.upload.artifacts) || !has(self.method.full) || "
        "!self.upload.artifacts.exists(x, x == 'Adapter')",
        "upload.artifacts has Adapter, but method.full makes no adapter: remove Adapter, or "
        "use method.lora",
        field_path=".upload.artifacts",
        forbidden=True,
    ),
    Cel(
        "!has(self.merge) || !has(self.method.full)",
        "merge is for adapters, but method.full makes a whole model: remove merge, or use "
        "method.lora",
        field_path=".merge",
        forbidden=True,
    ),
    Cel(
        f"!({_UNMERGEABLE}) || !has(self.merge)",
        "merge puts into weights what was trained, which method.adapter, prompt, prefix and "
        "pTuning do not allow: remove merge",
        field_path=".merge",
        forbidden=True,
    ),
    Cel(
        f"!({_UNMERGEABLE}) || "
        "!has(self.upload) || !has(self.upload.artifacts) || "
        "!self.upload.artifacts.exists(x, x == 'Merged')",
        "upload.artifacts has Merged, but what method.adapter, prompt, prefix and pTuning train "
        "cannot be merged: set it to [Adapter], or remove it",
        field_path=".upload.artifacts",
        forbidden=True,
    ),
    Cel(
        "!has(self.method.prefix) || !self.training.gradientCheckpointing",
        "training.gradientCheckpointing drops the keys and values that method.prefix trains: "
        "remove it, or use method.prompt",
        field_path=".training.gradientCheckpointing",
    ),
    Cel(
        "!has(self.merge) || self.merge.base != 'Dequantized' || "
        "(has(self.method.lora) && has(self.method.lora.quantization))",
        "merge.base Dequantized is for a base that was quantized: set "
        "method.lora.quantization, or remove merge.base",
        field_path=".merge.base",
    ),
    Cel(
        "has(self.method.lora) || has(self.method.adapter) || has(self.method.full) || "
        "!(self.parallelism.strategy in ['FSDP', 'DeepSpeed'])",
        "parallelism.strategy FSDP and DeepSpeed are for method.lora, adapter and full: set "
        "strategy to DDP, or use one of these methods",
        field_path=".parallelism.strategy",
    ),
    Cel(
        "self.task != 'Preference' || has(self.method.lora) || has(self.method.full)",
        "task Preference is for method.lora and method.full: use one of them",
        field_path=".method",
    ),
    Cel(
        "self.task != 'Preference' || !has(self.method.lora) || "
        "!(self.method.lora.initialization in ['PiSSA', 'OLoRA'])",
        "task Preference compares with the base, a part of which method.lora.initialization takes "
        "out: set initialization to Default",
        field_path=".method.lora.initialization",
    ),
)
