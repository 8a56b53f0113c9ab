"""How it is trained: length, optimizer, checkpoints, loss."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from finetune_trainer.run.contract import Contract, Decimal


class Scheduler(Contract):
    """`warmup_steps` takes the place of `warmup_ratio`."""

    type: Literal[
        "Cosine",
        "CosineWithRestarts",
        "Linear",
        "Polynomial",
        "Constant",
        "InverseSqrt",
        "WarmupStableDecay",
    ] = "Cosine"
    warmup_ratio: Decimal = 0.03
    warmup_steps: int | None = None
    min_ratio: Decimal = 0.0
    cycles: int = 1
    power: Decimal = 1.0
    decay_ratio: Decimal = 0.1


class ConfigMapRef(Contract):
    name: str


class CustomLoss(Contract):
    """A function in a module of the image or of the ConfigMap."""

    module: str
    function: str
    config_map_ref: ConfigMapRef | None = None


class Optimizer(Contract):
    type: Literal["AdamW", "Adafactor", "RMSprop", "SGD"] = "AdamW"
    beta1: Decimal = 0.9
    beta2: Decimal = 0.999
    epsilon: Decimal = 1e-8
    momentum: Decimal = 0.9


class Checkpoint(Contract):
    """`every_seconds` 0: only by steps."""

    every_steps: int = 100
    every_seconds: int = 0
    keep: int = 2


class EarlyStopping(Contract):
    """Evaluations without a gain of more than `min_delta` in the validation loss end the run."""

    patience: int = 3
    min_delta: Decimal = 0.0


class Precision(StrEnum):
    AUTO = "Auto"
    BFLOAT16 = "Bfloat16"
    FLOAT32 = "Float32"


class Preference(Contract):
    """The loss of task Preference; `gamma` is SimPO's margin, the weights are KTO's."""

    loss: Literal["DPO", "ORPO", "SimPO", "KTO"] = "DPO"
    beta: Decimal = 0.1
    gamma: Decimal = 0.5
    desirable_weight: Decimal = 1.0
    undesirable_weight: Decimal = 1.0


class Compile(StrEnum):
    """When the model's layers are compiled; Auto: when the run is long enough for it to pay."""

    AUTO = "Auto"
    ALWAYS = "Always"
    NEVER = "Never"


class Training(Contract):
    """`sequences_per_step` counts over all ranks; `evaluate_every_steps` 0: start and end only."""

    epochs: int | None = None
    max_steps: int | None = None
    sequences_per_step: int = 8
    sequence_length: int = 1024
    packing: bool = True
    learning_rate: Decimal = 2e-4
    scheduler: Scheduler = Scheduler()
    optimizer: Optimizer = Optimizer()
    loss: CustomLoss | None = None
    neftune_noise_alpha: Decimal = 0.0
    weight_decay: Decimal = 0.0
    max_grad_norm: Decimal = 1.0
    precision: Precision = Precision.AUTO
    gradient_checkpointing: bool = False
    compile: Compile = Compile.AUTO
    seed: int = 0
    log_every_steps: int = 1
    evaluate_every_steps: int = 0
    samples_at_evaluation: int = 0
    early_stopping: EarlyStopping | None = None
    load_best_model_at_end: bool = False
    checkpoint: Checkpoint = Checkpoint()
    preference: Preference | None = None
