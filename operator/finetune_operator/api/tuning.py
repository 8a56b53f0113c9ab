"""How it is trained: `spec.training`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from finetune_operator.api.optimization import Loss, Optimizer, Scheduler
from finetune_operator.api.schema import ApiModel, Cel
from finetune_operator.api.task import Preference
from finetune_operator.api.values import Decimal


class Checkpoint(ApiModel):
    """When the state of training is saved."""

    every_steps: int = Field(
        default=100, ge=1, le=1_000_000, description="Optimizer steps between checkpoints."
    )
    every_seconds: int | None = Field(
        default=None,
        ge=10,
        le=86_400,
        description="Seconds after which a checkpoint is written though everySteps asks for none "
        "yet: what a killed pod loses at most.",
    )
    keep: int = Field(default=2, ge=1, le=100, description="Checkpoints kept, newest first.")


class EarlyStopping(ApiModel):
    """When the run ends before its time, because the validation loss no longer falls."""

    patience: int = Field(
        default=3, ge=1, le=1000, description="Evaluations in a row without a gain that end it."
    )
    min_delta: Decimal = Field(
        default="0",
        description="A gain is a validation loss lower by more than this than at the last gain.",
    )


class Precision(StrEnum):
    """Number format of the forward and backward pass."""

    AUTO = "Auto"
    BFLOAT16 = "Bfloat16"
    FLOAT32 = "Float32"


class Compile(StrEnum):
    """When the model's layers are compiled."""

    AUTO = "Auto"
    ALWAYS = "Always"
    NEVER = "Never"


class Training(ApiModel):
    """How long and with which settings."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!(has(self.epochs) && has(self.maxSteps))",
            "epochs and maxSteps cannot both be set: remove one",
            forbidden=True,
        ),
    )

    epochs: int | None = Field(
        default=None, ge=1, le=1000, description="Passes over the data. Default: 1."
    )
    max_steps: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Optimizer steps, instead of epochs; the data is repeated as needed.",
    )
    sequences_per_step: int = Field(
        default=8,
        ge=1,
        le=65536,
        description="Sequences per optimizer step, over all processes: the global batch size.",
    )
    sequence_length: int = Field(
        default=1024, ge=16, le=1_048_576, description="Most tokens in a sequence."
    )
    packing: bool | None = Field(
        default=None,
        description="Put several short examples into one sequence; attention stays inside each. "
        "Default: true; false in tasks Classification and TokenClassification.",
    )
    learning_rate: (
        Annotated[
            Decimal,
            Cel(
                "double(self) > 0.0 && double(self) < 1.0",
                'learningRate must be greater than 0 and less than 1, for example "2e-4"',
            ),
        ]
        | None
    ) = Field(
        default=None,
        description='Peak learning rate. Default: "2e-4" for lora, "2e-5" for full ("5e-6" and '
        '"5e-7" in task Preference), "1e-4" for adapter, "3e-3" for ia3, "3e-2" for prompt, '
        '"1e-2" for prefix, "1e-3" for pTuning.',
    )
    scheduler: Scheduler = Field(default=Scheduler(), description="The learning rate over the run.")
    optimizer: Optimizer = Field(
        default=Optimizer(), description="What turns gradients into steps."
    )
    loss: Loss | None = Field(
        default=None,
        description="A loss of one's own, for task Generation. Evaluations tell the cross-entropy "
        "all the same. Default: cross-entropy.",
    )
    neftune_noise_alpha: (
        Annotated[
            Decimal,
            Cel(
                "double(self) > 0.0 && double(self) <= 1000.0",
                'neftuneNoiseAlpha must be greater than 0 and at most 1000, for example "5"',
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Size of the noise on embeddings in training (NEFTune, Jain et al., 2023). "
        "Default: no noise.",
    )
    weight_decay: Annotated[
        Decimal, Cel("double(self) < 1.0", 'weightDecay must be less than 1, for example "0.01"')
    ] = Field(default="0", description="Decay of matrices; SGD and RMSprop add it to the gradient.")
    max_grad_norm: Decimal = Field(
        default="1", description="Gradients are clipped to this norm; 0 turns clipping off."
    )
    precision: Precision = Field(
        default=Precision.AUTO,
        description="Auto takes Bfloat16 where the hardware has it, else Float32.",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass to save memory."
    )
    compile: Compile = Field(
        default=Compile.AUTO,
        description="torch.compile of the model's layers: Auto after a few steps, when the run is "
        "long enough to win back the time that it takes, Always from the start, or Never. An image "
        "without a C++ compiler, and a sharded model, do without.",
    )
    seed: int = Field(default=0, ge=0, le=2_147_483_647, description="Seed of order and dropout.")
    log_every_steps: int = Field(
        default=1, ge=1, le=100_000, description="Steps between logged metrics."
    )
    evaluate_every_steps: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Steps between measurements of the validation loss. Default: before the "
        "first step and after the last.",
    )
    samples_at_evaluation: int = Field(
        default=0,
        ge=0,
        le=16,
        description="With every measurement of the validation loss, how many of its prompts the "
        "model answers, for people to read: in the log, and in logs/samples.jsonl of the "
        "workspace.",
    )
    early_stopping: EarlyStopping | None = Field(
        default=None,
        description="Stop when the validation loss, measured at evaluateEverySteps, no longer "
        "falls.",
    )
    load_best_model_at_end: bool = Field(
        default=False,
        description="Export the weights with the lowest validation loss, measured at "
        "evaluateEverySteps, instead of the last ones; their checkpoint is kept besides the "
        "newest.",
    )
    preference: Preference | None = Field(
        default=None, description="How preferences are learned, in task Preference. Default: DPO."
    )
    checkpoint: Checkpoint = Field(
        default=Checkpoint(), description="When the state of training is saved."
    )
