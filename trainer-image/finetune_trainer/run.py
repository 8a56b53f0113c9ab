"""`run.json`: the pinned plan of a run, as pydantic models.

This is the contract's code on the trainer's side (docs/stage-contract.md). It belongs here what a
stage may read from the plan; not how a stage acts on it. Decimal strings become floats here, once.
"""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from finetune_trainer.outcome import UserError

RUN_FILE = "/etc/finetune/run.json"

Decimal = Annotated[float, BeforeValidator(float, json_schema_input_type=str)]


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )


class ModelSource(_Model):
    """Where the base model comes from: `hf://OWNER/NAME` or `pvc://CLAIM/PATH`."""

    source: str
    revision: str = "main"
    chat_template: str | None = None


class QuestionAnswer(_Model):
    question: str = "question"
    answer: str = "answer"
    system: str | None = None


class Messages(_Model):
    messages: str = "messages"


class ShareGpt(_Model):
    conversations: str = "conversations"


class PromptCompletion(_Model):
    prompt: str = "prompt"
    completion: str = "completion"


class Alpaca(_Model):
    instruction: str = "instruction"
    input: str = "input"
    output: str = "output"


class Template(_Model):
    """Columns in braces, as in `"Question: {question}"`."""

    prompt: str
    completion: str


class Text(_Model):
    text: str = "text"


class PreferencePair(_Model):
    """Without `prompt` the two answers begin with it."""

    prompt: str | None = None
    chosen: str = "chosen"
    rejected: str = "rejected"


class LabelledText(_Model):
    text: str = "text"
    label: str = "label"


class TaggedTokens(_Model):
    tokens: str = "tokens"
    tags: str = "tags"


class Format(_Model):
    """Exactly one member is set."""

    question_answer: QuestionAnswer | None = None
    messages: Messages | None = None
    sharegpt: ShareGpt | None = None
    prompt_completion: PromptCompletion | None = None
    alpaca: Alpaca | None = None
    template: Template | None = None
    text: Text | None = None
    preference: PreferencePair | None = None
    classification: LabelledText | None = None
    token_classification: TaggedTokens | None = None


class Task(StrEnum):
    """What the model learns to do; each needs a format of its own (docs/stage-contract.md)."""

    GENERATION = "Generation"
    PREFERENCE = "Preference"
    CLASSIFICATION = "Classification"
    TOKEN_CLASSIFICATION = "TokenClassification"

    @property
    def has_labels(self) -> bool:
        """Whether the model chooses among labels, with a head that begins at random."""
        return self in (Task.CLASSIFICATION, Task.TOKEN_CLASSIFICATION)


class LossOn(StrEnum):
    """Which tokens are trained."""

    COMPLETIONS = "Completions"
    ALL_TOKENS = "AllTokens"
    LAST_TURN = "LastTurn"


class Validation(_Model):
    """A fraction of the training split, or a split of its own; exactly one is set."""

    fraction: Decimal | None = None
    split: str | None = None
    stratified: bool = False


class DatasetSource(_Model):
    """Rows from `hf://OWNER/NAME`, `pvc://CLAIM/PATH` or `configmap://NAME/KEY`; `weight` is its
    share of the training rows, beside other data sets.
    """

    source: str
    revision: str = "main"
    subset: str | None = None
    split: str = "train"
    format: Format
    loss: LossOn = LossOn.COMPLETIONS
    validation: Validation | None = None
    weight: Decimal | None = None


class Initialization(StrEnum):
    """How the adapters begin."""

    DEFAULT = "Default"
    GAUSSIAN = "Gaussian"
    ORTHOGONAL = "Orthogonal"
    PISSA = "PiSSA"
    OLORA = "OLoRA"


class Lora(_Model):
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


class Full(_Model):
    """Without `trainable` every parameter is trained."""

    trainable: list[str] | None = None


class Ia3(_Model):
    """Without names PEFT's for the architecture are meant."""

    target_modules: list[str] | None = None
    feedforward_modules: list[str] | None = None


class Prompt(_Model):
    virtual_tokens: int = 20
    text: str | None = None


class Prefix(_Model):
    virtual_tokens: int = 20


class PTuning(_Model):
    virtual_tokens: int = 20
    encoder_hidden_size: int | None = None


class Method(_Model):
    """Exactly one member is set."""

    lora: Lora | None = None
    full: Full | None = None
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
    def virtual_tokens(self) -> int:
        """How many trained positions stand before every document."""
        prompting = self.prompt or self.prefix or self.p_tuning
        return prompting.virtual_tokens if prompting else 0


class Scheduler(_Model):
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


class ConfigMapRef(_Model):
    name: str


class CustomLoss(_Model):
    """A function in a module of the image or of the ConfigMap."""

    module: str
    function: str
    config_map_ref: ConfigMapRef | None = None


class Optimizer(_Model):
    type: Literal["AdamW", "Adafactor", "RMSprop", "SGD"] = "AdamW"
    beta1: Decimal = 0.9
    beta2: Decimal = 0.999
    epsilon: Decimal = 1e-8
    momentum: Decimal = 0.9


class Checkpoint(_Model):
    """`every_seconds` 0: only by steps."""

    every_steps: int = 100
    every_seconds: int = 0
    keep: int = 2


class EarlyStopping(_Model):
    """Evaluations without a gain of more than `min_delta` in the validation loss end the run."""

    patience: int = 3
    min_delta: Decimal = 0.0


class Precision(StrEnum):
    AUTO = "Auto"
    BFLOAT16 = "Bfloat16"
    FLOAT32 = "Float32"


class Preference(_Model):
    """The loss of task Preference; `gamma` is SimPO's margin."""

    loss: Literal["DPO", "ORPO", "SimPO"] = "DPO"
    beta: Decimal = 0.1
    gamma: Decimal = 0.5


class Compile(StrEnum):
    """When the model's layers are compiled; Auto: when the run is long enough for it to pay."""

    AUTO = "Auto"
    ALWAYS = "Always"
    NEVER = "Never"


class Training(_Model):
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


class Resources(_Model):
    nodes: int = 1
    gpus_per_node: int = 0


class Strategy(StrEnum):
    """How the processes share the model; `Auto` is decided when the memory is known."""

    AUTO = "Auto"
    DDP = "DDP"
    FSDP = "FSDP"
    DEEPSPEED = "DeepSpeed"


class Fsdp(_Model):
    cpu_offload: bool = False
    reshard_after_forward: bool = True


class DeepSpeed(_Model):
    """`stage` of ZeRO; `offload` of what it shards."""

    stage: Literal[1, 2, 3] = 3
    offload: Literal["None", "CPU"] = "None"


class Parallelism(_Model):
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


class TensorBoard(_Model):
    """Event files in the workspace."""


class Wandb(_Model):
    """An offline run of Weights & Biases in the workspace."""

    project: str


class Tracking(_Model):
    """Which trackers get the logged values."""

    tensorboard: TensorBoard | None = None
    wandb: Wandb | None = None


class Merge(_Model):
    base: Literal["Original", "Dequantized"] = "Original"
    precision: Precision = Precision.AUTO


class Upload(_Model):
    repository: str
    branch: str = "main"
    private: bool = False
    artifacts: list[Literal["Adapter", "Merged"]]


class Run(_Model):
    """The whole plan. `plan_hash` names it; the same hash means the same run.

    Exactly one of `dataset` and `datasets` is there.
    """

    contract_version: Literal["v1alpha1"]
    name: str
    namespace: str
    plan_hash: str
    task: Task = Task.GENERATION
    model: ModelSource
    dataset: DatasetSource | None = None
    datasets: list[DatasetSource] = Field(default_factory=list)
    method: Method
    training: Training
    resources: Resources
    parallelism: Parallelism = Parallelism()
    tracking: Tracking = Tracking()
    merge: Merge | None = None
    upload: Upload | None = None

    @model_validator(mode="after")
    def _require_data(self) -> Self:
        if (self.dataset is None) == (not self.datasets):
            raise ValueError("exactly one of dataset and datasets must be there")
        return self

    @property
    def data(self) -> dict[str, DatasetSource]:
        """The data sets by the name of their field: `dataset`, or `datasets[0]` and so on."""
        if self.dataset is not None:
            return {"dataset": self.dataset}
        return {f"datasets[{index}]": part for index, part in enumerate(self.datasets)}


def load_run(path: str | Path | None = None) -> Run:
    """The plan from `path`, else from `FINETUNE_RUN_FILE`, else from `/etc/finetune/run.json`.

    Raises:
        UserError: it cannot be read or does not keep this image's version of the contract.
    """
    where = Path(path or os.environ.get("FINETUNE_RUN_FILE", RUN_FILE))
    try:
        return Run.model_validate_json(where.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(
            f"The trainer image cannot read its plan {where} ({_words(error)}): set "
            "spec.trainer.image to an image made for this version of the operator."
        ) from error


def _words(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")


def run_schema() -> str:
    """The contract's JSON schema of `run.json`, as docs/run.schema.json keeps it."""
    schema = Run.model_json_schema(by_alias=True)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(run_schema(), end="")
