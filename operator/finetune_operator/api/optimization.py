"""How an error becomes a step: `spec.training.loss`, `scheduler` and `optimizer`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from finetune_operator.api.schema import ApiModel, Cel, Remedy
from finetune_operator.api.values import Decimal, LocalRef


class SchedulerType(StrEnum):
    """Shape of the learning rate after warm-up."""

    COSINE = "Cosine"
    COSINE_WITH_RESTARTS = "CosineWithRestarts"
    LINEAR = "Linear"
    POLYNOMIAL = "Polynomial"
    CONSTANT = "Constant"
    INVERSE_SQRT = "InverseSqrt"
    WARMUP_STABLE_DECAY = "WarmupStableDecay"


def _share(name: str, example: str) -> Cel:
    return Cel("double(self) < 1.0", f'{name} must be less than 1, for example "{example}"')


class Scheduler(ApiModel):
    """The learning rate over the run."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.minRatio) || !(self.type in ['Constant', 'InverseSqrt'])",
            "minRatio is where a rate that falls ends, and this type has no end: remove minRatio, "
            "or set type to Cosine, CosineWithRestarts, Linear, Polynomial or WarmupStableDecay",
            field_path=".minRatio",
            forbidden=True,
        ),
        Cel(
            "!has(self.cycles) || self.type == 'CosineWithRestarts'",
            "cycles are those of type CosineWithRestarts: remove cycles, or set type to it",
            field_path=".cycles",
            forbidden=True,
        ),
        Cel(
            "!has(self.power) || self.type == 'Polynomial'",
            "power is that of type Polynomial: remove power, or set type to it",
            field_path=".power",
            forbidden=True,
        ),
        Cel(
            "!has(self.decayRatio) || self.type == 'WarmupStableDecay'",
            "decayRatio is that of type WarmupStableDecay: remove decayRatio, or set type to it",
            field_path=".decayRatio",
            forbidden=True,
        ),
    )

    type: SchedulerType = Field(
        default=SchedulerType.COSINE,
        description="Cosine, Linear and Polynomial fall to minRatio; CosineWithRestarts falls and "
        "starts again; InverseSqrt falls by the root of the step; WarmupStableDecay stays at the "
        "peak and falls at the end, as a cosine; Constant stays.",
    )
    warmup_ratio: Annotated[Decimal, _share("warmupRatio", "0.03")] = Field(
        default="0.03", description="Share of the steps over which the rate rises from 0."
    )
    warmup_steps: int | None = Field(
        default=None,
        ge=0,
        le=10_000_000,
        description="Steps over which the rate rises from 0, in place of warmupRatio.",
    )
    min_ratio: Annotated[Decimal, _share("minRatio", "0.1")] | None = Field(
        default=None, description="Share of the peak at which the rate ends. Default: 0."
    )
    cycles: int | None = Field(
        default=None, ge=1, le=1000, description="How often CosineWithRestarts falls. Default: 1."
    )
    power: (
        Annotated[
            Decimal,
            Cel(
                "double(self) > 0.0 && double(self) <= 10.0",
                'power must be greater than 0 and at most 10, for example "2"',
            ),
        ]
        | None
    ) = Field(default=None, description="Exponent of Polynomial. Default: 1.")
    decay_ratio: (
        Annotated[
            Decimal,
            Cel(
                "double(self) > 0.0 && double(self) <= 1.0",
                'decayRatio must be greater than 0 and at most 1, for example "0.1"',
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Share of the steps over which WarmupStableDecay falls. Default: 0.1.",
    )


class OptimizerType(StrEnum):
    """The algorithm."""

    ADAMW = "AdamW"
    ADAFACTOR = "Adafactor"
    RMSPROP = "RMSprop"
    SGD = "SGD"


class Optimizer(ApiModel):
    """What turns gradients into steps."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!(has(self.beta1) || has(self.beta2)) || self.type == 'AdamW'",
            "beta1 and beta2 are AdamW's: remove them, or set type to AdamW",
            forbidden=True,
        ),
        Cel(
            "!has(self.epsilon) || self.type in ['AdamW', 'RMSprop']",
            "epsilon is that of AdamW and RMSprop: remove epsilon, or set type to one of them",
            field_path=".epsilon",
            forbidden=True,
        ),
        Cel(
            "!has(self.momentum) || self.type == 'SGD'",
            "momentum is SGD's: remove momentum, or set type to SGD",
            field_path=".momentum",
            forbidden=True,
        ),
    )

    type: OptimizerType = Field(
        default=OptimizerType.ADAMW,
        description="AdamW (Loshchilov & Hutter, 2019); Adafactor (Shazeer & Stern, 2018), whose "
        "state is small; RMSprop; SGD with momentum.",
    )
    beta1: Annotated[Decimal, _share("beta1", "0.9")] | None = Field(
        default=None, description="Decay of AdamW's mean of gradients. Default: 0.9."
    )
    beta2: Annotated[Decimal, _share("beta2", "0.95")] | None = Field(
        default=None, description="Decay of AdamW's mean of squared gradients. Default: 0.999."
    )
    epsilon: (
        Annotated[
            Decimal,
            Cel(
                "double(self) > 0.0 && double(self) <= 1.0",
                'epsilon must be greater than 0 and at most 1, for example "1e-8"',
            ),
        ]
        | None
    ) = Field(default=None, description="Added to the root of the mean of squares. Default: 1e-8.")
    momentum: (
        Annotated[
            Decimal,
            Cel(
                "double(self) > 0.0 && double(self) < 1.0",
                'momentum must be greater than 0 and less than 1, for example "0.9"',
            ),
        ]
        | None
    ) = Field(default=None, description="SGD's momentum. Default: 0.9.")


_NAME = r"[A-Za-z_][A-Za-z0-9_]*"


class Loss(ApiModel):
    """A loss of one's own, in place of cross-entropy."""

    module: Annotated[
        str,
        Field(max_length=253, pattern=rf"^{_NAME}(\.{_NAME})*$"),
        Remedy("must be the name of a Python module, for example my_losses"),
    ] = Field(description="Python module of the trainer image or of configMapRef.")
    function: Annotated[
        str,
        Field(max_length=128, pattern=rf"^{_NAME}$"),
        Remedy("must be the name of a Python function, for example focal"),
    ] = Field(
        description="Function of the module: from logits (n, vocabulary) and the tokens to predict "
        "(n), both PyTorch tensors, to the sum of n losses."
    )
    config_map_ref: LocalRef | None = Field(
        default=None,
        description="ConfigMap whose keys are Python files, such as my_losses.py; prepare reads "
        "them once, and the training pods import what it has read. Default: only the image's "
        "modules.",
    )
