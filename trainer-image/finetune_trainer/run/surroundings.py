"""Where it is trained, and what becomes of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from finetune_trainer.run.contract import Contract
from finetune_trainer.run.training import Precision


class Resources(Contract):
    nodes: int = 1
    gpus_per_node: int = 0


class Strategy(StrEnum):
    """How the processes share the model; `Auto` is decided when the memory is known."""

    AUTO = "Auto"
    DDP = "DDP"
    FSDP = "FSDP"
    DEEPSPEED = "DeepSpeed"


class Fsdp(Contract):
    cpu_offload: bool = False
    reshard_after_forward: bool = True


class DeepSpeed(Contract):
    """`stage` of ZeRO; `offload` of what it shards."""

    stage: Literal[1, 2, 3] = 3
    offload: Literal["None", "CPU"] = "None"


class Parallelism(Contract):
    strategy: Strategy = Strategy.AUTO
    fsdp: Fsdp = Fsdp()
    deepspeed: DeepSpeed = DeepSpeed()

    @property
    def alone(self) -> bool:
        """Whether a single process has nothing to share."""
        return self.strategy in (Strategy.AUTO, Strategy.DDP)

    @property
    def in_slices(self) -> bool:
        """Whether the strategy asked for leaves each process only slices of the parameters."""
        return self.strategy is Strategy.FSDP or (
            self.strategy is Strategy.DEEPSPEED and self.deepspeed.stage == 3
        )

    @property
    def offloads(self) -> bool:
        """Whether training state is kept in CPU memory, beside an accelerator."""
        return (self.strategy is Strategy.FSDP and self.fsdp.cpu_offload) or (
            self.strategy is Strategy.DEEPSPEED and self.deepspeed.offload == "CPU"
        )


class TensorBoard(Contract):
    """Event files in the workspace."""


class Wandb(Contract):
    """An offline run of Weights & Biases in the workspace."""

    project: str


class Mlflow(Contract):
    """A run in MLflow's file store in the workspace."""

    experiment: str


class Tracking(Contract):
    """Which trackers get the logged values."""

    tensorboard: TensorBoard | None = None
    wandb: Wandb | None = None
    mlflow: Mlflow | None = None


class Merge(Contract):
    base: Literal["Original", "Dequantized"] = "Original"
    precision: Precision = Precision.AUTO


class Upload(Contract):
    repository: str
    branch: str = "main"
    private: bool = False
    artifacts: list[Literal["Adapter", "Merged"]]
