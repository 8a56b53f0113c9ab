"""How the training processes share the model: `spec.parallelism`."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from finetune_operator.api.schema import ApiModel, Cel


class Strategy(StrEnum):
    """What each process holds of the model."""

    AUTO = "Auto"
    DDP = "DDP"
    FSDP = "FSDP"
    DEEPSPEED = "DeepSpeed"


class Fsdp(ApiModel):
    """Settings of PyTorch's FSDP2."""

    cpu_offload: bool = Field(
        default=False,
        description="Keep weights, gradients and optimizer state in the pod's memory; a layer is "
        "brought to the GPU when it is computed.",
    )
    reshard_after_forward: bool = Field(
        default=True,
        description="Drop a layer's weights after the forward pass and gather them again for the "
        "backward pass; false takes memory and saves that.",
    )


class Offload(StrEnum):
    """Where DeepSpeed keeps what its stage shares."""

    NONE = "None"
    CPU = "CPU"


class DeepSpeed(ApiModel):
    """Settings of DeepSpeed's ZeRO."""

    stage: int = Field(
        default=3,
        ge=1,
        le=3,
        description="What the processes share: 1 the optimizer's state, 2 gradients too, 3 weights "
        "too.",
    )
    offload: Offload = Field(
        default=Offload.NONE,
        description="CPU keeps the optimizer's state, in stage 3 weights too, in the pod's memory.",
    )


class Parallelism(ApiModel):
    """How the training processes share the model."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.fsdp) || self.strategy == 'FSDP'",
            "fsdp has the settings of strategy FSDP: set strategy to FSDP, or remove fsdp",
            field_path=".fsdp",
            forbidden=True,
        ),
        Cel(
            "!has(self.deepspeed) || self.strategy == 'DeepSpeed'",
            "deepspeed has the settings of strategy DeepSpeed: set strategy to DeepSpeed, or "
            "remove deepspeed",
            field_path=".deepspeed",
            forbidden=True,
        ),
    )

    strategy: Strategy = Field(
        default=Strategy.AUTO,
        description="DDP keeps all of the model in every process, FSDP a slice of it, DeepSpeed "
        "what deepspeed.stage leaves. Auto is DDP where model and training state fit each process "
        "by an estimate, else FSDP; status.resolved says which and why.",
    )
    fsdp: Fsdp | None = Field(default=None, description="Settings of strategy FSDP.")
    deepspeed: DeepSpeed | None = Field(default=None, description="Settings of strategy DeepSpeed.")
